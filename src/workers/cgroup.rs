//! Control groups (version 2): limits for all processes of an instance together.
//!
//! Only where the gateway may make groups below its own. Everywhere else limits are those of each process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::config::model::worker::Limits;
use crate::fleet::worker::WorkerId;

/// Below the gateway's own group: where the gateway itself goes, since a group with groups below it may hold no processes.
const GATEWAY: &str = "gateway";
const WORKERS: &str = "tidegate-workers";

/// The groups of this gateway's workers.
#[derive(Debug)]
pub(super) struct Groups {
    /// Of the file tree; another one in tests.
    root: PathBuf,
    /// The group below which those of workers are; `None` before the first one, an error once told.
    base: Mutex<Option<Result<PathBuf, ()>>>,
}

impl Groups {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), base: Mutex::new(None) }
    }

    /// A group with these limits, if one is needed and can be made. Blocks.
    pub(super) fn make(&self, worker: &WorkerId, limits: &Limits) -> Option<PathBuf> {
        if limits.memory.is_none() && limits.processes.is_none() {
            return None;
        }
        let mut base = self.base.lock();
        let found = base.get_or_insert_with(|| self.prepare().map_err(|error| told(&error)));
        let group = found.as_ref().ok()?.join(format!("{}-{}-{}", worker.generation, worker.instance, worker.life));
        match fill(&group, limits) {
            Ok(()) => Some(group),
            Err(error) => {
                let _ = fs::remove_dir(&group);
                told(&error);
                *base = Some(Err(()));
                None
            }
        }
    }

    /// Makes the group of all workers and lets it limit memory and processes.
    fn prepare(&self) -> io::Result<PathBuf> {
        let own = self.own()?;
        let base = if own.file_name().is_some_and(|name| name == GATEWAY) {
            own.parent().map(Path::to_owned).unwrap_or(own)
        } else {
            own
        };
        let controllers = fs::read_to_string(base.join("cgroup.controllers"))?;
        if !["memory", "pids"].iter().all(|wanted| controllers.split_whitespace().any(|found| found == *wanted)) {
            return Err(io::Error::other(format!("{} offers only: {}", base.display(), controllers.trim())));
        }
        let (gateway, workers) = (base.join(GATEWAY), base.join(WORKERS));
        for group in [&gateway, &workers] {
            make(group)?;
        }
        fs::write(gateway.join("cgroup.procs"), std::process::id().to_string())?;
        for group in [&base, &workers] {
            fs::write(group.join("cgroup.subtree_control"), "+memory +pids")?;
        }
        Ok(workers)
    }

    /// The folder of the gateway's own group.
    fn own(&self) -> io::Result<PathBuf> {
        let groups = fs::read_to_string(self.root.join("proc/self/cgroup"))?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
        let own = own.ok_or_else(|| io::Error::other("the system has no control groups of version 2"))?;
        let mounts = fs::read_to_string(self.root.join("proc/self/mountinfo"))?;
        let mounted = mounts.lines().find_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (part, place) = (fields.next()?, fields.next()?);
            let below = own.strip_prefix(part.trim_end_matches('/'))?;
            kind.starts_with("cgroup2 ").then(|| Path::new(place).join(below.trim_start_matches('/')))
        });
        let folder = mounted.ok_or_else(|| io::Error::other(format!("the control group {own} is mounted nowhere")))?;
        Ok(self.root.join(folder.strip_prefix("/").unwrap_or(&folder)))
    }
}

fn told(error: &io::Error) {
    tracing::warn!(%error, "no control groups for workers: their memory and processes are limited for each process alone");
}

fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn fill(group: &Path, limits: &Limits) -> io::Result<()> {
    make(group)?;
    if let Some(memory) = limits.memory {
        fs::write(group.join("memory.max"), memory.to_string())?;
        // All or nothing: half an instance serves nobody.
        fs::write(group.join("memory.oom.group"), "1")?;
    }
    if let Some(processes) = limits.processes {
        fs::write(group.join("pids.max"), processes.to_string())?;
    }
    Ok(())
}

/// Removes the group of a worker of which nothing is left; says whether it had reached its limit of memory.
pub(super) fn remove(group: &Path) -> bool {
    let events = fs::read_to_string(group.join("memory.events")).unwrap_or_default();
    let killed = events.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0");
    if let Err(error) = fs::remove_dir(group)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %group.display(), %error, "the control group of a worker that is gone cannot be removed");
    }
    killed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GenerationId, GenerationNumber, ServiceName};

    fn worker() -> WorkerId {
        let generation = GenerationId { service: ServiceName::new("app"), number: GenerationNumber(7) };
        WorkerId { generation, instance: 0, life: 3 }
    }

    /// A tree whose gateway is in `/system/tidegate`, with these controllers.
    fn tree(controllers: &str) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("cg/tidegate");
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::create_dir_all(&own).unwrap();
        fs::write(root.path().join("proc/self/cgroup"), "4:memory:/x\n0::/system/tidegate\n").unwrap();
        let mounts = "31 23 0:28 / /x rw - tmpfs tmpfs rw\n41 31 0:38 /system /cg rw,relatime - cgroup2 cgroup2 rw\n";
        fs::write(root.path().join("proc/self/mountinfo"), mounts).unwrap();
        fs::write(own.join("cgroup.controllers"), controllers).unwrap();
        (root, own)
    }

    #[test]
    fn a_group_is_made_below_the_gateways_own() {
        let (root, own) = tree("cpu memory pids\n");
        let groups = Groups::new(root.path());
        assert_eq!(groups.make(&worker(), &Limits::default()), None, "nothing to limit");
        let limits = Limits { memory: Some(1_000_000), processes: Some(7), ..Limits::default() };
        let group = groups.make(&worker(), &limits).unwrap();
        assert_eq!(group, own.join("tidegate-workers/app@7-0-3"));
        let read = |path: &str| fs::read_to_string(own.join(path)).unwrap();
        assert_eq!(read("tidegate-workers/app@7-0-3/memory.max"), "1000000");
        assert_eq!(read("tidegate-workers/app@7-0-3/memory.oom.group"), "1");
        assert_eq!(read("tidegate-workers/app@7-0-3/pids.max"), "7");
        assert_eq!(read("gateway/cgroup.procs"), std::process::id().to_string());
        assert_eq!(read("cgroup.subtree_control"), read("tidegate-workers/cgroup.subtree_control"));
        fs::write(group.join("memory.events"), "oom 1\noom_kill 2\n").unwrap();
        assert!(remove(&group));
        fs::write(group.join("memory.events"), "oom 0\noom_kill 0\n").unwrap();
        assert!(!remove(&group));
    }

    #[test]
    fn what_cannot_be_had_is_done_without() {
        let limits = Limits { memory: Some(1), ..Limits::default() };
        let (root, own) = tree("cpu\n");
        assert_eq!(Groups::new(root.path()).make(&worker(), &limits), None);
        assert!(!own.join(GATEWAY).exists(), "nothing was begun");
        let nowhere = tempfile::tempdir().unwrap();
        assert_eq!(Groups::new(nowhere.path()).make(&worker(), &limits), None);
    }
}
