//! Clients who write down what became of each of their requests, and the books that are made up at the end.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::backend::Heard;
use super::support::http2::request;
use super::support::{Gateway, Http2, Message, Status, Wire, eventually, place};

/// How often each outcome came.
pub(crate) type Tally = BTreeMap<String, usize>;

/// Counts outcomes.
pub(crate) fn tally<S: Into<String>>(outcomes: impl IntoIterator<Item = S>) -> Tally {
    let mut tally = Tally::new();
    for outcome in outcomes {
        *tally.entry(outcome.into()).or_default() += 1;
    }
    tally
}

/// A tally as a test expects it.
pub(crate) fn of<const N: usize>(counts: [(&str, usize); N]) -> Tally {
    counts.into_iter().map(|(outcome, count)| (outcome.to_owned(), count)).collect()
}

/// All requests that were made, by token, and what became of them.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<BTreeMap<u64, String>>>);

static TOKENS: AtomicU64 = AtomicU64::new(1);

impl Ledger {
    fn token() -> u64 {
        TOKENS.fetch_add(1, Ordering::Relaxed)
    }

    fn note(&self, token: u64, outcome: &str) {
        self.0.lock().unwrap().insert(token, outcome.to_owned());
    }

    /// How many requests became this.
    pub(crate) fn count(&self, outcome: &str) -> usize {
        self.0.lock().unwrap().values().filter(|one| one.as_str() == outcome).count()
    }

    /// Compares what became of requests with what the applications heard: one that an application answered, or that
    /// failed on its way back, was heard by one application once; one that the gateway answered by itself by none.
    pub(crate) fn audit<'h>(&self, heard: impl IntoIterator<Item = &'h Vec<Heard>>) {
        self.compare(heard, |times| times == 1);
    }

    /// The same where a request that failed may have been on its way to an application that was killed.
    pub(crate) fn audit_kills<'h>(&self, heard: impl IntoIterator<Item = &'h Vec<Heard>>) {
        self.compare(heard, |times| times <= 1);
    }

    fn compare<'h>(&self, heard: impl IntoIterator<Item = &'h Vec<Heard>>, of_failed: impl Fn(usize) -> bool) {
        let mut times: BTreeMap<u64, usize> = BTreeMap::new();
        for heard in heard.into_iter().flatten() {
            *times.entry(heard.token).or_default() += 1;
        }
        let ledger = self.0.lock().unwrap();
        assert!(!ledger.is_empty());
        for (token, outcome) in &*ledger {
            let found = times.remove(token).unwrap_or_default();
            let is_right = match outcome.as_str() {
                "502" | "504" | "cut" => of_failed(found),
                // Its head had left when its client stopped.
                "408" => found == 1,
                _ => found == usize::from(outcome.starts_with("200")),
            };
            assert!(is_right, "request {token} became {outcome:?} and was heard {found} times");
        }
        assert!(times.is_empty(), "requests that nobody made: {times:?}");
    }
}

/// A client with a session, or that opens one.
pub(crate) struct Client {
    gateway: SocketAddr,
    wire: Option<Wire>,
    ledger: Ledger,
    pub(crate) id: Option<String>,
    /// Who holds its session.
    pub(crate) home: String,
}

/// What an answer is in short: its status; for 200, whether it is of the client's own backend or another one, and
/// whether that was told of a loss; otherwise when to try again, where to go, and whether the session's cookie is
/// deleted.
pub(crate) fn outcome(home: &str, answer: &io::Result<Message>) -> String {
    let Ok(answer) = answer else { return "cut".to_owned() };
    let mut words = vec![answer.status().to_string()];
    if answer.status() == 200 {
        let json = answer.json();
        words.push(if place(answer).backend == home { "own" } else { "other" }.to_owned());
        words.extend(json["lost"].as_str().map(|lost| format!("lost {lost}")));
    }
    words.extend(answer.head.get("retry-after").map(|seconds| format!("retry {seconds}")));
    words.extend(answer.head.get("location").map(|place| format!("to {place}")));
    let cookies = answer.head.all("set-cookie");
    words.extend(cookies.iter().any(|cookie| cookie.starts_with("sid=;")).then(|| "forget".to_owned()));
    words.join(" ")
}

impl Client {
    pub(crate) fn new(gateway: SocketAddr, ledger: &Ledger) -> Self {
        Self { gateway, wire: None, ledger: ledger.clone(), id: None, home: String::new() }
    }

    /// One who has logged in.
    pub(crate) async fn logged_in(gateway: SocketAddr, ledger: &Ledger) -> Self {
        let mut client = Self::new(gateway, ledger);
        let (token, answer) = client.exchange("POST", "/login", "").await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200, "{answer:?}");
        client.home = place(&answer).backend;
        let cookie = answer.head.get("set-cookie").unwrap();
        client.id = Some(cookie["sid=".len()..].split(';').next().unwrap().to_owned());
        client.ledger.note(token, "200 own");
        client
    }

    /// The same session over another connection.
    pub(crate) fn tab(&self) -> Self {
        let (id, home) = (self.id.clone(), self.home.clone());
        Self { gateway: self.gateway, wire: None, ledger: self.ledger.clone(), id, home }
    }

    /// Sends the head of a request, and `body` behind it.
    async fn send(&mut self, method: &str, target: &str, body: &str) -> (u64, io::Result<Wire>) {
        let token = Ledger::token();
        let cookie = self.id.as_ref().map_or_else(String::new, |id| format!("Cookie: sid={id}\r\n"));
        let accept = "Accept: text/html,*/*;q=0.8";
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: app.test\r\nX-Token: {token}\r\n{accept}\r\n{cookie}{body}");
        let body_or_end = if body.is_empty() { "\r\n" } else { "" };
        let sent = async {
            let mut wire = match self.wire.take() {
                Some(wire) => wire,
                None => Wire::connect(self.gateway).await?,
            };
            wire.try_send(head + body_or_end).await?;
            Ok(wire)
        };
        (token, sent.await)
    }

    async fn exchange(&mut self, method: &str, target: &str, body: &str) -> (u64, io::Result<Message>) {
        let (token, sent) = self.send(method, target, body).await;
        let answer = async {
            let mut wire = sent?;
            let answer = wire.try_answer(method).await?;
            if !answer.head.has("connection", "close") && body.is_empty() {
                self.wire = Some(wire);
            }
            Ok(answer)
        };
        (token, answer.await)
    }

    /// Asks once and says in short what became of it.
    pub(crate) async fn ask(&mut self, method: &str, target: &str) -> String {
        self.ask_with(method, target, "").await
    }

    /// The same with the rest of the head, the empty line behind it, and a body.
    pub(crate) async fn ask_with(&mut self, method: &str, target: &str, rest: &str) -> String {
        let (token, answer) = self.exchange(method, target, rest).await;
        let outcome = outcome(&self.home, &answer);
        self.ledger.note(token, &outcome);
        outcome
    }

    /// Sends a body of so many bytes for as long as somebody takes them, and reads the answer meanwhile.
    pub(crate) async fn upload(&self, target: &str, bytes: usize) -> String {
        let mut client = self.tab();
        let (token, sent) = client.send("POST", target, &format!("Content-Length: {bytes}\r\n\r\n")).await;
        let stream = sent.unwrap().into_stream().into_std().unwrap();
        let mut write = TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
        let mut read = Wire::new(TcpStream::from_std(stream).unwrap());
        let sending = tokio::spawn(async move {
            let piece = vec![b'x'; 64 * 1024];
            let mut left = bytes;
            // An error is how it is told to stop.
            while left > 0 && write.write_all(&piece[..left.min(piece.len())]).await.is_ok() {
                left = left.saturating_sub(piece.len());
            }
        });
        let answer = read.try_answer("POST").await;
        sending.abort();
        let outcome = outcome(&self.home, &answer);
        self.ledger.note(token, &outcome);
        outcome
    }

    /// Asks once over a connection of HTTP/2 that it shares; an answer that breaks off is one that was reset.
    pub(crate) async fn ask_over(&self, http2: &Http2, method: &str, target: &str) -> String {
        let token = Ledger::token();
        let (cookie, text) = (format!("sid={}", self.id.as_deref().unwrap_or_default()), token.to_string());
        let asked = http2.try_ask(request(method, target, &[("cookie", &cookie), ("x-token", &text)])).await;
        let outcome = match asked {
            Ok(reply) if reply.status == 200 && reply.json()["backend"] == self.home.as_str() => "200 own".to_owned(),
            Ok(reply) => reply.status.as_str().to_owned(),
            Err(error) => {
                assert!(error.is_reset() && error.is_remote(), "{error}");
                "cut".to_owned()
            }
        };
        self.ledger.note(token, &outcome);
        outcome
    }
}

/// So many clients with a session at each of two backends that take new ones in turn, the first of the first backend.
pub(crate) async fn sessions(
    gateway: &Gateway,
    ledger: &Ledger,
    names: [&str; 2],
    each: usize,
) -> (Vec<Client>, Vec<Client>) {
    let mut all = Vec::new();
    for _ in 0..2 * each {
        all.push(Client::logged_in(gateway.address, ledger).await);
    }
    let (first, second): (Vec<_>, Vec<_>) = all.into_iter().partition(|client| client.home == names[0]);
    assert!(first.len() == each && second.iter().all(|client| client.home == names[1]), "in turns");
    (first, second)
}

/// Has all of them ask at one time; what became of it, in order.
pub(crate) async fn all_ask(clients: &mut [Client], method: &str, target: &str) -> Vec<String> {
    futures_util::future::join_all(clients.iter_mut().map(|client| client.ask(method, target))).await
}

/// New clients who ask one after the other, by GET and POST in turn; what became of it. None opens a session.
pub(crate) async fn newcomers(gateway: &Gateway, ledger: &Ledger, home: &str, count: usize) -> Tally {
    let mut outcomes = Vec::new();
    for turn in 0..count {
        let mut client = Client::new(gateway.address, ledger);
        home.clone_into(&mut client.home);
        outcomes.push(client.ask(if turn % 2 == 0 { "GET" } else { "POST" }, "/where").await);
    }
    tally(outcomes)
}

/// Clients who ask one request after the other until they are told to stop.
pub(crate) struct Steady {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Steady {
    pub(crate) fn begin(clients: Vec<Client>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let work = |mut client: Client| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    outcomes.push(client.ask(if outcomes.len() % 2 == 0 { "GET" } else { "POST" }, "/where").await);
                }
                outcomes
            })
        };
        let tasks = clients.into_iter().map(work).collect();
        Self { stop, tasks }
    }

    /// What became of all that they asked.
    pub(crate) async fn end(self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        let mut outcomes = Vec::new();
        for task in self.tasks {
            outcomes.extend(task.await.unwrap());
        }
        tally(outcomes)
    }

    /// The same, where all went well.
    pub(crate) async fn end_well(self) {
        let tally = self.end().await;
        assert!(tally.len() == 1 && tally.contains_key("200 own"), "{tally:?}");
    }
}

/// What the status says of the backend at an address of `app@1`.
pub(crate) fn backend(status: &Status, address: SocketAddr) -> crate::support::Backend {
    let backends = &status.generation("app", 1).expect("app@1 is there").backends;
    backends.iter().find(|one| one.address == address.to_string()).expect("it is listed").clone()
}

/// Waits until the backend at an address is ejected, or no longer; for what, as the status says.
pub(crate) async fn ejected(gateway: &Gateway, address: SocketAddr, is_ejected: bool) -> Option<String> {
    let what = format!("{address} is ejected: {is_ejected}");
    let status = gateway.until(&what, |status| backend(status, address).ejected_until.is_some() == is_ejected).await;
    backend(&status, address).ejection_reason
}

/// Waits until the access log has so many lines, of those with this text in them, as tests expect by status.
pub(crate) async fn logged(gateway: &Gateway, text: &str, status: u16, count: usize) {
    eventually("the access log tells of each request", async || {
        let log = gateway.access_log();
        let status = format!("\"status\":{status},");
        let found = log.lines().filter(|line| line.contains(text) && line.contains(&status)).count();
        if found == count { Ok(()) } else { Err(format!("{found} of {count} lines with {status} in\n{log}")) }
    })
    .await;
}
