//! What workers print: a file for each instance, followed into the gateway's own log and kept from growing.
//!
//! A worker appends to its file by itself, so that it prints on when the gateway is gone. One thread looks at all files
//! some times a second; without files it sleeps.

mod rotation;
mod tail;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::identity;
use crate::config::model::worker::Output;
use crate::fleet::worker::WorkerId;
use crate::ids::{GenerationId, GenerationNumber};
use tail::Tail;

/// Between two looks at the files, and when one of them grows fast.
const PAUSE: Duration = Duration::from_millis(200);
const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// Lines of an instance that are at hand.
const LINES: usize = 50;

/// Generations of a service whose output stays when they are gone.
const KEPT: usize = 4;

/// Where an instance prints, with all its lives.
pub(super) fn file(root: &Path, worker: &WorkerId) -> PathBuf {
    identity::folder(root, &worker.generation).join(format!("{}.log", worker.instance))
}

/// An instance: all its lives print into one file.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Place {
    generation: GenerationId,
    instance: u32,
}

impl From<&WorkerId> for Place {
    fn from(worker: &WorkerId) -> Self {
        Self { generation: worker.generation.clone(), instance: worker.instance }
    }
}

/// The last lines of an instance.
#[derive(Clone, Default, Debug)]
struct Ring(Arc<Mutex<VecDeque<String>>>);

impl Ring {
    fn push(&self, line: String) {
        let mut lines = self.0.lock();
        if lines.len() >= LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().iter().cloned().collect()
    }
}

/// From where on a file is followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Start {
    /// A new life begins at this byte.
    Byte(u64),
    /// The process is older than this gateway: what is there is looked at, but is no news.
    End,
}

enum Order {
    Follow { place: Place, path: PathBuf, output: Output, from: Start, ring: Ring },
    Finish { place: Place, done: oneshot::Sender<()> },
    Forget { generation: GenerationId, used: BTreeSet<GenerationNumber> },
}

/// All output; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Outputs {
    root: PathBuf,
    orders: mpsc::Sender<Order>,
    rings: Arc<Mutex<HashMap<Place, Ring>>>,
}

impl Outputs {
    /// Starts the thread, which ends when the last clone is gone.
    pub(super) fn start(root: &Path) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let folder = root.to_owned();
        std::thread::Builder::new().name("workers-output".to_owned()).spawn(move || run(&inbox, &folder))?;
        Ok(Self { root: root.to_owned(), orders, rings: Arc::default() })
    }

    /// Follows what a worker prints from now on.
    pub(super) fn follow(&self, worker: &WorkerId, output: Output, from: Start) {
        let (place, ring) = (Place::from(worker), Ring::default());
        self.rings.lock().insert(place.clone(), ring.clone());
        self.send(Order::Follow { place, path: file(&self.root, worker), output, from, ring });
    }

    /// Reads what a worker that is gone printed to the end. Its last lines stay at hand.
    pub(super) async fn finish(&self, worker: &WorkerId) {
        let (done, is_done) = oneshot::channel();
        self.send(Order::Finish { place: worker.into(), done });
        // The thread is gone only with the process.
        let _ = is_done.await;
    }

    /// The last lines of the worker's instance, oldest first.
    pub(super) fn lines(&self, worker: &WorkerId) -> Vec<String> {
        let ring = self.rings.lock().get(&worker.into()).cloned();
        ring.map(|ring| ring.lines()).unwrap_or_default()
    }

    /// Forgets a generation that is gone for good, and removes the files of those that are gone for long; `used` are
    /// those of the same service that are not gone.
    pub(super) fn forget(&self, generation: &GenerationId, used: BTreeSet<GenerationNumber>) {
        self.rings.lock().retain(|place, _| place.generation != *generation);
        self.send(Order::Forget { generation: generation.clone(), used });
    }

    fn send(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("what workers print is not followed any more");
        }
    }
}

fn run(inbox: &mpsc::Receiver<Order>, root: &Path) {
    let mut tails: HashMap<Place, Tail> = HashMap::new();
    let mut pause = PAUSE;
    loop {
        let order = if tails.is_empty() {
            inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            inbox.recv_timeout(pause)
        };
        match order {
            Ok(Order::Follow { place, path, output, from, ring }) => {
                tails.insert(place.clone(), Tail::new(place, path, output, from, ring));
                continue;
            }
            Ok(Order::Finish { place, done }) => {
                if let Some(mut tail) = tails.remove(&place) {
                    tail.finish();
                }
                // Whoever asked may have been dropped.
                let _ = done.send(());
                continue;
            }
            Ok(Order::Forget { generation, used }) => {
                tails.retain(|place, _| place.generation != generation);
                tidy(root, &generation, &used);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let mut is_busy = false;
        for tail in tails.values_mut() {
            is_busy |= tail.look();
        }
        pause = if is_busy { SHORT_PAUSE } else { PAUSE };
    }
}

/// Removes the folders of a service's generations that are gone, but for the last ones.
fn tidy(root: &Path, generation: &GenerationId, used: &BTreeSet<GenerationNumber>) {
    let Ok(entries) = fs::read_dir(root) else { return };
    let mut gone: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let (service, number) = name.to_str()?.rsplit_once('@')?;
            let number: u64 = number.parse().ok()?;
            let is_gone = service == generation.service.as_str()
                && number <= generation.number.0
                && !used.contains(&GenerationNumber(number));
            is_gone.then(|| (number, entry.path()))
        })
        .collect();
    gone.sort_unstable_by(|one, other| other.cmp(one));
    for (_, folder) in gone.into_iter().skip(KEPT) {
        if holds_identity(&folder) {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::warn!(path = %folder.display(), %error, "what workers printed long ago cannot be removed");
        }
    }
}

/// Whether something of a generation may be running.
fn holds_identity(folder: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(folder) else { return true };
    entries
        .any(|entry| entry.is_ok_and(|entry| entry.path().extension().is_some_and(|ending| ending == identity::ENDING)))
}
