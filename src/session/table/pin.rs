//! A request's hold on its session.

use std::fmt;
use std::ops::Deref;

use crate::ids::{SessionHash, Slot};
use crate::session::table::{Closing, Table};

/// Holds a session while a request or a tunnel of it is under way: it does not expire, and its generation is not
/// retired. Dropping it touches the session, unless the request is one that does not.
#[must_use = "a pin that is dropped at once holds nothing"]
pub struct Pin<H: Deref<Target = Table>> {
    pub(super) table: H,
    pub(super) hash: SessionHash,
    pub(super) index: u32,
    pub(super) slot: Slot,
    pub(super) scope: u16,
    pub(super) idle: u32,
    pub(super) touches: bool,
}

impl<H: Deref<Target = Table>> Pin<H> {
    /// The backend to which the session is bound.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The hash by which it was found.
    pub fn hash(&self) -> SessionHash {
        self.hash
    }

    /// The number of the scope of its cookie.
    pub fn cookie_scope(&self) -> u16 {
        self.scope
    }

    /// Seconds for which the session had been idle when this pin took hold; zero when another request or tunnel of it
    /// was under way.
    pub fn idle_before(&self) -> u32 {
        self.idle
    }

    /// The request has become a tunnel. That confirms its session and touches it all the while, whatever the request
    /// was to do; from now on the session ends some time after the last of its tunnels, where its service says so. A
    /// later rename leaves that behind with the former id, until a tunnel opens by the new one.
    pub fn become_tunnel(&mut self) {
        self.touches = true;
        self.table.note_tunnel(self);
    }

    /// Closes the session: it is not found any more from now on. Its generation is let go with the last pin. False
    /// when somebody closed it before.
    pub fn close(&self, closing: Closing) -> bool {
        self.table.close_pinned(self, closing)
    }

    /// Gives the session another id, which inherits the binding; the former one is understood for the grace of its
    /// service and counts nowhere. False when it could not be: the session was closed in the meantime, or the new id
    /// is bound already (then the first bind wins, and this session is known by its former id for the grace).
    pub fn rename(&self, hash: SessionHash, scope: u16) -> bool {
        self.table.rename(self, hash, scope)
    }
}

impl<H: Deref<Target = Table>> Drop for Pin<H> {
    fn drop(&mut self) {
        self.table.unpin(self.hash, self.index, self.touches);
    }
}

impl<H: Deref<Target = Table>> fmt::Debug for Pin<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin").field("slot", &self.slot).finish_non_exhaustive()
    }
}
