//! What it costs that the built program forgets no session: how long a new one waits for the log, and how long a start
//! takes with a full one.
//!
//! `cargo bench --profile dist --bench durability`; a start is measured with a million sessions, and with ten million as
//! well under `TIDEGATE_SCALE=full`. The state is kept in the folder that `TMPDIR` names: the numbers are those of its
//! disk. One client asks one request after the other, in turns of all gateways, so that they meet the same machine.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends the run")]

#[path = "loopback/origin.rs"]
mod origin;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidegate::clock::Clock;
use tidegate::ids::{BackendName, GenerationNumber, ServiceName, SessionHash};
use tidegate::record::binding::Fact;
use tidegate::record::segment::KeyId;
use tidegate::store::journal::{FOLDER, Journal, Options, Outcome};

/// New sessions that each gateway opens: the 9,999th of 10,000 is told by two samples.
const SESSIONS: usize = 20_000;
/// Requests to one gateway before it is another one's turn.
const TURN: usize = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "origin") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(origin::serve(&[arguments[1].parse().unwrap()]));
    }
    // `cargo test --benches` runs this too, to see that it starts.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return println!("run me with `cargo bench`");
    }
    let full = std::env::var("TIDEGATE_SCALE").is_ok_and(|scale| scale == "full");
    let origin = free_address();
    let own = std::env::current_exe().unwrap();
    let _origin =
        Process(Command::new(own).stdin(Stdio::null()).args(["origin", &origin.to_string()]).spawn().unwrap());
    reachable(origin);
    println!("Tidegate is {}", program().display());
    new_sessions(origin);
    for sessions in [1_000_000, 10_000_000].into_iter().take(if full { 2 } else { 1 }) {
        start(origin, sessions);
    }
}

fn row(name: &str, value: impl std::fmt::Display) {
    println!("{name:<52} {value:>24}");
}

/// Percentiles in microseconds.
fn spread(nanos: &mut [u64]) -> String {
    nanos.sort_unstable();
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    format!("{:.1} | {:.1} | {:.1}", at(0.5), at(0.99), at(0.9999))
}

/// Ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The build of this profile, or the one that `TIDEGATE_BIN` names.
fn program() -> PathBuf {
    std::env::var_os("TIDEGATE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_tidegate").into(), PathBuf::from)
}

fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(12_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn reachable(address: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_served(address) {
        assert!(Instant::now() < deadline, "nobody answers at {address}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a page is to be had there, be it from the application or through a gateway.
fn is_served(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let asked = stream.write_all(b"GET /page HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    asked.is_ok() && stream.read_to_end(&mut answer).is_ok() && answer.starts_with(b"HTTP/1.1 200")
}

struct Gateway {
    process: Process,
    folder: PathBuf,
    address: SocketAddr,
}

impl Gateway {
    /// Starts it in a folder, with these lines in its table `gateway`, and says how long it took to serve a page.
    fn start(folder: &Path, origin: SocketAddr, address: SocketAddr, lines: &str) -> (Self, Duration) {
        let file = format!(
            "[gateway]\nlisten = [\"{address}\"]\nadmin = \"off\"\nthreads = 1\naccess_log = \"off\"\n\
             max_sessions = 20000000\n{lines}\n[[service]]\nname = \"app\"\nbackends = [\"{origin}\"]\n\
             session = {{ cookie = \"sid\", idle_timeout = \"1h\", end = [{{ path = \"/out\" }}] }}\n"
        );
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("tidegate.toml"), file).unwrap();
        let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let began = Instant::now();
        let process = Command::new(program())
            .args(["run", "--config", "tidegate.toml"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let gateway = Self { process: Process(process), folder: folder.to_owned(), address };
        reachable(address);
        (gateway, began.elapsed())
    }

    fn memory(&self) -> f64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.process.0.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4.0 / 1_024.0
    }

    fn files(&self) -> u64 {
        let entries = fs::read_dir(self.folder.join("state").join(FOLDER)).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }
}

/// One client's connection.
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
    bound: Vec<u64>,
    new: Vec<u64>,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, answer: Vec::new(), bound: Vec::new(), new: Vec::new() }
    }

    /// Asks and waits for the answer's end; nanoseconds.
    fn ask(&mut self, request: &str, end: &[u8]) -> u64 {
        let began = Instant::now();
        self.stream.write_all(request.as_bytes()).unwrap();
        self.answer.clear();
        let mut piece = [0; 4_096];
        while !self.answer.ends_with(end) {
            let read = self.stream.read(&mut piece).unwrap();
            assert!(read > 0, "the gateway closed the connection");
            self.answer.extend_from_slice(&piece[..read]);
        }
        let nanos = began.elapsed().as_nanos() as u64;
        assert!(self.answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.answer));
        nanos
    }

    /// Opens a session, and uses it.
    fn turn(&mut self, number: usize) {
        let open = format!("GET /login?s{number:031} HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let nanos = self.ask(&open, b"\r\n\r\nok");
        self.new.push(nanos);
        let again = format!("GET /login?s{number:031} HTTP/1.1\r\nHost: app.test\r\nCookie: sid=s{number:031}\r\n\r\n");
        let nanos = self.ask(&again, b"\r\n\r\nok");
        self.bound.push(nanos);
    }
}

fn new_sessions(origin: SocketAddr) {
    println!("\n### An answer that opens a session: median | p99 | p99.99 in µs\n");
    let memory = ("nothing is kept", "state = \"memory\"");
    take_turns(origin, &[memory, ("state_sync = \"1s\"", "state = \"state\"")]);
    // By itself: a disk that syncs all the time is another disk for everybody.
    take_turns(origin, &[("state_sync = \"always\"", "state = \"state\"\nstate_sync = \"always\"")]);
}

fn take_turns(origin: SocketAddr, kinds: &[(&'static str, &str)]) {
    let root = tempfile::tempdir().unwrap();
    let start = |&(name, lines): &(&'static str, &str)| {
        let (gateway, _) = Gateway::start(&root.path().join(name), origin, free_address(), lines);
        let client = Client::new(gateway.address);
        (name, gateway, client)
    };
    let mut gateways: Vec<_> = kinds.iter().map(start).collect();
    for number in (0..SESSIONS).step_by(TURN) {
        for (_, _, client) in &mut gateways {
            for number in number..number + TURN {
                client.turn(number);
            }
        }
    }
    for (name, _, client) in &mut gateways {
        row(&format!("{name}: a new session"), spread(&mut client.new));
        row(&format!("{name}: the same, bound before"), spread(&mut client.bound));
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Binds sessions in a log as a gateway would that opens them one by one.
fn fill(folder: &Path, origin: SocketAddr, sessions: u64) {
    let key: [u8; 16] = fs::read(folder.join("state/hash-key")).unwrap().try_into().unwrap();
    let path = folder.join("state").join(FOLDER);
    let options = Options::new(KeyId::of(&key));
    let mut clock = Clock::boot();
    let (_, journal) = Journal::open(&path, options, |recovered| {
        clock = Clock::boot_at(recovered.now);
        clock.clone()
    })
    .unwrap();
    let (service, backend) = (ServiceName::new("app"), BackendName::new(&origin.to_string()));
    let mut ticket = journal.append(&[Fact::SlotNamed { slot: 0, service, generation: GenerationNumber(1), backend }]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let now = clock.now();
    for session in 0..sessions {
        let first = mix(session.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let hash = SessionHash([first, mix(first)]);
        ticket = journal.append(&[Fact::Bound { hash, slot: 0, scope: 0, opened: now, seen: now, confirmed: true }]);
        if session % 10_000 == 0 {
            assert_eq!(runtime.block_on(journal.written(ticket)), Outcome::Durable);
        }
    }
    assert_eq!(runtime.block_on(journal.written(ticket)), Outcome::Durable);
    assert!(journal.close(Duration::from_secs(60)));
}

fn start(origin: SocketAddr, sessions: u64) {
    println!("\n### A start with {sessions} sessions, until the first answer\n");
    let root = tempfile::tempdir().unwrap();
    let address = free_address();
    let lines = "state = \"state\"";
    let (gateway, empty) = Gateway::start(root.path(), origin, address, lines);
    row("with none, ms", format!("{:.0}", empty.as_secs_f64() * 1e3));
    drop(gateway);
    fill(root.path(), origin, sessions);
    for kind in ["log", "snapshot"] {
        let bytes: u64 = {
            let (gateway, took) = Gateway::start(root.path(), origin, address, lines);
            row(&format!("from a {kind}, ms"), format!("{:.0}", took.as_secs_f64() * 1e3));
            row("resident, MiB", format!("{:.0}", gateway.memory()));
            gateway.files()
        };
        row("files, MiB", format!("{:.1}", bytes as f64 / f64::from(1 << 20)));
        row("bytes a session", format!("{:.1}", bytes as f64 / sessions as f64));
        if kind == "log" {
            let output = Command::new(program())
                .args(["state", "compact", "--config", "tidegate.toml"])
                .current_dir(root.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
