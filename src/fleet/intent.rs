//! Three axes that are never merged: what a generation is doing ([`Lifecycle`]), whether a backend is able to serve, and
//! what the operator wants of it ([`Intent`]). One function reads them together.

pub use crate::config::model::Intent;
use crate::fleet::lifecycle::Lifecycle;

/// What kind of request asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// It belongs to no session yet.
    New,
    /// It names a session that a start without all bindings may have forgotten.
    Adopted,
    /// Its session is bound to the backend.
    Bound,
}

/// Whether a backend may take this kind of request.
///
/// | generation | new | adopted | bound |
/// | --- | --- | --- | --- |
/// | starting, failed | no | no | no (there is none) |
/// | ready, active | if ready and up | if ready and up | unless down |
/// | detached | no | if ready and up | unless down |
/// | retiring, retired | no | no | unless down (it ends by itself) |
///
/// Whether it is ready decides about new work alone: nobody is logged out because a question went unanswered.
pub fn may_take(lifecycle: Lifecycle, is_ready: bool, intent: Intent, work: Work) -> bool {
    let wanted = match (work, intent) {
        (Work::New | Work::Adopted, Intent::Up) => is_ready,
        (Work::New | Work::Adopted, Intent::Drain | Intent::Down) | (Work::Bound, Intent::Down) => false,
        (Work::Bound, Intent::Up | Intent::Drain) => true,
    };
    wanted
        && match lifecycle {
            Lifecycle::Starting | Lifecycle::Failed => false,
            Lifecycle::Ready | Lifecycle::Active => true,
            Lifecycle::Detached => work != Work::New,
            Lifecycle::Retiring | Lifecycle::Retired => work == Work::Bound,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        use Lifecycle::{Active, Detached, Failed, Ready, Retired, Retiring, Starting};
        for intent in [Intent::Up, Intent::Drain, Intent::Down] {
            for is_ready in [true, false] {
                let takes = |lifecycle| {
                    [Work::New, Work::Adopted, Work::Bound].map(|work| may_take(lifecycle, is_ready, intent, work))
                };
                let (fresh, bound) = (is_ready && intent == Intent::Up, intent != Intent::Down);
                for lifecycle in [Starting, Failed] {
                    assert_eq!(takes(lifecycle), [false; 3]);
                }
                for lifecycle in [Ready, Active] {
                    assert_eq!(takes(lifecycle), [fresh, fresh, bound]);
                }
                assert_eq!(takes(Detached), [false, fresh, bound]);
                for lifecycle in [Retiring, Retired] {
                    assert_eq!(takes(lifecycle), [false, false, bound]);
                }
            }
        }
    }
}
