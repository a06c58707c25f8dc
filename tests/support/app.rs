//! A stateful application: sessions in memory, on hyper's server, with handles for everything that a test waits for.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message as Frames, protocol::CloseFrame};

use super::wait::{eventually, within};

type Answer = Response<BoxBody<Bytes, io::Error>>;

/// A running application. Dropping it closes its listener and its connections.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    name: String,
    generation: u64,
    sessions: Mutex<HashMap<String, u64>>,
    serial: AtomicU64,
    connections: AtomicU64,
    requests: AtomicU64,
    is_ready: AtomicBool,
    /// Requests to `/slow` that wait for a permit, and permits.
    waiting: AtomicU64,
    permits: Semaphore,
    /// Answers to `/stream` that a test has not taken over yet.
    streams: Mutex<VecDeque<Stream>>,
    streamed: Notify,
    /// Close frames that clients sent, by code.
    closes: Mutex<Vec<u16>>,
}

/// The body of an answer to `/stream`, in a test's hands. Dropping it ends the body well.
pub(crate) struct Stream {
    sender: mpsc::Sender<io::Result<Frame<Bytes>>>,
}

impl Stream {
    /// Waits until the server has taken the piece before.
    pub(crate) async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), &'static str> {
        self.sender.send(Ok(Frame::data(bytes.into()))).await.map_err(|_| "the client is gone")
    }

    pub(crate) async fn trailers(self, trailers: HeaderMap) {
        self.sender.send(Ok(Frame::trailers(trailers))).await.expect("the client is there");
    }

    /// Breaks the connection in the middle of the body.
    pub(crate) async fn abort(self) {
        self.sender.send(Err(io::Error::other("the test ends it"))).await.expect("the client is there");
    }

    /// Waits until the server has given up on the client.
    pub(crate) async fn gone(&self) {
        within("the application sees that the client is gone", self.sender.closed()).await;
    }
}

struct Flow(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl Body for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}

impl App {
    /// Listens on a free port.
    pub(crate) async fn start(name: &str, generation: u64) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), name, generation).await
    }

    pub(crate) async fn start_on(address: SocketAddr, name: &str, generation: u64) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(4096).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            name: name.to_owned(),
            generation,
            sessions: Mutex::default(),
            serial: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            is_ready: AtomicBool::new(true),
            waiting: AtomicU64::new(0),
            permits: Semaphore::new(0),
            streams: Mutex::default(),
            streamed: Notify::new(),
            closes: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, task }
    }

    /// Ends it and waits until nobody can reach it any more.
    pub(crate) async fn stop(self) -> SocketAddr {
        let address = self.address;
        drop(self);
        eventually("nobody listens any more", async || match tokio::net::TcpStream::connect(address).await {
            Err(_) => Ok(()),
            Ok(_) => Err("somebody listens"),
        })
        .await;
        address
    }

    /// Sessions that are open.
    pub(crate) fn sessions(&self) -> usize {
        self.state.sessions.lock().unwrap().len()
    }

    /// Their ids.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.state.sessions.lock().unwrap().keys().cloned().collect()
    }

    pub(crate) fn has_session(&self, id: &str) -> bool {
        self.state.sessions.lock().unwrap().contains_key(id)
    }

    /// Ends a session as an application's own timeout does: nobody is told.
    pub(crate) fn forget(&self, id: &str) {
        self.state.sessions.lock().unwrap().remove(id).expect("the session was open");
    }

    /// Connections on which a request came.
    pub(crate) fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Requests other than for `/healthz`.
    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// What `/healthz` says.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.state.is_ready.store(ready, Ordering::SeqCst);
    }

    /// Requests to `/slow` that wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.state.waiting.load(Ordering::SeqCst)
    }

    /// Lets so many requests to `/slow` go.
    pub(crate) fn release(&self, count: usize) {
        self.state.permits.add_permits(count);
    }

    /// The next answer to `/stream`.
    pub(crate) async fn stream(&self) -> Stream {
        within("a request to /stream comes", async {
            loop {
                let came = self.state.streamed.notified();
                if let Some(stream) = self.state.streams.lock().unwrap().pop_front() {
                    return stream;
                }
                came.await;
            }
        })
        .await
    }

    /// Codes of the close frames that came over WebSockets.
    pub(crate) fn closes(&self) -> Vec<u16> {
        self.state.closes.lock().unwrap().clone()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let state = Arc::clone(&state);
        connections.spawn(async move {
            stream.set_nodelay(true).unwrap();
            let asked = AtomicBool::new(false);
            let service = service_fn(|request: Request<Incoming>| {
                if request.uri().path() != "/healthz" {
                    state.requests.fetch_add(1, Ordering::SeqCst);
                    if !asked.swap(true, Ordering::SeqCst) {
                        state.connections.fetch_add(1, Ordering::SeqCst);
                    }
                }
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(&state, request).await) }
            });
            // How a connection ends is for the other side to judge.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

fn full(bytes: impl Into<Bytes>) -> BoxBody<Bytes, io::Error> {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

fn plain(status: u16, text: &str) -> Answer {
    Response::builder().status(status).body(full(text.to_owned())).unwrap()
}

/// The value of a cookie in a request.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

impl State {
    /// Who answers, with more members.
    fn tell(&self, more: serde_json::Value) -> Answer {
        let mut body = json!({ "backend": self.name, "generation": self.generation });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = full(body.to_string());
        Response::builder().header(header::CONTENT_TYPE, "application/json").body(body).unwrap()
    }

    fn new_id(&self) -> String {
        format!("{:016x}-{}-{}", fastrand::u64(..), self.name, self.serial.fetch_add(1, Ordering::SeqCst))
    }

    fn open(&self, count: u64) -> String {
        let id = self.new_id();
        self.sessions.lock().unwrap().insert(id.clone(), count);
        id
    }

    /// The request's session, if it is open here.
    fn session(&self, headers: &HeaderMap) -> Option<String> {
        let id = headers.get("x-session").and_then(|id| id.to_str().ok()).or_else(|| cookie(headers, "sid"))?;
        self.sessions.lock().unwrap().contains_key(id).then(|| id.to_owned())
    }
}

fn with(mut answer: Answer, fields: &[(&'static str, &str)]) -> Answer {
    for (name, value) in fields {
        answer.headers_mut().append(*name, value.parse().unwrap());
    }
    answer
}

async fn answer(state: &Arc<State>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    // Versions of an application inside one process.
    let path = match path.strip_prefix("/app-") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]).to_owned(),
        None => path,
    };
    let query = request.uri().query().unwrap_or_default().to_owned();
    let id = state.session(request.headers());
    let logout = |fields: &[(&'static str, &str)]| match &id {
        Some(id) => {
            state.sessions.lock().unwrap().remove(id);
            with(state.tell(json!({})), fields)
        }
        None => plain(401, "no session"),
    };
    match path.as_str() {
        "/healthz" if state.is_ready.load(Ordering::SeqCst) => plain(200, "ready"),
        "/healthz" => plain(503, "not ready"),
        // Opens a session; of an open one, it changes the id, as servlet containers do against fixation.
        "/login" => {
            let count = id.and_then(|id| state.sessions.lock().unwrap().remove(&id));
            let id = state.open(count.unwrap_or(0));
            let answer = state.tell(json!({ "count": count.unwrap_or(0) }));
            match query.as_str() {
                "header" => with(answer, &[("x-session", &id)]),
                "replaced" => {
                    with(answer, &[("set-cookie", &format!("sid={id}; Path=/; HttpOnly")), ("tidegate-session", "new")])
                }
                _ => with(answer, &[("set-cookie", &format!("sid={id}; Path=/; HttpOnly"))]),
            }
        }
        "/count" => match id {
            Some(id) => {
                let mut sessions = state.sessions.lock().unwrap();
                let count = sessions.get_mut(&id).expect("it was open a moment ago");
                *count += 1;
                let count = *count;
                drop(sessions);
                state.tell(json!({ "count": count }))
            }
            None => with(plain(401, "no session"), &[("x-backend", &state.name)]),
        },
        "/logout" => logout(&[("set-cookie", "sid=; Path=/; Max-Age=0")]),
        "/logout-expires" => logout(&[("set-cookie", "sid=x; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT")]),
        "/logout-signal" => logout(&[("tidegate-session", "end")]),
        "/logout-silent" => logout(&[]),
        // A cookie of the same name elsewhere goes; the session does not.
        "/tidy" => with(state.tell(json!({})), &[("set-cookie", "sid=; Path=/elsewhere; Max-Age=0")]),
        "/where" => state.tell(json!({ "known": id.is_some() })),
        "/facts" => facts(state, request),
        // Answers with the status and the fields that the request asks for.
        path if path.starts_with("/say") => say(state, request.headers()),
        "/slow" => {
            state.waiting.fetch_add(1, Ordering::SeqCst);
            let waiting = Waiting(state);
            state.permits.acquire().await.expect("it is never closed").forget();
            drop(waiting);
            state.tell(json!({}))
        }
        "/stream" => {
            let (sender, receiver) = mpsc::channel(1);
            let body = BodyExt::boxed(Flow(receiver));
            state.streams.lock().unwrap().push_back(Stream { sender });
            state.streamed.notify_waiters();
            let answer = Response::new(body);
            if query == "login" {
                let id = state.open(0);
                return with(answer, &[("set-cookie", &format!("sid={id}; Path=/"))]);
            }
            answer
        }
        "/echo" => {
            let length = request.headers().get(header::CONTENT_LENGTH).cloned();
            let mut answer = Response::new(request.into_body().map_err(io::Error::other).boxed());
            if let Some(length) = length {
                answer.headers_mut().insert(header::CONTENT_LENGTH, length);
            }
            answer
        }
        // Reads the body to its end and says how long it was.
        "/length" => match request.into_body().collect().await {
            Ok(body) => {
                let trailers = body.trailers().map_or_else(Vec::new, pairs);
                state.tell(json!({ "length": body.to_bytes().len(), "trailers": trailers }))
            }
            Err(_) => plain(400, "the body broke off"),
        },
        // Answers without a look at the body.
        "/refuse" => plain(413, "too much"),
        "/bytes" => {
            let body = Bytes::from(vec![b'x'; query.parse().unwrap()]);
            Response::new(full(body))
        }
        "/status" => {
            let code: u16 = query.parse().unwrap();
            let body = if matches!(code, 204 | 304) { full("") } else { full(format!("this is {code}")) };
            Response::builder().status(code).header("etag", "\"1\"").body(body).unwrap()
        }
        "/ws" if request.headers().contains_key(header::SEC_WEBSOCKET_KEY) => websocket(state, request, id),
        "/upgrade" if request.headers().contains_key(header::UPGRADE) => upgrade(request),
        _ => plain(404, "there is no such page"),
    }
}

struct Waiting<'a>(&'a State);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

/// `X-Status: 302`, and a field of the answer in each `X-Say: location: /a`.
fn say(state: &State, headers: &HeaderMap) -> Answer {
    let mut answer = state.tell(json!({ "cookies": headers.get_all("cookie").iter().count() }));
    if let Some(status) = headers.get("x-status") {
        *answer.status_mut() = StatusCode::from_bytes(status.as_bytes()).unwrap();
    }
    for field in headers.get_all("x-say") {
        let at = field.as_bytes().iter().position(|&byte| byte == b':').expect("a name and a value");
        let name = http::HeaderName::from_bytes(&field.as_bytes()[..at]).unwrap();
        let value = http::HeaderValue::from_bytes(field.as_bytes()[at + 1..].trim_ascii()).unwrap();
        answer.headers_mut().append(name, value);
    }
    answer
}

/// The request as it arrived.
fn facts(state: &State, request: Request<Incoming>) -> Answer {
    let more = json!({
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "version": format!("{:?}", request.version()),
        "fields": pairs(request.headers()),
    });
    let answer = state.tell(more);
    if request.method() == Method::HEAD {
        return with(answer, &[("x-head", "yes")]);
    }
    // Fields that concern this connection only, and one that they name.
    with(answer, &[("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=5"), ("x-end", "2")])
}

/// Tells who it is, then echoes; `close` makes it say so and end, `leave` makes it hang up.
fn websocket(state: &Arc<State>, mut request: Request<Incoming>, id: Option<String>) -> Answer {
    let accept = derive_accept_key(request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    let state_of_tunnel = Arc::clone(state);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        let state = state_of_tunnel;
        let hello = json!({ "backend": state.name, "generation": state.generation, "known": id.is_some() });
        if socket.send(Frames::text(hello.to_string())).await.is_err() {
            return;
        }
        while let Some(Ok(message)) = socket.next().await {
            let sent = match message {
                Frames::Text(text) if text.as_str() == "close" => {
                    socket.close(Some(CloseFrame { code: 1000.into(), reason: "asked".into() })).await
                }
                Frames::Text(text) if text.as_str() == "leave" => return,
                Frames::Text(_) | Frames::Binary(_) => socket.send(message).await,
                Frames::Close(frame) => {
                    state.closes.lock().unwrap().push(frame.map_or(1005, |frame| frame.code.into()));
                    Ok(())
                }
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    });
    let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).body(full("")).unwrap();
    with(answer, &[("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", &accept)])
}

/// A protocol of its own: bytes come back in capitals, and the end is answered by the end.
fn upgrade(mut request: Request<Incoming>) -> Answer {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            buffer[..count].make_ascii_uppercase();
            if stream.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
        // The end, said after the last byte; the client may be gone already.
        let _ = stream.write_all(b"BYE").await;
        let _ = stream.shutdown().await;
    });
    let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).body(full("")).unwrap();
    with(answer, &[("connection", "Upgrade"), ("upgrade", "shout")])
}
