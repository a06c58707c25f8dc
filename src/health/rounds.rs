//! The thread on which health checks run: thousands of connections a second would hold up whoever shares one with them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock;
use crate::fleet::event::Finding;
use crate::fleet::roster::Checked;
use crate::health::check::{Failure, check};
use crate::health::schedule::{Schedule, Ticket};
use crate::ids::Slot;

/// Threads that resolve names; each waits for one.
const RESOLVERS: usize = 16;

/// Asks backends for ever how they are. Dropping it ends the thread and closes its connections, and waits for nothing.
#[derive(Debug)]
pub struct Rounds {
    lists: watch::Sender<Arc<[Checked]>>,
    findings: Findings,
}

/// What has changed and was not taken yet; by slot, so that there is at most one for each backend.
type Findings = Arc<Mutex<HashMap<Slot, Finding>>>;

impl Rounds {
    /// Starts the thread. Nobody is asked before [`Rounds::renew`].
    ///
    /// # Errors
    /// When the system gives no thread, or none of what a runtime needs.
    pub fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(RESOLVERS)
            .build()?;
        let (lists, list) = watch::channel(Arc::default());
        let findings = Findings::default();
        let told = Arc::clone(&findings);
        thread::Builder::new().name("health".to_owned()).spawn(move || {
            runtime.block_on(go_round(list, told));
            // A name that is being resolved cannot be given up.
            runtime.shutdown_background();
        })?;
        Ok(Self { lists, findings })
    }

    /// The backends that are to be asked from now on.
    pub fn renew(&self, list: Vec<Checked>) {
        self.lists.send_replace(list.into());
    }

    /// Whether the thread has ended by itself, which is a fault of its own: nobody is asked any more.
    pub fn has_ended(&self) -> bool {
        self.lists.is_closed()
    }

    /// What has changed since the last call.
    pub fn take(&self) -> Vec<Finding> {
        let mut findings = self.findings.lock();
        if findings.is_empty() { Vec::new() } else { findings.drain().map(|(_, finding)| finding).collect() }
    }
}

async fn go_round(mut lists: watch::Receiver<Arc<[Checked]>>, findings: Findings) {
    let mut schedule = Schedule::default();
    let mut under_way: JoinSet<Result<(), Failure>> = JoinSet::new();
    let mut tickets: HashMap<tokio::task::Id, Ticket> = HashMap::new();
    let mut random = || fastrand::u64(..);
    loop {
        while let Some(job) = schedule.begin(now()) {
            let task = under_way.spawn(async move {
                let Some(rules) = &job.checked.rules.health else { return Ok(()) };
                check(&job.checked.backend, &job.checked.rules, rules).await
            });
            tickets.insert(task.id(), job.ticket);
        }
        let pause = schedule.next_due().map(|due| Duration::from_millis(due.saturating_sub(now())));
        tokio::select! {
            changed = lists.changed() => {
                if changed.is_err() {
                    return;
                }
                let list = Arc::clone(&lists.borrow_and_update());
                schedule.renew(&list, now(), &mut random);
            }
            Some(done) = under_way.join_next_with_id() => {
                let (id, outcome) = match done {
                    Ok(done) => done,
                    Err(error) => (error.id(), Err(Failure::because(format!("the check itself failed: {error}")))),
                };
                if let Some(ticket) = tickets.remove(&id)
                    && let Some(finding) = schedule.end(ticket, &outcome, now(), &mut random)
                {
                    findings.lock().insert(finding.slot, finding);
                }
            }
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
    }
}

fn now() -> u64 {
    clock::monotonic_nanos() / 1_000_000
}
