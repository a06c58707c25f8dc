//! What is told of the health of backends.

use std::fmt;

use crate::fleet::health::{Health, Heed};
use crate::ids::{BackendName, GenerationId, Slot};

/// A check changed what is known of a backend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Its generation.
    pub generation: GenerationId,
    /// Its slot.
    pub slot: Slot,
    /// The course of checks that found it, see [`Checked`](crate::fleet::roster::Checked).
    pub course: u64,
    /// What is known now.
    pub health: Health,
    /// By what, in words.
    pub why: String,
}

/// A change of what is known of some backends of a generation, which came about in one step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthChange {
    /// Which generation.
    pub generation: GenerationId,
    /// What changed.
    pub kind: HealthKind,
    /// Whose health it is; none where it is that of the generation.
    pub backends: Vec<BackendName>,
    /// By what, in words, for the first of them; may be empty.
    pub why: String,
}

/// A kind of such change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HealthKind {
    /// Checks found that they are able to serve again.
    Up,
    /// Checks found that they are not.
    Down,
    /// Requests failed: they get no new sessions for a while.
    Ejected,
    /// That while is over.
    Readmitted,
    /// It decides to another extent who takes new sessions.
    Heeded(Heed),
}

impl HealthChange {
    /// One word for its kind, stable for machines.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            HealthKind::Up => "backend_healthy",
            HealthKind::Down => "backend_unhealthy",
            HealthKind::Ejected => "backend_ejected",
            HealthKind::Readmitted => "backend_readmitted",
            HealthKind::Heeded(Heed::All) => "health_heeded",
            HealthKind::Heeded(Heed::Checks | Heed::Nothing) => "nobody_healthy",
        }
    }

    /// Whether somebody should look at it.
    pub fn is_trouble(&self) -> bool {
        match self.kind {
            HealthKind::Up | HealthKind::Readmitted | HealthKind::Heeded(Heed::All) => false,
            HealthKind::Down | HealthKind::Ejected | HealthKind::Heeded(Heed::Checks | Heed::Nothing) => true,
        }
    }
}

/// What it means that some of what is known does not decide.
pub fn unheeded(heed: Heed) -> Option<&'static str> {
    match heed {
        Heed::All => None,
        Heed::Checks => Some("all of its backends that are not down are ejected: new sessions go to them all the same"),
        Heed::Nothing => Some("all of its backends are down by their checks: new sessions go to all of them"),
    }
}

impl fmt::Display for HealthChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, kind, backends, why } = self;
        let who = match backends.as_slice() {
            [] => String::new(),
            [one] => format!(" backend {one}"),
            [first, second] => format!(" backends {first}, {second}"),
            [first, second, rest @ ..] => format!(" backends {first}, {second} and {} more", rest.len()),
        };
        write!(f, "{generation}{who}: ")?;
        match kind {
            HealthKind::Up => f.write_str("up")?,
            HealthKind::Down => f.write_str("down")?,
            HealthKind::Ejected => f.write_str("ejected from new sessions")?,
            HealthKind::Readmitted => f.write_str("gets new sessions again")?,
            HealthKind::Heeded(heed) => {
                f.write_str(
                    unheeded(*heed).unwrap_or("some of its backends are healthy again: they get the new sessions"),
                )?;
            }
        }
        match (why.as_str(), backends.as_slice()) {
            ("", _) => Ok(()),
            (why, [_] | []) => write!(f, ": {why}"),
            (why, [first, ..]) => write!(f, ": {first}: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GenerationNumber, ServiceName};

    #[test]
    fn who_and_why_are_told() {
        let generation = GenerationId { service: ServiceName::new("app"), number: GenerationNumber(7) };
        let change = |kind, names: &[&str], why: &str| {
            let backends = names.iter().map(|name| BackendName::new(name)).collect();
            HealthChange { generation: generation.clone(), kind, backends, why: why.to_owned() }.to_string()
        };
        let why = "3 checks in a row failed: no answer within 2s";
        assert_eq!(change(HealthKind::Down, &["a"], why), format!("app@7 backend a: down: {why}"));
        assert_eq!(change(HealthKind::Down, &["a", "b"], why), format!("app@7 backends a, b: down: a: {why}"));
        let many = change(HealthKind::Ejected, &["a", "b", "c", "d"], "5 requests in a row failed");
        assert_eq!(many, "app@7 backends a, b and 2 more: ejected from new sessions: a: 5 requests in a row failed");
        assert_eq!(change(HealthKind::Readmitted, &["a"], ""), "app@7 backend a: gets new sessions again");
        let all = change(HealthKind::Heeded(Heed::Nothing), &[], "");
        assert_eq!(all, "app@7: all of its backends are down by their checks: new sessions go to all of them");
    }
}
