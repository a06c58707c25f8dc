//! What the system says of the gateway's process.

use std::fs;

use rustix::param;
use rustix::process::{Resource, getrlimit};

/// The process at a moment. A figure that the system does not tell is absent.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Process {
    /// Seconds on processors, in the kernel as well.
    pub cpu: Option<f64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// How many there may be.
    pub most_descriptors: Option<u64>,
}

impl Process {
    /// Looks at the own process.
    pub fn look() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let (cpu, memory) = figures(&stat, param::clock_ticks_per_second(), param::page_size() as u64);
        let most_descriptors = getrlimit(Resource::Nofile).current;
        Self { cpu, memory, descriptors: descriptors(), most_descriptors }
    }
}

/// Seconds on processors and bytes of memory, from proc_pid_stat(5).
fn figures(stat: &str, ticks_per_second: u64, page: u64) -> (Option<f64>, Option<u64>) {
    // The second field is the program's name, which may hold anything; the third is the first one behind it.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let (user, kernel, pages) = (field(14), field(15), field(24));
    let cpu = user.zip(kernel).map(|(user, kernel)| (user + kernel) as f64 / ticks_per_second as f64);
    (cpu, pages.map(|pages| pages * page))
}

/// Linux tells the number as the folder's size since 6.2, where counting would take a while with 100,000 of them.
fn descriptors() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).map(|folder| folder.len()) {
        Ok(0) => fs::read_dir(FOLDER).ok().map(|entries| entries.count() as u64),
        size => size.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_end_of_itself() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 4 0 100 5000000 3 18446744073709551615";
        assert_eq!(figures(stat, 100, 4_096), (Some(1.75), Some(3 * 4_096)));
        assert_eq!(figures("", 100, 4_096), (None, None));
    }

    #[test]
    fn the_own_process_has_figures() {
        let process = Process::look();
        assert!(process.memory.is_some_and(|bytes| bytes > 1 << 20), "{process:?}");
        assert!(process.cpu.is_some_and(|seconds| seconds >= 0.0), "{process:?}");
        let more: Vec<_> = (0..20).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        assert!(descriptors().is_some_and(|open| open >= more.len() as u64), "{process:?}");
        assert!(process.most_descriptors > process.descriptors, "{process:?}");
    }
}
