//! Three axes that are never merged: what a generation is doing ([`Lifecycle`]), whether a backend is able to serve
//! ([`Condition`]), and what the operator wants of it ([`Intent`]). One function reads them together.

pub use crate::config::model::Intent;
use crate::fleet::health::{Condition, Heed};
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
/// | ready, active | if fit and up | if fit and up | unless set down |
/// | detached | no | if fit and up | unless set down |
/// | retiring, retired | no | no | unless set down (it ends by itself) |
///
/// Fit is who is ready, not down by its checks and not ejected; [`Heed`] says which of the last two count, because one at
/// least has to take what is new. Fitness decides about new work alone: nobody is logged out because a question went
/// unanswered.
pub fn may_take(lifecycle: Lifecycle, condition: Condition, heed: Heed, intent: Intent, work: Work) -> bool {
    let wanted = match (work, intent) {
        (Work::New | Work::Adopted, Intent::Up) => condition.is_fit(heed),
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
    use crate::fleet::health::Health;

    #[test]
    fn the_table_holds() {
        use Lifecycle::{Active, Detached, Failed, Ready, Retired, Retiring, Starting};
        let mut seen = 0;
        for (intent, is_ready, health, is_ejected, heed) in all() {
            let condition = Condition { is_ready, health, is_ejected };
            let takes = |lifecycle| {
                [Work::New, Work::Adopted, Work::Bound].map(|work| may_take(lifecycle, condition, heed, intent, work))
            };
            let is_fit = match heed {
                Heed::All => is_ready && health != Health::Down && !is_ejected,
                Heed::Checks => is_ready && health != Health::Down,
                Heed::Nothing => is_ready,
            };
            let (fresh, bound) = (is_fit && intent == Intent::Up, intent != Intent::Down);
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
            seen += 1;
        }
        assert_eq!(seen, 3 * 2 * 3 * 2 * 3);
    }

    /// Every combination.
    fn all() -> impl Iterator<Item = (Intent, bool, Health, bool, Heed)> {
        let healths = [Health::Unknown, Health::Up, Health::Down];
        let heeds = [Heed::All, Heed::Checks, Heed::Nothing];
        let all = [Intent::Up, Intent::Drain, Intent::Down].into_iter();
        let all = all.flat_map(|intent| [true, false].map(|is_ready| (intent, is_ready)));
        let all = all.flat_map(move |(intent, is_ready)| healths.map(|health| (intent, is_ready, health)));
        let all = all.flat_map(|(intent, ready, health)| [true, false].map(|ejected| (intent, ready, health, ejected)));
        all.flat_map(move |(intent, ready, health, ejected)| heeds.map(|heed| (intent, ready, health, ejected, heed)))
    }
}
