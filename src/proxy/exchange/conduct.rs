//! How the backend of an exchange serves it, as far as it speaks for or against the backend.

use std::time::Duration;

use http::StatusCode;

use super::Exchange;
use crate::clock;
use crate::edge::sweep::Wait;
use crate::fleet::conduct::Failure;

impl Exchange {
    /// Counts what the backend did instead of serving the request.
    pub fn backend_failed(&self, failure: Failure) {
        if let (Some(backend), Some(service)) = (self.backend(), self.service()) {
            backend.conduct.failed(failure, service.rules.ejection.as_ref());
        }
    }

    /// Counts the head of the backend's answer.
    pub fn backend_began(&self, status: StatusCode) {
        if let (Some(backend), Some(service)) = (self.backend(), self.service()) {
            backend.conduct.began(status.as_u16(), service.rules.ejection.as_ref());
        }
    }

    /// Counts an answer that broke off. One that had gone on for longer than an answer may be waited for was a stream,
    /// and many of these end so.
    pub fn backend_broke_off(&self) {
        let gone_on = Duration::from_nanos(clock::monotonic_nanos().saturating_sub(self.began));
        if self.service().is_some_and(|service| gone_on < service.rules.response_timeout) {
            self.backend_failed(Failure::Cut);
        }
    }

    /// Whether the time for the next piece of a body has passed and it is the backend's piece of its answer that is
    /// missing; true once. Asked where there is room for that piece: a client that takes nothing is another matter, and
    /// so is one that still sends.
    pub fn backend_stalls(&self) -> bool {
        let watch = self.connection.watch();
        let is_late = watch.has_fired(Wait::Body)
            && self.upload.complete.get()
            && !self.connection.connection().is_write_blocked();
        is_late && watch.fired().is_some()
    }

    /// Counts an answer of the backend that came to its end.
    pub fn backend_ended(&self) {
        if let (Some(backend), Some(service), Some(status)) = (self.backend(), self.service(), self.status) {
            backend.conduct.ended(status.as_u16(), service.rules.ejection.as_ref());
        }
    }
}
