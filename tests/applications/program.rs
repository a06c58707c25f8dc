//! The programs of others: an application's server as a process of its own, and where `tests/run` puts what is needed.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::support::{Wire, eventually, free_address};

/// A file of this test's folder.
pub(crate) fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/applications").join(path)
}

/// What `tests/run` installs, beside everything else that is built.
pub(crate) fn installed(path: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is a folder of the target folder");
    target.join("applications").join(path)
}

/// The path of a program of the system.
///
/// # Panics
/// When it is not there, with the name of the Debian package that brings it.
pub(crate) fn system(path: &str, package: &str) -> PathBuf {
    assert!(
        Path::new(path).exists(),
        "this test runs the real {path}: `apt-get install --no-install-recommends {package}` (tests/run does it)"
    );
    path.into()
}

/// A Python interpreter that has the packages of `requirements.txt`.
pub(crate) fn python() -> Command {
    let python = installed("python/bin/python");
    assert!(
        installed("python/complete").exists(),
        "this test runs real Python applications: install tests/applications/requirements.txt into the virtual \
         environment {} (tests/run does it)",
        installed("python").display()
    );
    let mut command = Command::new(python);
    command.env("PYTHONUNBUFFERED", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Node.js with the packages of `package-lock.json`, on a program of this test's folder.
pub(crate) fn node(program: &str) -> Command {
    let folder = installed("node");
    assert!(
        folder.join("complete").exists(),
        "this test runs real Node.js applications: `npm ci` with tests/applications/package.json in {} (tests/run \
         does it)",
        folder.display()
    );
    let mut command = Command::new("node");
    command.arg(source(program)).env("NODE_PATH", folder.join("node_modules"));
    command
}

/// A running server with a folder of its own. Dropping it ends it and all that it started.
pub(crate) struct Program {
    child: Child,
    folder: TempDir,
    /// What it stands before.
    behind: Option<Box<Program>>,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts what `command` makes of a free address and an empty folder.
    pub(crate) fn start(command: impl FnOnce(SocketAddr, &Path) -> Command) -> Self {
        Self::start_on(free_address(), command)
    }

    pub(crate) fn start_on(address: SocketAddr, command: impl FnOnce(SocketAddr, &Path) -> Command) -> Self {
        let folder = TempDir::new().unwrap();
        let mut command = command(address, folder.path());
        let output = fs::File::create(folder.path().join("output")).unwrap();
        let child = command
            .current_dir(folder.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, folder, behind: None, address }
    }

    /// Keeps a program that it needs as long as itself.
    pub(crate) fn with(mut self, behind: Program) -> Self {
        self.behind = Some(Box::new(behind));
        self
    }

    /// Waits until it answers a GET, whatever its answer is.
    pub(crate) async fn ready(mut self, path: &str) -> Self {
        eventually("the application serves", async || {
            assert!(self.child.try_wait().unwrap().is_none(), "the application has ended:\n{}", self.log());
            let trouble = |error: std::io::Error| format!("{error}\n{}", self.log());
            let mut wire = Wire::connect(self.address).await.map_err(trouble)?;
            wire.try_send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address)).await.map_err(trouble)?;
            let answer = wire.try_answer("GET").await.map_err(trouble)?;
            if answer.status() < 500 { Ok(()) } else { Err(format!("{answer:?}\n{}", self.log())) }
        })
        .await;
        self
    }

    /// Kills it with all that it started, without a last word. It may have ended already.
    pub(crate) fn kill(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the log of the application at {} ---\n{}", self.address, self.log());
        }
    }
}
