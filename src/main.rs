//! The executable: arguments in, an exit code out.

use std::process::ExitCode;

use tidegate::cli::{self, Exit, Failure, Verbs};
use tidegate::config::Selection;
use tidegate::daemon::{self, RunError};

/// Gives memory back to the system by a thread of its own some seconds after it was freed.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let demo =
        |address, generation| daemon::run_demo(address, generation).map_err(|error| Failure::new(Exit::Failed, error));
    cli::execute(cli::parse(), Verbs { run, demo }).into()
}

fn run(selection: &Selection) -> Result<(), Failure> {
    daemon::run(selection).map_err(|error| match error {
        RunError::Config(report) => Failure::report(&report),
        error => Failure::new(Exit::Failed, error),
    })
}
