//! From checks to what is known of a backend: so many in a row.

use crate::config::model::HealthCheck;
use crate::fleet::health::Health;

/// What the checks of one backend have come to. One of which nothing is known is up with the first check that it
/// passes; it was found ready before it was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    health: Health,
    /// Checks in a row that speak against it.
    against: u32,
}

impl Verdict {
    /// What is known.
    pub fn health(self) -> Health {
        self.health
    }

    /// Takes the outcome of a check; how many in a row it took, if what is known changed by it.
    pub fn take(&mut self, passed: bool, rules: &HealthCheck) -> Option<u32> {
        let (speaks_for, needed) = match (self.health, passed) {
            (Health::Up, true) | (Health::Down, false) => (true, 0),
            (Health::Unknown, true) => (false, 1),
            (Health::Down, true) => (false, rules.rise),
            (Health::Unknown | Health::Up, false) => (false, rules.fall),
        };
        if speaks_for {
            self.against = 0;
            return None;
        }
        // Of one of which nothing is known, what it failed speaks against its passing, not for it.
        let is_first = self.health == Health::Unknown && passed;
        self.against = if is_first { 1 } else { self.against.saturating_add(1) };
        if self.against < needed {
            return None;
        }
        self.health = if passed { Health::Up } else { Health::Down };
        Some(std::mem::take(&mut self.against))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(rise: u32, fall: u32) -> HealthCheck {
        HealthCheck { rise, fall, ..crate::config::defaults::health() }
    }

    #[test]
    fn it_takes_so_many_in_a_row() {
        let (rules, mut verdict) = (rules(2, 3), Verdict::default());
        let outcomes = [false, false, true, false, false, true, false, false, false, true, false, true, true, true];
        let known: String = outcomes
            .into_iter()
            .map(|passed| {
                verdict.take(passed, &rules);
                match verdict.health() {
                    Health::Unknown => '?',
                    Health::Up => 'u',
                    Health::Down => 'd',
                }
            })
            .collect();
        assert_eq!(known, "??uuuuuudddduu");
    }

    proptest! {
        /// What is known is what the last row that was long enough said, whatever came before it.
        #[test]
        fn the_last_long_row_decides(rise in 1..5_u32, fall in 1..5_u32, outcomes in prop::collection::vec(any::<bool>(), 0..60)) {
            let (rules, mut verdict) = (rules(rise, fall), Verdict::default());
            let (mut expected, mut row, mut former) = (Health::Unknown, 0, None);
            for passed in outcomes {
                row = if former == Some(passed) { row + 1 } else { 1 };
                former = Some(passed);
                let before = expected;
                if passed && (row >= rise || expected == Health::Unknown) {
                    expected = Health::Up;
                } else if !passed && row >= fall {
                    expected = Health::Down;
                }
                let told = verdict.take(passed, &rules);
                prop_assert_eq!(verdict.health(), expected);
                prop_assert_eq!(told.is_some(), expected != before, "a change is told, once");
                if let Some(told) = told {
                    let needed = match (before, passed) {
                        (Health::Unknown, true) => 1,
                        (_, true) => rise,
                        (_, false) => fall,
                    };
                    prop_assert_eq!(told, needed);
                }
            }
        }

        /// A change of the rules in the middle loses nothing: a row that is long enough by the new ones ends with the
        /// next check.
        #[test]
        fn new_rules_take_effect_at_once(fall in 2..9_u32, shorter in 1..9_u32) {
            let mut verdict = Verdict::default();
            for _ in 1..fall {
                prop_assert_eq!(verdict.take(false, &rules(1, fall)), None);
            }
            let needed = shorter.max(fall);
            let told = (fall..=needed).find_map(|_| verdict.take(false, &rules(1, shorter)));
            prop_assert_eq!(told, Some(needed));
        }
    }
}
