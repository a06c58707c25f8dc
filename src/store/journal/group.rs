//! The facts that wait to be written: one buffer, filled by whoever appends, taken whole by the writer.

use std::collections::HashMap;
use std::mem;

use super::state::{ScopeName, SlotName};
use crate::record::binding::{self, Fact};

/// What stands in for a slot that was not named. Its sessions are found to be lost ones at the next start.
const UNNAMED: u32 = 0;

/// The names of the numbers that this process uses, and the numbers that stand for them in the log.
///
/// The log never uses a number twice, not even over restarts. So a name that damage took away loses sessions, and
/// gives none to another backend; and it does not matter in which order names and sessions are read.
#[derive(Debug)]
pub(super) struct Names {
    slots: Vec<Option<(u32, SlotName)>>,
    scopes: HashMap<u32, (u32, ScopeName)>,
    last_slot: u32,
    last_scope: u32,
    /// Changes whenever a slot gets another meaning.
    pub(super) version: u64,
}

impl Names {
    /// Numbers follow the highest that are in use.
    pub(super) fn after(last_slot: u32, last_scope: u32) -> Self {
        Self { slots: Vec::new(), scopes: HashMap::new(), last_slot, last_scope, version: 0 }
    }

    /// The log's form of a fact. It learns what the fact names.
    fn translate(&mut self, fact: &Fact) -> Fact {
        let mut fact = fact.clone();
        match &mut fact {
            Fact::SlotNamed { slot, service, generation, backend } => {
                let place = *slot as usize;
                if self.slots.len() <= place {
                    self.slots.resize(place + 1, None);
                }
                self.last_slot += 1;
                self.version += 1;
                *slot = self.last_slot;
                let name = SlotName { service: service.clone(), generation: *generation, backend: backend.clone() };
                self.slots[place] = Some((*slot, name));
            }
            Fact::ScopeNamed { scope, domain, path } => {
                self.last_scope += 1;
                let name = ScopeName { domain: domain.clone(), path: path.clone() };
                self.scopes.insert(*scope, (self.last_scope, name));
                *scope = self.last_scope;
            }
            other => self.number(other),
        }
        fact
    }

    /// Puts the log's numbers into a fact about a session.
    pub(super) fn number(&self, fact: &mut Fact) {
        match fact {
            Fact::Bound { slot, scope, .. } | Fact::Former { slot, scope, .. } | Fact::Renamed { slot, scope, .. } => {
                let named = self.slots.get(*slot as usize).and_then(Option::as_ref);
                *slot = named.map_or(UNNAMED, |(number, _)| *number);
                *scope = self.scopes.get(scope).map_or(0, |(number, _)| *number);
            }
            _ => {}
        }
    }

    /// Adds frames of all names whose numbers are beyond these, and returns how many.
    pub(super) fn encode(&self, after: (u32, u32), salt: u32, out: &mut Vec<u8>) -> u64 {
        let slots = self.slots.iter().flatten().filter(|(number, _)| *number > after.0).map(|(number, name)| {
            let SlotName { service, generation, backend } = name.clone();
            Fact::SlotNamed { slot: *number, service, generation, backend }
        });
        let scopes = self.scopes.values().filter(|(number, _)| *number > after.1).map(|(number, name)| {
            Fact::ScopeNamed { scope: *number, domain: name.domain.clone(), path: name.path.clone() }
        });
        slots.chain(scopes).map(|fact| u64::from(binding::encode(&fact, salt, out))).sum()
    }

    /// The highest numbers in use.
    pub(super) fn last(&self) -> (u32, u32) {
        (self.last_slot, self.last_scope)
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) bytes: Vec<u8>,
    pub(super) names: Names,
    /// Of the file into which the bytes will go.
    pub(super) salt: u32,
    /// Facts appended so far, lost ones among them. A [`Ticket`](super::Ticket) is this number.
    pub(super) end: u64,
    /// The number of the last fact that is in the bytes, or was.
    pub(super) accepted: u64,
    /// Facts are not accepted: the log has a gap.
    pub(super) gap: bool,
    /// The writer will not look again before it is woken.
    pub(super) asleep: bool,
    limit: usize,
}

/// What an append did besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pushed {
    pub(super) end: u64,
    /// The writer sleeps and should not.
    pub(super) wake: bool,
    /// The gap began.
    pub(super) overflowed: bool,
}

impl Group {
    pub(super) fn new(names: Names, limit: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(limit.min(64 * 1_024)),
            names,
            salt: 0,
            end: 0,
            accepted: 0,
            gap: false,
            asleep: false,
            limit,
        }
    }

    pub(super) fn push(&mut self, facts: &[Fact]) -> Pushed {
        let before = self.gap;
        for fact in facts {
            self.end += 1;
            let fact = self.names.translate(fact);
            if self.gap {
                continue;
            }
            let length = self.bytes.len();
            binding::encode(&fact, self.salt, &mut self.bytes);
            if self.bytes.len() > self.limit {
                self.bytes.truncate(length);
                self.gap = true;
            } else {
                self.accepted = self.end;
            }
        }
        let wake = mem::take(&mut self.asleep);
        Pushed { end: self.end, wake, overflowed: self.gap && !before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Seconds;
    use crate::ids::{BackendName, GenerationNumber, ServiceName, SessionHash};

    fn named(slot: u32, number: u64) -> Fact {
        let (service, backend) = (ServiceName::new("app"), BackendName::new("b"));
        Fact::SlotNamed { slot, service, generation: GenerationNumber(number), backend }
    }

    #[test]
    fn a_slot_that_is_used_again_gets_another_number_in_the_log() {
        let mut names = Names::after(6, 0);
        let bound = Fact::Former { hash: SessionHash([1, 2]), slot: 3, scope: 0, at: Seconds(1) };
        let slot = |fact| match fact {
            Fact::Former { slot, .. } | Fact::SlotNamed { slot, .. } => slot,
            other => panic!("{other:?}"),
        };
        assert_eq!(slot(names.translate(&bound)), UNNAMED);
        assert_eq!(slot(names.translate(&named(3, 1))), 7);
        assert_eq!(slot(names.translate(&bound)), 7);
        assert_eq!(slot(names.translate(&named(3, 2))), 8);
        assert_eq!(slot(names.translate(&bound)), 8);
    }

    #[test]
    fn what_does_not_fit_begins_a_gap_and_names_are_learned_in_it() {
        let mut group = Group::new(Names::after(0, 0), 30);
        let time = Fact::Time { now: Seconds(1) };
        let pushed = group.push(&[time.clone(), time.clone(), time.clone(), time]);
        assert_eq!(pushed, Pushed { end: 4, wake: false, overflowed: true });
        assert_eq!((group.accepted, group.bytes.len()), (2, 22));
        assert!(!group.push(&[named(0, 1)]).overflowed);
        assert_eq!(group.names.last(), (1, 0));
        assert_eq!(group.bytes.len(), 22);
    }
}
