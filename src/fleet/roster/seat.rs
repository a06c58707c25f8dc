//! A backend's seat in its generation, and what is needed to give it one.

use std::sync::Arc;

use super::generation::Identity;
use super::health::Vitals;
use super::worker::Worker;
use crate::config::model::{self, Address, MaxRequests};
use crate::fleet::backend::Backend;
use crate::fleet::intent::Intent;
use crate::fleet::slots::Slots;
use crate::sync::atomic::AtomicBool;

/// A backend's place in a generation.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) backend: Arc<Backend>,
    pub(super) weight: u32,
    pub(super) max_requests: MaxRequests,
    /// What the file said of it last; `None` when it vanished from there. One that vanished drains, whatever it was before.
    pub(super) filed: Option<Intent>,
    /// What is in force: what the file says, or what an operator has ordered since.
    pub(super) intent: Intent,
    /// Where clients find it by themselves; `None` for its own address.
    pub(super) public: Option<Address>,
    pub(super) ready: bool,
    pub(super) probing: bool,
    /// Its process, where the gateway runs it.
    pub(super) worker: Option<Worker>,
    /// Since when (coarse milliseconds) its share of new sessions grows: it came up while its generation was active.
    pub(super) grows_since: Option<u64>,
    /// What is known of its health.
    pub(super) vitals: Vitals,
}

impl Seat {
    /// Whether the file lists it still.
    pub(super) fn is_listed(&self) -> bool {
        self.filed.is_some()
    }

    pub(super) fn is(&self, backend: &model::Backend) -> bool {
        let own = &self.backend;
        own.name == backend.name && own.address == backend.address && own.prefix == backend.prefix
    }
}

/// What the roster gives every backend.
pub(super) struct Fittings<'r> {
    pub(super) slots: &'r Slots,
    /// Serving threads.
    pub(super) threads: usize,
    pub(super) alarm: &'r Arc<AtomicBool>,
}

/// A backend that is to be added.
pub(super) struct NewSeat {
    pub(super) identity: Identity,
    pub(super) weight: u32,
    pub(super) max_requests: MaxRequests,
    pub(super) filed: Option<Intent>,
    pub(super) intent: Intent,
    pub(super) public: Option<Address>,
    pub(super) ready: bool,
    pub(super) worker: Option<Worker>,
}

impl NewSeat {
    /// One that the file lists and nobody has asked yet.
    pub(super) fn of(backend: &model::Backend) -> Self {
        Self {
            identity: Identity::of(backend),
            weight: backend.weight,
            max_requests: backend.max_requests,
            filed: Some(backend.intent),
            intent: backend.intent,
            public: backend.public.clone(),
            ready: false,
            worker: None,
        }
    }
}
