//! All processes that belong to a worker: what it started, and what that did.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Signal, pidfd_send_signal};

use super::identity::{self, Stat};

/// What tells the processes of a worker from all others.
#[derive(Clone, Debug)]
pub(super) struct Kin {
    /// The number of its first process, and of the session that this one made.
    pub(super) pid: u32,
    /// When that one started; nothing of the worker is older.
    pub(super) start: u64,
    /// In the environment of all of them, unless one has cleaned its own.
    pub(super) token: String,
    /// When its end was noticed, if its number can have become another's since.
    pub(super) over: Option<u64>,
    /// Its control group, where it has one.
    pub(super) group: Option<PathBuf>,
}

impl Kin {
    /// Those that are there. One that is dead and not yet put away by its parent is not.
    pub(super) fn members(&self) -> Vec<Stat> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Stat::read)
            .filter(|stat| self.has(stat))
            .collect()
    }

    pub(super) fn has(&self, stat: &Stat) -> bool {
        if stat.is_dead() || stat.start < self.start {
            return false;
        }
        // While a session has members, its number is nobody else's; a later one of the same number began later.
        let in_session = stat.session == self.pid && self.over.is_none_or(|over| stat.start <= over);
        in_session || (stat.pid == self.pid && stat.start == self.start) || self.marks(stat.pid)
    }

    fn marks(&self, pid: u32) -> bool {
        let mark = format!("TIDEGATE_WORKER={}", self.token);
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
        environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
    }

    /// Sends `signal` to those of `members` that are still who they were.
    pub(super) fn signal(&self, members: &[Stat], signal: Signal) {
        if signal == Signal::KILL
            && let Some(group) = &self.group
        {
            // Reaches even those that start others faster than they are found.
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
        for member in members {
            let Some(held) = identity::hold(member.pid, member.start) else { continue };
            if let Err(error) = pidfd_send_signal(&held, signal)
                && error != rustix::io::Errno::SRCH
            {
                tracing::warn!(pid = member.pid, name = member.name, %error, "a worker's process cannot be signalled");
            }
        }
    }
}

/// Processes for a line of the log: numbers and names.
pub(super) fn listed(members: &[Stat]) -> String {
    const SHOWN: usize = 10;
    let mut parts: Vec<String> =
        members.iter().take(SHOWN).map(|member| format!("{} ({})", member.pid, member.name)).collect();
    if members.len() > SHOWN {
        parts.push(format!("{} more", members.len() - SHOWN));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_the_same_number_that_began_later_is_not_its_own() {
        let own = Stat::read(std::process::id()).unwrap();
        let mut kin = Kin { pid: own.session, start: 0, token: "nobody has this".to_owned(), over: None, group: None };
        let finds = |kin: &Kin| kin.members().iter().any(|member| member.pid == own.pid);
        assert!(kin.has(&own) && finds(&kin));
        kin.over = Some(own.start);
        assert!(kin.has(&own), "it may have been started in the same moment");
        kin.over = Some(own.start - 1);
        assert!(!kin.has(&own) && !finds(&kin));
        (kin.over, kin.start) = (None, own.start + 1);
        assert!(!kin.has(&own), "nothing of a worker is older than it");
    }
}
