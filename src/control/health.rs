//! The health of backends: who is checked, and what the roster hears of it.
//!
//! Both go by the tick: however many backends change at one moment, a view is published once for all of them.

use super::Control;
use crate::fleet::event::Event;
use crate::health::rounds::Rounds;

#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Whether somebody may have to be checked, or no longer, since it was last looked at.
    pub(super) is_stale: bool,
    /// `None` while nobody is checked.
    rounds: Option<Rounds>,
    /// Whether it was said that there is no thread for them.
    told: bool,
}

impl Control {
    /// Brings checks up to date with the roster, and the roster with what they and the serving threads found.
    pub(super) fn look_after_health(&mut self) {
        if self.checks.rounds.as_ref().is_some_and(Rounds::has_ended) {
            tracing::error!("the thread for health checks had panicked: a new one begins");
            (self.checks.rounds, self.checks.is_stale) = (None, true);
        }
        if std::mem::take(&mut self.checks.is_stale) {
            self.renew_checks();
        }
        let findings = self.checks.rounds.as_ref().map(Rounds::take).unwrap_or_default();
        if !findings.is_empty() {
            self.feed_health(Event::BackendsChecked(findings));
        }
        if self.roster.has_erring() {
            self.feed_health(Event::BackendsErred);
        }
    }

    fn renew_checks(&mut self) {
        let list = self.roster.checked();
        if list.is_empty() {
            // The thread ends.
            self.checks.rounds = None;
            return;
        }
        if self.checks.rounds.is_none() {
            match Rounds::start() {
                Ok(rounds) => self.checks.rounds = Some(rounds),
                Err(error) => {
                    if !std::mem::replace(&mut self.checks.told, true) {
                        tracing::error!(%error, "no thread for health checks: nobody is checked. It is tried again");
                    }
                    self.checks.is_stale = true;
                    return;
                }
            }
        }
        if let Some(rounds) = &self.checks.rounds {
            rounds.renew(list);
        }
    }

    /// What is known of somebody does not change who is checked.
    fn feed_health(&mut self, event: Event) {
        let is_stale = self.checks.is_stale;
        self.feed(event);
        self.checks.is_stale = is_stale;
    }
}
