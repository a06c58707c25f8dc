//! One process from its order to its end.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::identity::{self, Identity, Stat};
use super::launch::{self, Conversation, Launched, Refused};
use super::members::{self, Kin};
use super::output::Start;
use super::process::{Ending, Process};
use super::room::Room;
use super::{Order, Report, cgroup};
use crate::clock;
use crate::config::model::worker::{Stop, StopSignal};
use crate::fleet::worker::WorkerId;

/// Between two looks at whether something is left: short at first, since most go soon.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(200);

/// Between two complaints about what cannot be killed.
const COMPLAINT: u64 = 10_000_000_000;

/// What kills without asking.
const KILL: Stop = Stop { signal: StopSignal::Kill, grace: Duration::ZERO };

/// What a worker was told since it was started.
pub(super) struct Orders(pub(super) watch::Receiver<Option<Stop>>);

impl Orders {
    /// The order to stop: the one that was given, or the first one that will be.
    async fn stop(&mut self) -> Stop {
        loop {
            if let Some(stop) = *self.0.borrow_and_update() {
                return stop;
            }
            self.changed().await;
        }
    }

    /// Resolves at the next order.
    async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could give one.
            std::future::pending::<()>().await;
        }
    }
}

/// A process that may be alive, of this run or of the last one.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) identity: Identity,
    /// `None` when only what it started is left.
    pub(super) process: Option<OwnedFd>,
}

/// Starts a worker once its record was written, and stays with it.
pub(super) async fn start(
    room: Arc<Room>,
    order: Order,
    recorded: impl Future<Output = bool> + Send + 'static,
    mut orders: Orders,
) {
    let worker = order.worker.clone();
    tokio::select! {
        biased;
        _ = orders.stop() => return room.end(&worker, "was never started"),
        recorded = recorded => if !recorded {
            tracing::warn!(%worker, "it is started though that could not be written down");
        },
    }
    let blocking = Arc::clone(&room);
    let launched = spawn_blocking(move || launched(&blocking, &order)).await;
    let (launched, kin) = match launched {
        Ok(Ok(launched)) => launched,
        Ok(Err(Refused { why, is_displaced })) => {
            return room.end_as(&worker, &format!("could not be started: {why}"), is_displaced);
        }
        Err(error) => return room.end(&worker, &format!("could not be started: {error}")),
    };
    let (child, conversation) = Conversation::of(launched);
    let process = match Process::owned(child) {
        Ok(process) => process,
        Err((mut child, error)) => {
            // It waits for its orders, and has started nothing. What it is told by the pipe's end is to go.
            drop(conversation);
            let _ = child.kill();
            let _ = spawn_blocking(move || child.wait()).await;
            put_away(&room, &worker, kin.group.clone()).await;
            return room.end(&worker, &format!("could not be started: {error}"));
        }
    };
    let held = async {
        match conversation {
            Ok(conversation) => conversation.held().await,
            Err(error) => Err(error.to_string()),
        }
    };
    let refused = tokio::select! {
        biased;
        _ = orders.stop() => None,
        held = held => match held {
            Ok(()) => {
                room.started(&worker, kin.pid);
                None
            }
            Err(why) => Some(why),
        },
    };
    match refused {
        None => follow(room, worker, process, kin, orders, None).await,
        Some(why) => follow(room, worker, process, kin, orders, Some(format!("could not be started: {why}"))).await,
    }
}

/// The part of a start that blocks.
fn launched(room: &Room, order: &Order) -> Result<(Launched, Kin), Refused> {
    let mut token = [0; 16];
    getrandom::fill(&mut token).map_err(|error| error.to_string())?;
    let token = token.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let group = room.groups.make(&order.worker, &order.definition.launch.limits);
    let document = launch::document(order, &room.folder, &token, group.clone(), room.descriptors);
    // Before the process can print anything.
    let length = std::fs::metadata(&document.output).map_or(0, |found| found.len());
    let launched = launch::launch(&room.program, &document)?;
    room.outputs.follow(&order.worker, order.definition.output.clone(), Start::Byte(length));
    let pid = launched.child.id();
    // It is not reaped before it is known, so there is something to see.
    let start = Stat::read(pid).map_or(0, |stat| stat.start);
    Ok((launched, Kin { pid, start, token, over: None, group }))
}

/// Stays with a process of the last run.
pub(super) async fn adopted(room: Arc<Room>, held: Held, orders: Orders) {
    let Held { identity: Identity { worker, pid, start, token, control_group, .. }, process } = held;
    // When the first process ended before this gateway began, its number may have been another's ever since.
    let over = process.is_none().then_some(0);
    let kin = Kin { pid, start, token, over, group: control_group };
    let process = match process.map(Process::adopted) {
        Some(Ok(process)) => process,
        None => Process::Gone,
        Some(Err(error)) => {
            tracing::error!(%worker, %error, "it cannot be watched, and is stopped");
            Process::Gone
        }
    };
    follow(room, worker, process, kin, orders, None).await;
}

/// Waits for the end of a process, or for the order to bring it about, and sees to it that nothing is left. `refused`
/// says why it never became what it was to be.
async fn follow(
    room: Arc<Room>,
    worker: WorkerId,
    mut process: Process,
    mut kin: Kin,
    mut orders: Orders,
    refused: Option<String>,
) {
    let stop = tokio::select! {
        biased;
        stop = orders.stop() => Some(stop),
        () = process.ended() => None,
    };
    clear(&worker, &process, &mut kin, &mut orders, stop).await;
    let ending = process.reap();
    let out_of_memory = put_away(&room, &worker, kin.group.take()).await;
    room.outputs.finish(&worker).await;
    let how = match (refused, ending, out_of_memory) {
        (Some(why), _, _) => why,
        (None, ending, true) => format!("{}, for it needed more memory than limits.memory", ending.in_words()),
        (None, Ending::Signal { number, .. }, false) if number == Signal::XFSZ.as_raw() => {
            format!("{}, for it wrote a file larger than limits.file_size", ending.in_words())
        }
        (None, ending, false) => ending.in_words(),
    };
    room.end(&worker, &how);
}

/// Removes what the room keeps of a worker of which nothing is left; says whether it ran out of memory.
async fn put_away(room: &Arc<Room>, worker: &WorkerId, group: Option<PathBuf>) -> bool {
    let path = identity::file(&room.folder, worker);
    let removed = spawn_blocking(move || {
        for path in [path.with_extension("new"), path] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "the file of a worker that is gone cannot be removed");
                }
                _ => {}
            }
        }
        group.is_some_and(|group| cgroup::remove(&group))
    });
    removed.await.unwrap_or_default()
}

/// Ends what is left of a worker: as ordered, or at once when its first process ended by itself. Returns when nothing is
/// left, however long that takes.
async fn clear(worker: &WorkerId, process: &Process, kin: &mut Kin, orders: &mut Orders, ordered: Option<Stop>) {
    let mut stop = ordered.unwrap_or(KILL);
    let mut next = Some(signal(stop.signal));
    let mut is_killing = stop.signal == StopSignal::Kill;
    let deadline = tokio::time::sleep(stop.grace);
    tokio::pin!(deadline);
    let mut has_ended = ordered.is_none();
    let mut pause = FIRST_PAUSE;
    let mut complained = clock::monotonic_nanos();
    let mut is_told = ordered.is_some();
    let mut looks_without = 0;
    while looks_without < 2 {
        if has_ended && process.loses_number() && kin.over.is_none() {
            kin.over = Some(identity::now());
        }
        let members =
            look(kin, if is_killing { Some(Signal::KILL) } else { next.take() }, process.loses_number()).await;
        if members.is_empty() {
            // Twice, for one may have been started by another that ended behind the reader's back.
            looks_without += 1;
            continue;
        }
        looks_without = 0;
        if !is_told {
            is_told = true;
            tracing::warn!(%worker, left = members::listed(&members), "it ended and left processes, which are killed");
        }
        let now = clock::monotonic_nanos();
        if is_killing && now.saturating_sub(complained) >= COMPLAINT {
            complained = now;
            tracing::warn!(%worker, left = members::listed(&members), "it was killed and is still there; it is tried again");
        }
        tokio::select! {
            () = process.ended(), if !has_ended => has_ended = true,
            () = &mut deadline, if !is_killing => {
                (is_killing, complained, pause) = (true, now, FIRST_PAUSE);
                tracing::warn!(
                    %worker, grace = ?stop.grace, left = members::listed(&members),
                    "it did not end by {} within its grace, and is killed", stop.signal.as_str()
                );
            }
            () = orders.changed() => {
                // Somebody is in more of a hurry, or in less.
                stop = orders.stop().await;
                next = Some(signal(stop.signal));
                is_killing |= stop.signal == StopSignal::Kill;
                deadline.set(tokio::time::sleep(stop.grace));
                pause = FIRST_PAUSE;
            }
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE),
        }
    }
}

/// Finds the members and sends them `signal`. Learns whether the number of the first one can be another's by now.
async fn look(kin: &mut Kin, signal: Option<Signal>, loses_number: bool) -> Vec<Stat> {
    let known = kin.clone();
    let looked = spawn_blocking(move || {
        let mut known = known;
        let began = identity::now();
        let mut members = known.members();
        if loses_number && known.over.is_none() && identity::hold(known.pid, known.start).is_none() {
            known.over = Some(began);
            members.retain(|member| known.has(member));
        }
        if let Some(signal) = signal {
            known.signal(&members, signal);
        }
        (known.over, members)
    });
    match looked.await {
        Ok((over, members)) => {
            kin.over = over;
            members
        }
        // The runtime ends, and the gateway with it.
        Err(_) => std::future::pending().await,
    }
}

pub(super) fn signal(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Hup => Signal::HUP,
        StopSignal::Usr1 => Signal::USR1,
        StopSignal::Usr2 => Signal::USR2,
        StopSignal::Kill => Signal::KILL,
    }
}

impl Room {
    fn started(&self, worker: &WorkerId, pid: u32) {
        (self.tell)(Report::Started { worker: worker.clone(), pid });
    }
}
