//! Whether a backend is able to serve: the third axis beside what its generation does and what the operator wants of it.
//!
//! It decides about new sessions alone, and never leaves them without a backend: what is known is disregarded as far as
//! it speaks against everybody.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What checks have found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing yet, or nobody asks.
    #[default]
    Unknown,
    /// It is able to serve.
    Up,
    /// It is not.
    Down,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        })
    }
}

/// All that is known of whether a backend is able to serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Condition {
    /// Whether it has been found ready since it started.
    pub is_ready: bool,
    /// What checks have found.
    pub health: Health,
    /// Whether it is ejected, because clients' requests failed on it.
    pub is_ejected: bool,
}

impl Condition {
    /// Whether it is able to serve, as far as what is known is heeded.
    pub fn is_fit(self, heed: Heed) -> bool {
        match heed {
            Heed::All => self.is_ready && self.health != Health::Down && !self.is_ejected,
            Heed::Checks => self.is_ready && self.health != Health::Down,
            Heed::Nothing => self.is_ready,
        }
    }
}

/// How much of what is known of a generation's backends decides about new sessions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heed {
    /// What checks found, and who is ejected.
    #[default]
    All,
    /// What checks found: everybody else is ejected.
    Checks,
    /// Neither: everybody is down. One of them may be able to serve after all, and none of the others is.
    Nothing,
}

impl Heed {
    /// How much is heeded, by the conditions of the backends that are ready and that the operator wants to take new
    /// sessions.
    ///
    /// | of these backends | ejections count | checks count |
    /// | --- | --- | --- |
    /// | one at least is neither down nor ejected | yes | yes |
    /// | all are down or ejected, one at least is not down | no | yes |
    /// | all are down | no | no |
    /// | there is none | yes | yes |
    pub fn of(conditions: impl Iterator<Item = Condition>) -> Self {
        let mut heed = None;
        for condition in conditions {
            if condition.is_fit(Heed::All) {
                return Heed::All;
            }
            if condition.is_fit(Heed::Checks) {
                heed = Some(Heed::Checks);
            } else {
                heed.get_or_insert(Heed::Nothing);
            }
        }
        heed.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_sessions_always_find_a_backend() {
        let all = [Health::Unknown, Health::Up, Health::Down]
            .map(|health| [false, true].map(|is_ejected| Condition { is_ready: true, health, is_ejected }));
        let all: Vec<_> = all.into_iter().flatten().collect();
        assert_eq!(Heed::of([].into_iter()), Heed::All);
        for one in &all {
            for two in &all {
                for three in &all {
                    let conditions = [*one, *two, *three];
                    let is_down = |condition: &Condition| condition.health == Health::Down;
                    let expected = if conditions.iter().any(|one| !is_down(one) && !one.is_ejected) {
                        Heed::All
                    } else if conditions.iter().any(|one| !is_down(one)) {
                        Heed::Checks
                    } else {
                        Heed::Nothing
                    };
                    let heed = Heed::of(conditions.into_iter());
                    assert_eq!(heed, expected, "{conditions:?}");
                    assert!(conditions.iter().any(|one| one.is_fit(heed)), "{conditions:?} leave nobody");
                    // Nobody is taken who is worse than somebody who is left out.
                    assert!(conditions.iter().all(|one| one.is_fit(heed) || is_down(one) || one.is_ejected));
                }
            }
        }
    }
}
