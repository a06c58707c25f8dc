//! What is said on one side is heard on the other, and so is that there is no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::{File, Gateway, eventually, within};
use crate::talk::{Caller, Program, before, connections, lines, service};

#[tokio::test]
async fn words_come_back_and_are_counted() {
    let program = Program::echo("a").await;
    let (gateway, _, address) = before(&[&program]).await;
    let mut caller = Caller::open(address).await;
    for size in [1, 2, 65_535, 65_536, 65_537, 4 << 20] {
        caller.say(&(0..size).map(|index| (index % 251) as u8).collect::<Vec<_>>()).await;
    }
    connections(&gateway, 1, 1).await;
    let status = gateway.status().await;
    assert_eq!((status.gateway.connections, status.gateway.sessions), (1, 0), "{:?}", status.gateway);
    caller.leave().await;
    connections(&gateway, 1, 0).await;
    let line = lines(&gateway, 1).await.remove(0);
    let said = 3 + 3 * 65_536 + (4 << 20);
    assert_eq!(line["request_bytes"], said, "{line}");
    assert_eq!(line["response_bytes"], said + "a\nbye".len(), "{line}");
    assert_eq!(line["reason"], "the client closed", "{line}");
    assert_eq!(line["backend"], program.address.to_string(), "{line}");
    assert_eq!((&line["client"], &line["status"]), (&"127.0.0.1".into(), &200.into()), "{line}");
    assert_eq!((&line["service"], &line["generation"]), (&"app".into(), &1.into()), "{line}");
}

#[tokio::test]
async fn the_combined_log_has_a_line_as_well() {
    let program = Program::echo("a").await;
    let (service, address) = service();
    let file = File::new([service.backends([program.address])]).set("access_log_format", "\"combined\"");
    let gateway = Gateway::ready(file).await;
    Caller::open(address).await.leave().await;
    let end = "request_bytes=0 reason=\"the client closed\"";
    let line = eventually("there is a line", async || {
        let log = gateway.access_log();
        log.lines().find(|line| line.ends_with(end)).map(str::to_owned).ok_or(log)
    })
    .await;
    assert!(line.contains("\"TCP - TCP\" 200 5 \"-\" \"-\" mode=tcp service=app generation=1 backend="), "{line}");
}

/// A byte of a long message, by its place.
fn pattern(place: usize) -> u8 {
    (place.wrapping_mul(2_654_435_761) >> 13) as u8
}

fn piece(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(pattern).collect()
}

const PIECE: usize = 256 * 1024;
const WHOLE: usize = 192 * PIECE;

/// Sends all of it, telling how far it is.
async fn pour(stream: &mut TcpStream, sent: &AtomicUsize) {
    for from in (0..WHOLE).step_by(PIECE) {
        stream.write_all(&piece(from, PIECE)).await.unwrap();
        sent.fetch_add(PIECE, Ordering::SeqCst);
    }
    stream.shutdown().await.unwrap();
}

/// Takes all of it, piece by piece, and looks at each; `look` is called between them.
async fn drink(stream: &mut TcpStream, mut look: impl FnMut()) {
    let mut taken = vec![0; PIECE];
    for from in (0..WHOLE).step_by(PIECE) {
        stream.read_exact(&mut taken).await.unwrap();
        assert!(taken == piece(from, PIECE), "other bytes within {PIECE} of {from}");
        look();
    }
    assert_eq!(stream.read(&mut taken).await.unwrap(), 0, "there is more than was sent");
}

/// What a gateway may hold of a connection whose other end does not read, with room for what a busy process takes anyhow.
const MOST_MEMORY: u64 = 8 << 20;

#[tokio::test]
async fn who_reads_late_gets_all_and_costs_no_memory() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let program = Program::start(move |mut stream| {
        let sent = Arc::clone(&counter);
        async move {
            // Who only asks whether it is ready hears nothing.
            if stream.read_u8().await.is_ok() {
                pour(&mut stream, &sent).await;
            }
        }
    })
    .await;
    let (gateway, _, address) = before(&[&program]).await;
    let before = gateway.memory();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"?").await.unwrap();
    eventually("more is sent than is taken", async || {
        if sent.load(Ordering::SeqCst) >= 2 * PIECE { Ok(()) } else { Err(sent.load(Ordering::SeqCst)) }
    })
    .await;
    let held = || assert!(gateway.memory() < before + MOST_MEMORY, "{} bytes more", gateway.memory() - before);
    held();
    assert!(sent.load(Ordering::SeqCst) < WHOLE, "the kernel has taken all of it");
    within("all of it", drink(&mut stream, held)).await;
}

#[tokio::test]
async fn a_program_that_reads_late_gets_all_and_costs_no_memory() {
    let (go, started) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (done, mut all) = mpsc::channel(1);
    let permits = Arc::clone(&go);
    let program = Program::start(move |mut stream| {
        let (go, done) = (Arc::clone(&permits), done.clone());
        async move {
            let mut first = [0];
            if stream.peek(&mut first).await.is_ok_and(|peeked| peeked == 1) {
                go.acquire().await.unwrap().forget();
                drink(&mut stream, || ()).await;
                stream.write_all(b"all").await.unwrap();
                done.send(()).await.unwrap();
            }
        }
    })
    .await;
    let (gateway, _, address) = before(&[&program]).await;
    let before = gateway.memory();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let sent = Arc::clone(&started);
    let pouring = tokio::spawn(async move {
        pour(&mut stream, &sent).await;
        stream
    });
    eventually("more is sent than is taken", async || {
        if started.load(Ordering::SeqCst) >= 2 * PIECE { Ok(()) } else { Err("no") }
    })
    .await;
    assert!(gateway.memory() < before + MOST_MEMORY, "{} bytes more", gateway.memory() - before);
    assert!(started.load(Ordering::SeqCst) < WHOLE, "the kernel has taken all of it");
    go.add_permits(1);
    within("all has come", all.recv()).await.unwrap();
    assert!(gateway.memory() < before + MOST_MEMORY, "{} bytes more", gateway.memory() - before);
    // The client's half has long ended.
    let (mut stream, mut last) = (pouring.await.unwrap(), Vec::new());
    within("the last word", stream.read_to_end(&mut last)).await.unwrap();
    assert_eq!(last, b"all");
}

#[tokio::test]
async fn the_program_may_end_its_half_first() {
    let (told, mut heard) = mpsc::channel(1);
    let program = Program::start(move |mut stream| {
        let told = told.clone();
        async move {
            let mut first = [0];
            if stream.read(&mut first).await.is_ok_and(|read| read == 1) {
                stream.write_all(b"no more from me").await.unwrap();
                stream.shutdown().await.unwrap();
                let mut words = Vec::new();
                stream.read_to_end(&mut words).await.unwrap();
                told.send(words).await.unwrap();
            }
        }
    })
    .await;
    let (gateway, _, address) = before(&[&program]).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"!").await.unwrap();
    let mut words = Vec::new();
    within("the end of its half", stream.read_to_end(&mut words)).await.unwrap();
    assert_eq!(words, b"no more from me");
    // The other half is open, and holds the generation.
    connections(&gateway, 1, 1).await;
    for word in ["but ", "from ", "me"] {
        stream.write_all(word.as_bytes()).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    assert_eq!(within("the words", heard.recv()).await.unwrap(), b"but from me");
    connections(&gateway, 1, 0).await;
    let line = lines(&gateway, 1).await.remove(0);
    assert_eq!(line["reason"], "the backend closed", "{line}");
}

#[tokio::test]
async fn new_connections_go_where_the_fewest_are() {
    let (a, b) = (Program::echo("a").await, Program::echo("b").await);
    for (balance, expected) in [
        ("\"least_sessions\"", Some([10, 10])),
        ("\"round_robin\"", Some([10, 10])),
        // The less loaded of two that are drawn, of two backends: the less loaded one.
        ("\"random_two\"", Some([10, 10])),
        // All come from one address.
        ("{ hash = \"client\" }", None),
    ] {
        let (service, address) = service();
        let service = service.set("balance", balance);
        let _gateway = Gateway::ready(File::new([service.backends([a.address, b.address])])).await;
        let mut callers = Vec::new();
        for _ in 0..20 {
            callers.push(Caller::open(address).await);
        }
        let at = |name: &str| callers.iter().filter(|caller| caller.name == name).count();
        let found = [at("a"), at("b")];
        match expected {
            Some(expected) => assert_eq!(found, expected, "{balance}"),
            None => assert!(found.contains(&20), "{balance}: {found:?}"),
        }
    }
}
