//! The built program over loopback beside HAProxy and nginx: CPU time per request, in interleaved rounds.
//!
//! `cargo bench --profile dist --bench loopback [-- --rounds 5 --seconds 4]`, with wrk, HAProxy and nginx installed
//! (`apt install wrk haproxy nginx-light`). The proxy under test has one core and one thread, wrk and the origin share
//! another. Every proxy writes an access log. Each request belongs to a random one of 100,000 sessions that were opened
//! before. A single absolute figure proves nothing: compare ratios of one run.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends the run")]

#[path = "loopback/origin.rs"]
mod origin;
#[path = "loopback/peers.rs"]
mod peers;

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use peers::{Peer, Process, Setup, pinned};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

const SESSIONS: usize = 100_000;
const CONNECTIONS: usize = 64;
/// Of wrk and the origin.
const LOAD_CORE: usize = 0;
const PROXY_CORE: usize = 1;

/// What is asked for: title, path, more fields.
const CASES: [(&str, &str, &str); 3] = [
    ("(a) 128-byte answers", "/page", ""),
    ("(b) 64 KiB answers", "/picture", ""),
    ("(c) a new connection per request", "/page", "Connection: close\\r\\n"),
];

/// One measurement of one proxy.
struct Sample {
    /// Microseconds of CPU time per request, user and system, all threads.
    cpu: f64,
    /// Requests per second.
    rate: f64,
    /// Milliseconds.
    p99: f64,
    /// Share of its core, in percent.
    busy: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = |index: usize| arguments[index].parse().unwrap();
    match arguments.first().map(String::as_str) {
        Some("origin") => runtime.block_on(origin::serve(&[address(1), address(2)])),
        Some("forward") => runtime.block_on(forward(address(1), address(2))),
        // `cargo test --benches` runs this too, to see that it starts.
        _ if !arguments.iter().any(|argument| argument == "--bench") => println!("run me with `cargo bench`"),
        _ => {
            let number = |name: &str, otherwise: u64| {
                let place = arguments.iter().position(|argument| argument == name);
                place.map_or(otherwise, |place| arguments[place + 1].parse().unwrap())
            };
            runtime.block_on(compare(number("--rounds", 5), number("--seconds", 4)));
        }
    }
}

fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(12_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

async fn compare(rounds: u64, seconds: u64) {
    assert!(rounds > 0 && seconds > 0);
    let folder = tempfile::tempdir().unwrap();
    let origins = [free_address(), free_address()];
    let own = std::env::current_exe().unwrap();
    let texts = origins.map(|origin| origin.to_string());
    let _origin = Process(pinned(LOAD_CORE, &own, &["origin", &texts[0], &texts[1]], folder.path(), "origin"));
    let setup = Setup { folder: folder.path(), core: PROXY_CORE, origins, free: free_address };
    let peers = setup.start();
    println!("Tidegate is {}", peers::tidegate().display());
    for address in peers.iter().map(|peer| peer.address).chain(origins) {
        reachable(address, folder.path()).await;
    }
    for peer in peers.iter().filter(|peer| peer.learns) {
        open_sessions(peer.address).await;
    }

    let mut samples: Vec<Vec<Vec<Sample>>> = Vec::new();
    let mut direct: Vec<Vec<f64>> = vec![Vec::new(); CASES.len()];
    samples.resize_with(CASES.len(), || peers.iter().map(|_| Vec::new()).collect());
    for round in 1..=rounds {
        for (case, (title, path, fields)) in CASES.iter().enumerate() {
            println!("round {round} of {rounds}: {title}");
            let script = folder.path().join("load.lua");
            fs::write(&script, load(path, fields)).unwrap();
            direct[case].push(wrk(origins[0], &script, seconds).rate);
            for (index, peer) in peers.iter().enumerate() {
                samples[case][index].push(measure(peer, &script, seconds));
                check(peer);
            }
        }
    }
    for (case, (title, ..)) in CASES.iter().enumerate() {
        print(title, &peers, &samples[case], median(direct[case].iter().copied()));
    }
}

/// Copies bytes to `origin` and back: the floor under every proxy.
async fn forward(address: SocketAddr, origin: SocketAddr) {
    let listener = tokio::net::TcpListener::bind(address).await.expect("the address is free");
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut backend = TcpStream::connect(origin).await?;
            client.set_nodelay(true)?;
            backend.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut backend).await
        });
    }
}

/// What the processes said.
fn outputs(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "out" || extension == "err"));
    files.map(|path| format!("{}: {}\n", path.display(), fs::read_to_string(&path).unwrap_or_default())).collect()
}

async fn reachable(address: SocketAddr, folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let ask = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET /page HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").await?;
            let mut answer = Vec::new();
            stream.read_buf(&mut answer).await?;
            std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
        };
        if matches!(ask.await, Ok(true)) {
            return;
        }
        assert!(Instant::now() < deadline, "nobody answers at {address}:\n{}", outputs(folder));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An id as applications make them, of 32 characters.
fn id(number: usize) -> String {
    format!("s{number:031}")
}

/// Logs every session in, so that a proxy that learns has them all in its table.
async fn open_sessions(address: SocketAddr) {
    let mut clients = Vec::new();
    for client in 0..8 {
        clients.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut answer = Vec::new();
            for number in (client..SESSIONS).step_by(8) {
                let request = format!("GET /login?{} HTTP/1.1\r\nHost: app.test\r\n\r\n", id(number));
                stream.write_all(request.as_bytes()).await.unwrap();
                answer.clear();
                while !answer.ends_with(b"\r\n\r\nok") {
                    assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the proxy closed the connection");
                }
                assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
}

/// wrk's script: heads as a browser sends them, a random session in each.
fn load(path: &str, fields: &str) -> String {
    format!(
        r#"
local head = "GET {path} HTTP/1.1\r\nHost: app.test\r\n" ..
  "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" ..
  "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" ..
  "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" ..
  "Referer: https://app.test/catalogue/overview\r\nUpgrade-Insecure-Requests: 1\r\n" ..
  "Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-User: ?1\r\n" ..
  "Priority: u=0, i\r\n{fields}Cookie: theme=dark; consent=all; sid="
local tails = {{ "; SRV=a\r\n\r\n", "; SRV=b\r\n\r\n" }}
local ids = {{}}
for number = 0, {last} do ids[number] = string.format("s%031d", number) end
local random = math.random
request = function()
  local number = random(0, {last})
  return head .. ids[number] .. tails[number % 2 + 1]
end
"#,
        last = SESSIONS - 1
    )
}

/// What wrk says.
struct Load {
    requests: f64,
    rate: f64,
    p99: f64,
}

fn wrk(address: SocketAddr, script: &Path, seconds: u64) -> Load {
    let output = Command::new("taskset")
        .args(["-c", &LOAD_CORE.to_string(), "wrk", "-t1", "--latency", "-s"])
        .arg(script)
        .args(["-c", &CONNECTIONS.to_string(), "-d", &format!("{seconds}s"), &format!("http://{address}/")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "wrk (apt install wrk): {text}");
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{address}: {text}");
    let word = |line: &str, index: usize| line.split_whitespace().nth(index).unwrap().to_owned();
    let line =
        |mark: &str| text.lines().find(|line| line.contains(mark)).unwrap_or_else(|| panic!("no {mark}: {text}"));
    Load {
        requests: word(line(" requests in "), 0).parse().unwrap(),
        rate: word(line("Requests/sec:"), 1).parse().unwrap(),
        p99: milliseconds(&word(line(" 99%"), 1)),
    }
}

fn milliseconds(text: &str) -> f64 {
    let split = text.find(|char: char| char.is_alphabetic()).unwrap();
    let number: f64 = text[..split].parse().unwrap();
    match &text[split..] {
        "us" => number / 1_000.0,
        "ms" => number,
        "s" => number * 1_000.0,
        unit => panic!("{unit} is no unit of wrk's"),
    }
}

/// CPU time of a process so far, in microseconds. The kernel counts in hundredths of a second.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the proxy runs");
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) * 10_000.0
}

fn measure(peer: &Peer, script: &Path, seconds: u64) -> Sample {
    let (before, began) = (cpu(peer.pid()), Instant::now());
    let load = wrk(peer.address, script, seconds);
    let (used, elapsed) = (cpu(peer.pid()) - before, began.elapsed());
    Sample {
        cpu: used / load.requests,
        rate: load.rate,
        p99: load.p99,
        busy: used / elapsed.as_micros() as f64 * 100.0,
    }
}

/// Looks at the end of a proxy's log and empties it. A proxy whose log does not show that it found the sessions was
/// measured at something else.
fn check(peer: &Peer) {
    let Ok(mut log) = fs::File::options().read(true).write(true).open(&peer.log) else {
        assert!(peer.mark.is_empty(), "{} wrote no access log", peer.name);
        return;
    };
    let length = log.metadata().unwrap().len();
    log.seek(SeekFrom::Start(length.saturating_sub(1 << 20))).unwrap();
    let mut tail = Vec::new();
    log.read_to_end(&mut tail).unwrap();
    let tail = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = tail.lines().filter(|line| line.contains("GET /p")).collect();
    let found = lines.iter().filter(|line| line.contains(peer.mark)).count();
    assert!(lines.len() > 100, "{} wrote {} lines into its log", peer.name, lines.len());
    // The first and the last line may be torn.
    assert!(found + 2 >= lines.len(), "{}: {found} of {} requests were bound", peer.name, lines.len());
    log.set_len(0).unwrap();
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Resident memory in MiB.
fn memory(pid: u32) -> f64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).expect("the proxy runs");
    statm.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4.0 / 1_024.0
}

fn print(title: &str, peers: &[Peer], samples: &[Vec<Sample>], direct: f64) {
    println!("\n### {title}\n");
    println!("| | CPU µs a request | × stick table | × cookie | requests/s | core busy | p99 ms | RSS MiB |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    println!("| without a proxy | – | – | – | {direct:.0} | – | – | – |");
    let of = |index: usize, value: fn(&Sample) -> f64| median(samples[index].iter().map(value));
    let base = |name: &str| peers.iter().position(|peer| peer.name == name).map(|index| of(index, |sample| sample.cpu));
    let bases = [base("HAProxy, stick table"), base("HAProxy, cookie")];
    for (index, peer) in peers.iter().enumerate() {
        let cpu = of(index, |sample| sample.cpu);
        let ratios = bases.map(|base| base.map_or_else(|| "–".to_owned(), |base| format!("{:.2}", cpu / base)));
        println!(
            "| {} | {cpu:.1} | {} | {} | {:.0} | {:.0} % | {:.2} | {:.0} |",
            peer.name,
            ratios[0],
            ratios[1],
            of(index, |sample| sample.rate),
            of(index, |sample| sample.busy),
            of(index, |sample| sample.p99),
            memory(peer.pid()),
        );
    }
}
