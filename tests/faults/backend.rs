//! An application that can be killed, stopped and made to refuse, and that leaves word of all that it was asked.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{Head, Wire, eventually, free_address};

/// Set for the process that is to be an application: its address, its name and its journal.
const ORDERS: &str = "TIDEGATE_TEST_BACKEND";

/// What the application is. It answers:
///
/// - `/login` by a session, `/where` by who it is and what it knows of the client;
/// - `/hang` not at all;
/// - `/length`, `/chunks` and `/head` by the beginning of an answer, and then as the query says: `hang`, `close`, `reset`.
struct State {
    name: String,
    /// A line for each head that came, written before anything is done about it: it outlives the process.
    journal: Mutex<File>,
    sessions: Mutex<HashSet<String>>,
}

/// A request that an application got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Heard {
    pub(crate) method: String,
    pub(crate) target: String,
    /// By which its client knows it.
    pub(crate) token: u64,
}

impl State {
    fn new(name: &str, journal: &Path) -> Arc<Self> {
        let journal = OpenOptions::new().create(true).append(true).open(journal).unwrap();
        Arc::new(Self { name: name.to_owned(), journal: Mutex::new(journal), sessions: Mutex::default() })
    }

    fn note(&self, head: &Head) {
        let token = head.get("x-token").unwrap_or("0");
        let line = format!("{} {} {token}\n", head.method(), head.target());
        self.journal.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }
}

fn heard(journal: &Path) -> Vec<Heard> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    let lines = text.lines().map(|line| {
        let mut words = line.split(' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_else(|| panic!("a line of the journal: {line:?}"));
        Heard { method: word(), target: word(), token: word().parse().unwrap() }
    });
    lines.filter(|heard| heard.target != "/healthz").collect()
}

/// Serves until it is dropped, and closes all its connections then.
async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    stream.set_nodelay(true).unwrap();
    let mut wire = Wire::new(stream);
    // How a connection ends is for the other side to judge.
    while let Ok(Some(head)) = wire.try_head().await {
        state.note(&head);
        if wire.body(&head, false).await.is_err() {
            return;
        }
        let target = head.target().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let begun = match path {
            "/hang" => String::new(),
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf".to_owned(),
            "/chunks" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_owned(),
            "/head" => "HTTP/1.1 200 OK\r\nContent-Type: text/pl".to_owned(),
            _ => {
                if wire.try_send(whole(&state, &head, path)).await.is_err() {
                    return;
                }
                continue;
            }
        };
        if wire.try_send(begun).await.is_err() {
            return;
        }
        match query {
            "close" => return,
            "reset" => return wire.reset(),
            // Until whoever asked gives up, or this process is killed.
            _ => drop(wire.rest().await),
        }
        return;
    }
}

fn whole(state: &State, head: &Head, path: &str) -> String {
    let cookies = head.all("cookie").join("; ");
    let id = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("sid=")).map(str::to_owned);
    let is_known = id.is_some_and(|id| state.sessions.lock().unwrap().contains(&id));
    let mut fields = String::new();
    if path == "/login" {
        let id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        fields = format!("Set-Cookie: sid={id}; Path=/\r\n");
        state.sessions.lock().unwrap().insert(id);
    }
    let lost = head.get("tidegate-session-lost");
    let body =
        serde_json::json!({ "backend": state.name, "generation": 1, "known": is_known, "lost": lost }).to_string();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
}

/// The application as a process of its own. Dropping it kills the process.
pub(crate) struct Process {
    child: Option<Child>,
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    folder: TempDir,
}

impl Process {
    /// Starts it and waits until it listens.
    pub(crate) async fn start(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut process = Self { child: None, address: free_address(), name: name.to_owned(), folder };
        process.restart().await;
        process
    }

    /// Starts it at the same address, without what it had in memory.
    pub(crate) async fn restart(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "backend::a_process_of_its_own", "--nocapture"]);
        command.env(ORDERS, format!("{} {} {}", self.address, self.name, self.journal().display()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
        let address = self.address;
        eventually("the application listens", async || TcpStream::connect(address).await.map(drop)).await;
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    /// What it has been asked, in all its lives.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        heard(&self.journal())
    }

    /// SIGKILL; its sockets are closed when this returns.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// SIGSTOP: from here on it does nothing at all, though the system goes on taking connections in its name.
    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        let (_, status) = waitpid(Some(self.pid()), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// The other end of [`Process::restart`], which starts this very function. Without orders it shows that it works.
#[test]
fn a_process_of_its_own() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Ok(orders) = std::env::var(ORDERS) {
        // Nobody outlives a test that is broken off.
        set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
        let mut words = orders.splitn(3, ' ');
        let mut word = || words.next().unwrap();
        let (address, name, journal): (SocketAddr, _, _) = (word().parse().unwrap(), word(), word());
        let state = State::new(name, Path::new(journal));
        return runtime.block_on(async { serve(TcpListener::bind(address).await.unwrap(), state).await });
    }
    runtime.block_on(async {
        let mut process = Process::start("a").await;
        let ask = async || Wire::open(process.address).await.ask("POST", "/where", "X-Token: 7\r\n").await;
        assert_eq!(ask().await.json()["backend"], "a");
        let expected = Heard { method: "POST".to_owned(), target: "/where".to_owned(), token: 7 };
        process.kill();
        assert!(TcpStream::connect(process.address).await.is_err());
        process.restart().await;
        assert_eq!(process.heard(), [expected]);
    });
}

/// The application in this process, which keeps its memory while it refuses. Dropping it ends it.
pub(crate) struct Local {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    task: Option<JoinHandle<()>>,
    folder: TempDir,
}

impl Local {
    pub(crate) async fn start(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let state = State::new(name, &folder.path().join("journal"));
        let mut local = Self { address: free_address(), state, task: None, folder };
        local.admit().await;
        local
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        heard(&self.folder.path().join("journal"))
    }

    /// Closes its listener and its connections: whoever connects is refused.
    pub(crate) async fn refuse(&mut self) {
        let task = self.task.take().expect("it listens");
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
        assert!(TcpStream::connect(self.address).await.is_err(), "somebody listens");
    }

    /// Listens again at the same address.
    pub(crate) async fn admit(&mut self) {
        assert!(self.task.is_none(), "it listens");
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.task = Some(tokio::spawn(serve(listener, Arc::clone(&self.state))));
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
