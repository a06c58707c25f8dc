//! Backends by their interned number.

use std::sync::Arc;

use crate::fleet::backend::Backend;
use crate::ids::Slot;
use crate::sync::RwLock;

/// The registry from [`Slot`] to [`Backend`]. Bound requests do not ask it (their view holds the same list);
/// the session table asks it when an entry opens, expires or closes.
#[derive(Debug)]
pub struct Slots(RwLock<Vec<Option<Arc<Backend>>>>);

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}

impl Slots {
    /// An empty registry.
    pub fn new() -> Self {
        Self(RwLock::new(Vec::new()))
    }

    /// Gives the lowest free slot to what `make` makes of it.
    pub fn intern(&self, make: impl FnOnce(Slot) -> Backend) -> Arc<Backend> {
        let mut slots = self.0.write();
        let free = slots.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        let slot = Slot(u32::try_from(index).expect("fewer than four billion backends"));
        let backend = Arc::new(make(slot));
        slots[index] = Some(Arc::clone(&backend));
        backend
    }

    /// The backend of a slot; `None` when it was released.
    pub fn get(&self, slot: Slot) -> Option<Arc<Backend>> {
        self.0.read().get(slot.index()).cloned().flatten()
    }

    /// Frees the slot if no table entry names it; true when it did.
    ///
    /// The caller has made sure that no new entry can come: the generation's gate is retired.
    pub fn release(&self, slot: Slot) -> bool {
        let mut slots = self.0.write();
        let Some(place) = slots.get_mut(slot.index()) else { return false };
        let unused =
            place.as_ref().is_some_and(|backend| backend.entries.load(crate::sync::atomic::Ordering::Acquire) == 0);
        if unused {
            *place = None;
        }
        unused
    }

    /// All backends by slot, for a new view.
    pub fn snapshot(&self) -> Vec<Option<Arc<Backend>>> {
        self.0.read().clone()
    }
}
