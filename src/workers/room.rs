//! What all processes share: the list of those that there are, and whom to tell.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::cgroup::Groups;
use super::identity::{self, Identity, Standing};
use super::life::{Held, Orders};
use super::members::Kin;
use super::output::Outputs;
use super::place::{self, Taken};
use super::{Report, Tell};
use crate::clock;
use crate::config::model::worker::{Launch, Stop};
use crate::fleet::worker::{Site, WorkerId};
use crate::ids::{GenerationId, GenerationNumber};

/// Lines that a report of an end carries.
const LINES: usize = 20;

/// For so long nobody else is given a port that was given to a generation and has no process yet.
const PROMISE: u64 = 10;

/// All that the tasks of the processes share.
pub(super) struct Room {
    pub(super) folder: PathBuf,
    pub(super) program: PathBuf,
    pub(super) tell: Tell,
    pub(super) outputs: Outputs,
    pub(super) groups: Groups,
    /// Those of a process without a limit of its own.
    pub(super) descriptors: Option<u64>,
    list: Mutex<List>,
    changed: Notify,
    /// Held while ports are chosen: one generation after the other.
    placing: Mutex<()>,
}

#[derive(Default)]
struct List {
    /// Those that somebody stays with.
    living: HashMap<WorkerId, Entry>,
    /// Those of the last run that nobody has asked for yet.
    found: HashMap<WorkerId, Held>,
    /// Generations of which something was to run and that are not gone.
    used: HashSet<GenerationId>,
    promised: Vec<(u64, GenerationId, Vec<u16>)>,
}

struct Entry {
    ports: Vec<u16>,
    stop: watch::Sender<Option<Stop>>,
}

impl Room {
    pub(super) fn open(folder: &Path, program: PathBuf, tell: Tell) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let found = read(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            program,
            tell,
            outputs: Outputs::start(folder)?,
            groups: Groups::new(Path::new("/")),
            descriptors: None,
            list: Mutex::new(List { found, ..List::default() }),
            changed: Notify::new(),
            placing: Mutex::new(()),
        })
    }

    /// Those of the last run whose first process is alive, and that nobody has asked for yet.
    pub(super) fn found(&self) -> Vec<(WorkerId, u32)> {
        let list = self.list.lock();
        let alive = list.found.iter().filter(|(_, held)| held.process.is_some());
        let mut found: Vec<_> = alive.map(|(worker, held)| (worker.clone(), held.identity.pid)).collect();
        found.sort_by(|(one, _), (other, _)| {
            let key = |worker: &WorkerId| (worker.generation.clone(), worker.instance, worker.life);
            key(one).cmp(&key(other))
        });
        found
    }

    /// Enters a process that is to be started; `None` when there is one of that name.
    pub(super) fn enter(&self, worker: &WorkerId, site: &Site) -> Option<Orders> {
        self.list.lock().enter(worker, site)
    }

    /// Enters one of the last run, also when only what it started is left.
    pub(super) fn take(&self, worker: &WorkerId, site: &Site) -> Option<(Held, Orders)> {
        let mut list = self.list.lock();
        let held = list.found.remove(worker)?;
        let orders = list.enter(worker, site)?;
        Some((held, orders))
    }

    /// Gives the order to stop. One of the last run that nobody had asked for is handed out, to stay with; for one that
    /// is not there at all the report comes at once.
    pub(super) fn stop(&self, worker: &WorkerId, stop: Stop) -> Option<(Held, Orders)> {
        let mut list = self.list.lock();
        if let Some(entry) = list.living.get(worker) {
            entry.stop.send_replace(Some(stop));
            return None;
        }
        let Some(held) = list.found.remove(worker) else {
            (self.tell)(Report::Stopped { worker: worker.clone() });
            return None;
        };
        let orders = list.enter(worker, &held.identity.site)?;
        if let Some(entry) = list.living.get(worker) {
            entry.stop.send_replace(Some(stop));
        }
        Some((held, orders))
    }

    /// All of the last run that nobody has asked for.
    pub(super) fn rest(&self) -> Vec<WorkerId> {
        self.list.lock().found.keys().cloned().collect()
    }

    /// Tells what became of a worker of which nothing is left.
    pub(super) fn end(&self, worker: &WorkerId, how: &str) {
        self.end_as(worker, how, false);
    }

    /// The same, of one whose place may be somebody else's. Told under the lock, so that whoever orders it to be
    /// stopped hears of it once.
    pub(super) fn end_as(&self, worker: &WorkerId, how: &str, is_displaced: bool) {
        let mut output = self.outputs.lines(worker);
        output.drain(..output.len().saturating_sub(LINES));
        let mut list = self.list.lock();
        let was_ordered = list.living.remove(worker).is_some_and(|entry| entry.stop.borrow().is_some());
        let worker = worker.clone();
        tracing::debug!(%worker, how, was_ordered, "nothing is left of a worker");
        (self.tell)(match was_ordered {
            true => Report::Stopped { worker },
            false => Report::Exited { worker, how: how.to_owned(), output, is_displaced },
        });
        drop(list);
        self.changed.notify_waiters();
    }

    pub(super) fn living(&self) -> usize {
        let list = self.list.lock();
        list.living.len() + list.found.len()
    }

    /// Resolves when none of these is left.
    pub(super) async fn stopped(&self, workers: &[WorkerId]) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on none is missed.
            changed.as_mut().enable();
            let is_left = {
                let list = self.list.lock();
                workers.iter().any(|worker| list.living.contains_key(worker))
            };
            if !is_left {
                return;
            }
            changed.await;
        }
    }

    /// Ports that `generation` is not to be given.
    fn taken(&self, generation: &GenerationId, held: &HashSet<u16>) -> Taken {
        let mut list = self.list.lock();
        let now = clock::monotonic_nanos() / 1_000_000_000;
        list.promised.retain(|(until, _, _)| *until > now);
        let mut taken: Taken = held.iter().map(|port| (*port, "a generation".to_owned())).collect();
        for (_, promised, ports) in list.promised.iter().filter(|(_, promised, _)| promised != generation) {
            taken.extend(ports.iter().map(|port| (*port, promised.to_string())));
        }
        for (worker, entry) in &list.living {
            taken.extend(entry.ports.iter().map(|port| (*port, worker.to_string())));
        }
        for (worker, held) in &list.found {
            taken.extend(held.identity.site.ports.values().map(|port| (*port, worker.to_string())));
        }
        taken
    }

    /// Places a generation. Blocks.
    pub(super) fn place(
        &self,
        launch: &Launch,
        generation: &GenerationId,
        held: &HashSet<u16>,
    ) -> Result<Vec<Site>, String> {
        let _alone = self.placing.lock();
        let mut taken = self.taken(generation, held);
        let sites = place::sites(launch, generation, &mut taken)?;
        self.promise(generation, &sites);
        Ok(sites)
    }

    fn promise(&self, generation: &GenerationId, sites: &[Site]) {
        let until = clock::monotonic_nanos() / 1_000_000_000 + PROMISE;
        let ports = sites.iter().flat_map(|site| site.ports.values().copied()).collect();
        self.list.lock().promised.push((until, generation.clone(), ports));
    }

    /// A generation is gone for good.
    pub(super) fn forget(&self, generation: &GenerationId) {
        let used: BTreeSet<GenerationNumber> = {
            let mut list = self.list.lock();
            list.used.remove(generation);
            let same = |other: &&GenerationId| other.service == generation.service;
            let living = list.living.keys().chain(list.found.keys()).map(|worker| &worker.generation);
            list.used.iter().chain(living).filter(same).map(|other| other.number).collect()
        };
        self.outputs.forget(generation, used);
    }
}

impl List {
    fn enter(&mut self, worker: &WorkerId, site: &Site) -> Option<Orders> {
        if self.living.contains_key(worker) {
            return None;
        }
        let (stop, orders) = watch::channel(None);
        self.used.insert(worker.generation.clone());
        self.living.insert(worker.clone(), Entry { ports: site.ports.values().copied().collect(), stop });
        Some(Orders(orders))
    }
}

/// Reads what the last run left: which processes it had, and which of them there are.
fn read(folder: &Path) -> io::Result<HashMap<WorkerId, Held>> {
    let mut found = HashMap::new();
    for generation in fs::read_dir(folder)? {
        let generation = generation?.path();
        // What is no folder is nobody's here.
        let Ok(files) = fs::read_dir(&generation) else { continue };
        for file in files {
            let path = file?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            match ending {
                Some(identity::ENDING) => {}
                // Of a process that was stopped in the midst of writing it.
                Some("new") => {
                    let _ = fs::remove_file(&path);
                    continue;
                }
                Some(_) | None => continue,
            }
            match judge(folder, &path) {
                Ok(Some(held)) => _ = found.insert(held.identity.worker.clone(), held),
                Ok(None) => {
                    if let Err(error) = fs::remove_file(&path) {
                        tracing::warn!(path = %path.display(), %error, "the file of a worker that is gone cannot be removed");
                    }
                }
                Err(why) => aside(&path, &why),
            }
        }
    }
    Ok(found)
}

/// What is left of the process of a file; `None` when nothing is.
fn judge(folder: &Path, path: &Path) -> Result<Option<Held>, String> {
    let identity = Identity::read(path)?;
    if identity::file(folder, &identity.worker) != path {
        return Err(format!("it is of {}", identity.worker));
    }
    match identity.standing().map_err(|error| error.to_string())? {
        Standing::Alive(process) => Ok(Some(Held { identity, process: Some(process) })),
        Standing::Rebooted => Ok(None),
        Standing::Elsewhere => Err("its process was started in another container or namespace".to_owned()),
        Standing::Dead => {
            // Its number says nothing any more: only by the token can anything be told to be of it.
            let kin = Kin {
                pid: identity.pid,
                start: identity.start,
                token: identity.token.clone(),
                over: Some(0),
                group: None,
            };
            let is_left = !kin.members().is_empty();
            Ok(is_left.then_some(Held { identity, process: None }))
        }
    }
}

/// Puts a file where it is not found again, for a person to look at.
fn aside(path: &Path, why: &str) {
    let mut to = path.as_os_str().to_owned();
    to.push(".aside");
    tracing::error!(path = %path.display(), why, "a worker's file cannot be used, and is set aside; a process may be left");
    if let Err(error) = fs::rename(path, &to) {
        tracing::error!(path = %path.display(), %error, "nor can it be set aside");
    }
}
