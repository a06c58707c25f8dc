//! The built gateway as a process of its own.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::disk::Disk;
use super::file::File;
use super::status::Status;
use super::wait::eventually;
use super::wire::{Message, Wire};

/// A running gateway. Dropping it kills the process and fails the test if the gateway panicked.
pub(crate) struct Gateway {
    child: Child,
    folder: TempDir,
    /// The file as it was last written.
    pub(crate) file: File,
    /// The first listener.
    pub(crate) address: SocketAddr,
    /// The admin API's address, where it is one of TCP.
    pub(crate) admin: SocketAddr,
}

/// The executable under test. `TIDEGATE_BIN` names another build of it.
pub(crate) fn executable() -> PathBuf {
    std::env::var_os("TIDEGATE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_tidegate").into(), PathBuf::from)
}

impl Gateway {
    /// Starts it and waits until it answers on its health path.
    pub(crate) async fn start(file: File) -> Self {
        Self::start_in(TempDir::new().unwrap(), file).await
    }

    /// As [`Gateway::start`], and waits until every service has an active generation.
    pub(crate) async fn ready(file: File) -> Self {
        let gateway = Self::start(file).await;
        gateway.all_active().await;
        gateway
    }

    /// Starts it in a folder that has been used before and waits until it answers.
    pub(crate) async fn start_in(folder: TempDir, file: File) -> Self {
        Self::start_on(None, folder, file).await
    }

    /// The same, with its state on this disk.
    pub(crate) async fn start_on(disk: Option<&Disk>, folder: TempDir, file: File) -> Self {
        let mut gateway = Self::spawn(disk, folder, file);
        gateway.serving().await;
        gateway
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(disk: Option<&Disk>, folder: TempDir, file: File) -> Self {
        let environment = disk.map(|disk| disk.environment(&folder.path().join("state"))).unwrap_or_default();
        Self::spawn_with(environment, folder, file)
    }

    /// Starts it with variables and waits until it answers.
    pub(crate) async fn start_with(variables: &[(&str, &str)], folder: TempDir, file: File) -> Self {
        let mut gateway = Self::spawn_with(variables.to_vec(), folder, file);
        gateway.serving().await;
        gateway
    }

    /// Has another program start it and waits until it answers. The process is that of the other program.
    pub(crate) async fn start_by(starter: &[&str], folder: TempDir, file: File) -> Self {
        let [program, arguments @ ..] = starter else { panic!("names no program") };
        let mut command = Command::new(program);
        command.args(arguments).arg(executable());
        complete(&mut command, folder.path(), "run");
        let mut gateway = Self::spawn_as(command, folder, file);
        gateway.serving().await;
        gateway
    }

    fn spawn_with(
        environment: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
        folder: TempDir,
        file: File,
    ) -> Self {
        let mut command = command(folder.path(), "run");
        command.envs(environment);
        Self::spawn_as(command, folder, file)
    }

    fn spawn_as(mut command: Command, folder: TempDir, file: File) -> Self {
        write(folder.path(), &file);
        let child = command
            .stdin(Stdio::null())
            .stdout(append(folder.path(), "stdout"))
            .stderr(append(folder.path(), "stderr"))
            .spawn()
            .expect("the executable starts");
        // At a unix socket it is asked by the command line and by curl alone.
        let is_socket = file.get("admin").contains("unix:");
        let admin = if is_socket { (Ipv4Addr::UNSPECIFIED, 0).into() } else { address(file.get("admin")) };
        let address = address(file.get("listen"));
        Self { child, folder, file, address, admin }
    }

    async fn serving(&mut self) {
        eventually("the gateway serves", async || {
            assert!(self.is_running(), "the gateway has ended:\n{}", self.log());
            let mut wire = Wire::connect(self.address).await.map_err(|error| self.trouble(&error.to_string()))?;
            let path = self.file.get("health_path").trim_matches('"');
            let asked = wire.try_send(format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n\r\n")).await;
            asked.map_err(|error| error.to_string())?;
            let answer = wire.try_answer("GET").await.map_err(|error| error.to_string())?;
            if answer.status() == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }

    /// Waits until every service has an active generation.
    pub(crate) async fn all_active(&self) {
        eventually("every service has an active generation", async || {
            let status = self.status().await;
            if status.services.iter().all(|service| service.active.is_some()) {
                Ok(())
            } else {
                Err(format!("{status:?}"))
            }
        })
        .await;
    }

    fn trouble(&self, error: &str) -> String {
        format!("{error}\n{}", self.log())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("tidegate.toml")
    }

    /// What it wrote to standard output and standard error so far.
    pub(crate) fn log(&self) -> String {
        ["stdout", "stderr"].map(|name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()).concat()
    }

    pub(crate) fn access_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }

    /// Waits until the log has this text.
    pub(crate) async fn logs(&self, text: &str) {
        eventually("the log says so", async || {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(format!("no {text:?} in:\n{log}")) }
        })
        .await;
    }

    /// An answer of the admin API.
    pub(crate) async fn admin(&self, path: &str) -> Result<Message, String> {
        self.ask_admin("GET", path).await
    }

    /// An order to the admin API, and its answer.
    pub(crate) async fn order(&self, path: &str) -> Message {
        self.ask_admin("POST", path).await.unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    async fn ask_admin(&self, method: &str, path: &str) -> Result<Message, String> {
        let token = fs::read_to_string(self.folder.path().join("state/admin-token")).map_err(|e| e.to_string())?;
        let mut wire = Wire::connect(self.admin).await.map_err(|error| self.trouble(&error.to_string()))?;
        let (host, token) = (self.admin, token.trim());
        wire.try_send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        ))
        .await
        .map_err(|error| error.to_string())?;
        wire.try_answer("GET").await.map_err(|error| self.trouble(&error.to_string()))
    }

    /// Runs another verb of the program on this gateway's file; its output, or what it complained of.
    pub(crate) fn cli(&self, line: &str) -> Result<String, String> {
        let mut words = line.split(' ');
        let mut command = command(self.folder.path(), words.next().expect("a verb"));
        let output = command.args(words).stdin(Stdio::null()).output().expect("the executable starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// The kinds of all events about generations.
    pub(crate) async fn kinds(&self) -> Vec<String> {
        let events = self.admin("/v1/events").await.expect("the admin API answers").json();
        let events = events["events"].as_array().expect("a list").clone();
        events.iter().map(|event| event["kind"].as_str().expect("a word").to_owned()).collect()
    }

    pub(crate) async fn status(&self) -> Status {
        let answer = self.admin("/v1/status").await.unwrap_or_else(|error| panic!("no status: {error}"));
        assert_eq!(answer.status(), 200, "{answer:?}");
        serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error} in {}", answer.text()))
    }

    /// Waits until `is` holds of the status, and returns it.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        eventually(what, async || {
            let status = self.status().await;
            if is(&status) { Ok(status) } else { Err(format!("{status:#?}\n{}", self.log())) }
        })
        .await
    }

    /// Waits until this generation of `app` is the active one.
    pub(crate) async fn active(&self, number: u64) -> Status {
        self.until(&format!("app@{number} is active"), |status| status.active("app") == Some(number)).await
    }

    /// Waits until this generation of `app` is in this state.
    pub(crate) async fn state(&self, number: u64, state: &str) -> Status {
        self.until(&format!("app@{number} is {state}"), |status| status.state("app", number) == state).await
    }

    /// Waits until so many sessions are bound to this generation of `app`.
    pub(crate) async fn sessions(&self, number: u64, count: u64) -> Status {
        let is = |status: &Status| status.generation("app", number).map_or(0, |found| found.sessions) == count;
        self.until(&format!("app@{number} has {count} sessions"), is).await
    }

    /// Writes the file without telling the gateway.
    pub(crate) fn write(&mut self, file: File) {
        write(self.folder.path(), &file);
        self.file = file;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the gateway runs");
    }

    /// Sends SIGHUP and waits until the gateway has decided about the file; the report if it rejected it.
    pub(crate) async fn hup(&self) -> Result<(), String> {
        let reloads = |log: &str| log.matches("reloaded").count() + log.matches("reload rejected").count();
        let before = reloads(&self.log());
        self.signal(Signal::HUP);
        eventually("the reload is done", async || {
            let log = self.log();
            if reloads(&log) > before { Ok(()) } else { Err(log) }
        })
        .await;
        self.status().await.gateway.reload_error.map_or(Ok(()), Err)
    }

    /// Writes services, sends SIGHUP and waits until the file is in force.
    pub(crate) async fn reload(&mut self, services: impl IntoIterator<Item = super::file::Service>) {
        let file = self.file.with(services);
        self.write(file);
        self.hup().await.unwrap_or_else(|report| panic!("the file is rejected: {report}\n{}", self.file));
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the process to end.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        eventually("the gateway ends", async || self.child.try_wait().unwrap().ok_or("it runs")).await
    }

    /// Ends it with SIGKILL and leaves its folder for the next.
    pub(crate) fn kill(mut self) -> (TempDir, File) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.check();
        let empty = TempDir::new().unwrap();
        (std::mem::replace(&mut self.folder, empty), self.file.clone())
    }

    /// What one that has ended leaves for the next.
    pub(crate) fn left(mut self) -> (TempDir, File) {
        assert!(!self.is_running());
        self.check();
        let empty = TempDir::new().unwrap();
        (std::mem::replace(&mut self.folder, empty), self.file.clone())
    }

    /// Ends it with SIGTERM, which has to succeed, and leaves its folder for the next.
    pub(crate) async fn stop(mut self) -> (TempDir, File) {
        self.signal(Signal::TERM);
        let status = self.exited().await;
        assert!(status.success(), "{status}\n{}", self.log());
        self.check();
        let empty = TempDir::new().unwrap();
        (std::mem::replace(&mut self.folder, empty), self.file.clone())
    }

    fn check(&self) {
        let log = self.log();
        assert!(!log.contains("panicked at"), "the gateway panicked:\n{log}");
    }
}

/// Runs `tidegate VERB --config FILE` on a file in `folder` to its end.
pub(crate) fn run(folder: &Path, verb: &str, file: &File) -> Output {
    write(folder, file);
    command(folder, verb).stdin(Stdio::null()).output().expect("the executable starts")
}

/// `tidegate VERB --config FILE` with the file in `folder`.
pub(crate) fn command(folder: &Path, verb: &str) -> Command {
    let mut command = Command::new(executable());
    complete(&mut command, folder, verb);
    command
}

/// Adds what comes behind the program, and where and in which environment it runs.
fn complete(command: &mut Command, folder: &Path, verb: &str) {
    command.arg(verb).arg("--config").arg(folder.join("tidegate.toml"));
    for name in ["RUST_LOG", "TIDEGATE_ADMIN", "TIDEGATE_TOKEN", "TIDEGATE_PROFILE", "NOTIFY_SOCKET", "WATCHDOG_USEC"] {
        command.env_remove(name);
    }
    command.env("RUST_BACKTRACE", "1").env("NO_COLOR", "1").env("TEST_FOLDER", folder).current_dir(folder);
}

fn write(folder: &Path, file: &File) {
    let text = file.to_string().replace("%FOLDER%", folder.to_str().unwrap());
    let new = folder.join("tidegate.toml.new");
    fs::write(&new, text).unwrap();
    fs::rename(new, folder.join("tidegate.toml")).unwrap();
}

fn append(folder: &Path, name: &str) -> fs::File {
    fs::OpenOptions::new().create(true).append(true).open(folder.join(name)).unwrap()
}

/// The first address in a TOML value.
fn address(value: &str) -> SocketAddr {
    let text = value.split('"').nth(1).expect("an address stands in quotes");
    text.parse().unwrap()
}

/// The variable by which the gateway marks its workers and all that they start.
const MARK: &[u8] = b"TIDEGATE_WORKER=";

/// All processes of the workers of a gateway in this folder, those that they started among them. The gateway's own
/// environment, which they inherit, names the folder.
pub(crate) fn workers_of(folder: &Path) -> BTreeSet<u32> {
    let own = format!("TEST_FOLDER={}", folder.display());
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |start: &[u8]| environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(start));
        lives(*pid) && has(MARK) && has(own.as_bytes())
    })
    .collect()
}

/// Whether a process is there and not a zombie.
pub(crate) fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its workers live on, but for the test they have done what they were there for.
        if self.folder.path().join("state/workers").read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            for pid in workers_of(self.folder.path()) {
                let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL);
            }
        }
        if std::thread::panicking() {
            eprintln!("--- the gateway's log ---\n{}", self.log());
        } else {
            self.check();
        }
    }
}
