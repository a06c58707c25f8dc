//! How the backend of an exchange serves it, as far as it speaks for or against the backend; and what is counted of both.

use std::time::Duration;

use http::StatusCode;

use super::Exchange;
use crate::clock;
use crate::edge::sweep::Wait;
use crate::fleet::conduct::Failure;
use crate::metrics::Code;

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

    /// The moment (monotonic nanoseconds) from which a backend is waited for now. The first one's is that of the request
    /// itself, or of the end of its wait: what lies between takes microseconds, and the clock is not asked once more.
    pub fn turn_to_backend(&self) -> u64 {
        if self.has_asked.replace(true) { clock::monotonic_nanos() } else { self.began.max(self.waited_until) }
    }

    /// Counts how long a backend took, from that moment to the head of its answer.
    pub fn backend_took(&self, since: u64) {
        if let Some(meter) = self.snapshot.meter(self.service) {
            meter.backend_answered(self.thread.index, clock::monotonic_nanos().saturating_sub(since));
        }
    }

    /// Counts the request: as one that is over, at this moment in monotonic nanoseconds, or as one that has become a
    /// tunnel.
    pub(super) fn count(&self, over: Option<u64>) {
        let Some(meter) = self.snapshot.meter(self.service) else { return };
        let code = Code::of(self.status.map(|status| status.as_u16()));
        match over {
            Some(over) => meter.request_ended(self.thread.index, code, over.saturating_sub(self.began)),
            None => meter.request_answered(self.thread.index, code),
        }
    }
}
