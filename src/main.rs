//! The executable: arguments in, an exit code out.

use std::process::ExitCode;

use tidegate::cli::{self, Command, Exit, Failure, Verbs};
use tidegate::config::Selection;
use tidegate::daemon::{self, RunError, init};
use tidegate::workers::trampoline;

/// Gives memory back to the system by a thread of its own some seconds after it was freed.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let command = cli::parse();
    if matches!(command, Command::Run(_)) && init::is_first() {
        return init::run();
    }
    let demo =
        |address, generation| daemon::run_demo(address, generation).map_err(|error| Failure::new(Exit::Failed, error));
    cli::execute(command, Verbs { run, demo, launch: trampoline::run }).into()
}

fn run(selection: &Selection) -> Result<(), Failure> {
    daemon::run(selection).map_err(|error| match error {
        RunError::Config(report) => Failure::report(&report),
        error => Failure::new(Exit::Failed, error),
    })
}
