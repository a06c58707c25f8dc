//! Clients whose gateway dies under them: what they have seen they hold to, what they have not seen they ask again.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::support::{Message, Place, Wire, eventually, place};

/// What clients and the one who kills share.
pub(crate) struct Course {
    gateway: SocketAddr,
    /// Whether the gateway is there to be connected to.
    up: watch::Sender<bool>,
    /// Counted before each.
    kills: AtomicU64,
    /// The generation that takes new sessions, 0 while that may change; and how often it did, so that one that comes
    /// back is not taken for one that stayed.
    active: Mutex<(u64, u64)>,
    stop: AtomicBool,
    requests: AtomicU64,
    sessions: AtomicU64,
    /// Requests whose answer got lost.
    lost: AtomicU64,
    /// By the client's number.
    claims: Mutex<HashMap<usize, Claim>>,
    failures: Mutex<Vec<String>>,
}

/// Of one client: how many steps it has ended, and the session that it holds.
type Claim = (u64, Option<(String, Place)>);

impl Course {
    pub(crate) fn new(gateway: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            gateway,
            up: watch::Sender::new(true),
            kills: AtomicU64::new(0),
            active: Mutex::default(),
            stop: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            claims: Mutex::default(),
            failures: Mutex::default(),
        })
    }

    /// To be called before the gateway is killed.
    pub(crate) fn dies(&self) {
        self.up.send_replace(false);
        self.kills.fetch_add(1, Ordering::SeqCst);
    }

    /// To be called once it serves again.
    pub(crate) fn serves(&self) {
        self.up.send_replace(true);
    }

    /// From now on every new session has to be opened on this generation; 0 when that is not certain.
    pub(crate) fn announce(&self, generation: u64) {
        let mut active = self.active.lock().unwrap();
        *active = (generation, active.1 + 1);
    }

    /// The generation that takes new sessions, if it was the same one ever since `before`.
    fn active_since(&self, before: (u64, u64)) -> Option<u64> {
        (before == self.active() && before.0 != 0).then_some(before.0)
    }

    fn active(&self) -> (u64, u64) {
        *self.active.lock().unwrap()
    }

    /// Has every client end when its exchange does, with its session open.
    pub(crate) fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn told(&self) -> String {
        let [sessions, requests, lost] =
            [&self.sessions, &self.requests, &self.lost].map(|count| count.load(Ordering::SeqCst));
        format!("{sessions} sessions, {requests} answers, {lost} answers lost")
    }

    /// # Panics
    /// When a client has failed.
    pub(crate) fn check(&self) {
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{} clients failed, the first: {:#?}", failures.len(), failures.first());
    }

    /// Waits for so many further answers.
    pub(crate) async fn progress(&self, requests: u64) {
        let goal = self.requests.load(Ordering::SeqCst) + requests;
        eventually("the clients go on", async || {
            let now = self.requests.load(Ordering::SeqCst);
            let failed = !self.failures.lock().unwrap().is_empty();
            if now >= goal || failed { Ok(()) } else { Err(format!("{now} of {goal} answers")) }
        })
        .await;
        self.check();
    }

    /// Waits until every client has begun and ended an exchange.
    pub(crate) async fn round(&self) {
        let ended = || self.claims.lock().unwrap().iter().map(|(client, claim)| (*client, claim.0)).collect();
        let before: HashMap<usize, u64> = ended();
        eventually("every client goes on", async || {
            let now: HashMap<usize, u64> = ended();
            // The first may have begun before.
            let late = before.iter().filter(|(client, count)| now[client] < **count + 2).count();
            let failed = !self.failures.lock().unwrap().is_empty();
            if late == 0 || failed { Ok(()) } else { Err(format!("{late} clients do not")) }
        })
        .await;
        self.check();
    }

    /// The ids that clients hold.
    pub(crate) fn held(&self) -> HashSet<String> {
        let claims = self.claims.lock().unwrap();
        claims.values().filter_map(|(_, held)| held.as_ref().map(|(id, _)| id.clone())).collect()
    }

    /// How many sessions clients hold on a generation.
    pub(crate) fn held_on(&self, generation: u64) -> u64 {
        let claims = self.claims.lock().unwrap();
        let held = claims.values().filter_map(|(_, held)| held.as_ref());
        held.filter(|(_, home)| home.generation == generation).count() as u64
    }
}

/// One that opens a session, uses it, has its id changed, ends it, and begins anew.
pub(crate) struct Client {
    course: Arc<Course>,
    number: usize,
    wire: Option<(Wire, u64)>,
    session: Option<Session>,
    /// A session that was ended, for certain.
    ghost: Option<String>,
}

#[derive(Clone)]
struct Session {
    id: String,
    home: Place,
    /// The last number that came.
    count: u64,
    /// Requests to count whose answers did not come and that the application has not counted, as far as was seen. It
    /// may still do so: they wait in its sockets.
    unanswered: u64,
}

impl Session {
    /// It after an answer, whose request has made the number greater by `by`. None that came may be missing, nor may
    /// there be more than those whose answers did not.
    fn judge(&self, answer: &Message, by: u64) -> Result<Self, String> {
        let (home, found) = (place(answer), answer.json()["count"].as_u64());
        let expected = self.count + by..=self.count + by + self.unanswered;
        match found.filter(|count| self.home == home && expected.contains(count)) {
            Some(count) => Ok(Self { count, unanswered: expected.end() - count, ..self.clone() }),
            None => Err(format!("count {expected:?} of {:?} became {found:?} of {home:?}", self.home)),
        }
    }
}

impl Client {
    pub(crate) fn new(course: &Arc<Course>, number: usize) -> Self {
        course.claims.lock().unwrap().insert(number, (0, None));
        Self { number, ..Self::stray(course) }
    }

    /// One that holds nothing.
    pub(crate) fn stray(course: &Arc<Course>) -> Self {
        Self { course: Arc::clone(course), number: usize::MAX, wire: None, session: None, ghost: None }
    }

    /// Until the course ends or something is wrong.
    pub(crate) async fn run(mut self) -> Self {
        while !self.course.stop.load(Ordering::SeqCst) {
            if let Err(failure) = self.step().await {
                self.course.failures.lock().unwrap().push(failure);
                break;
            }
        }
        self
    }

    async fn step(&mut self) -> Result<(), String> {
        let result = if self.session.is_none() {
            self.visit_ghost().await?;
            self.login().await
        } else {
            match fastrand::u32(..30) {
                0 => self.rename().await,
                1 => self.logout().await,
                _ => self.count().await,
            }
        };
        self.claim(1);
        result
    }

    /// Says what it holds, and that it has ended so many steps more.
    fn claim(&self, steps: u64) {
        let held = self.session.as_ref().map(|session| (session.id.clone(), session.home.clone()));
        let mut claims = self.course.claims.lock().unwrap();
        let claim = claims.get_mut(&self.number).expect("it was made with the client");
        *claim = (claim.0 + steps, held);
    }

    /// Opens a session. What an answer opened that did not come is nobody's.
    pub(crate) async fn login(&mut self) -> Result<(), String> {
        loop {
            let before = self.course.active();
            let Some(answer) = self.ask("POST", "/login", None, "").await? else { continue };
            let home = place(&answer);
            if let Some(active) = self.course.active_since(before).filter(|active| *active != home.generation) {
                return Err(format!("a session opened on {home:?} while generation {active} took the new ones"));
            }
            let id = set_cookie(&answer).ok_or_else(|| format!("no session was opened: {answer:?}"))?;
            self.course.sessions.fetch_add(1, Ordering::SeqCst);
            self.session = Some(Session { id, home, count: 0, unanswered: 0 });
            return Ok(());
        }
    }

    /// Has the application change the id. If it did and the answer did not come, the session is nobody's; by its former
    /// id, which the gateway may still hold for the present one, it is closed.
    pub(crate) async fn rename(&mut self) -> Result<(), String> {
        let Some(session) = self.session.clone() else { return Ok(()) };
        let Some(answer) = self.ask("POST", "/login", Some(&session.id), "").await? else {
            self.session = None;
            self.claim(0);
            return close(self, &session.id).await;
        };
        let id = set_cookie(&answer).ok_or_else(|| format!("the id was not changed: {answer:?}"))?;
        self.session = Some(Session { id, ..session.judge(&answer, 0)? });
        Ok(())
    }

    /// Counts one further in the session.
    pub(crate) async fn count(&mut self) -> Result<(), String> {
        loop {
            let Some(session) = self.session.clone() else { return Ok(()) };
            let Some(answer) = self.ask("GET", "/count", Some(&session.id), "").await? else {
                let session = self.session.as_mut().expect("it is there");
                session.unanswered += 1;
                continue;
            };
            if answer.status() != 200 {
                return Err(format!("the session of {:?} is gone: {answer:?}", session.home));
            }
            self.session = Some(session.judge(&answer, 1)?);
            return Ok(());
        }
    }

    /// Ends the session.
    pub(crate) async fn logout(&mut self) -> Result<(), String> {
        let mut asked = 0;
        loop {
            let Some(session) = self.session.clone() else { return Ok(()) };
            asked += 1;
            let Some(answer) = self.ask("POST", "/logout", Some(&session.id), "").await? else { continue };
            if answer.status() == 401 && asked > 1 {
                // The application heard it the first time; the gateway did not hear the answer.
                close(self, &session.id).await?;
            } else if answer.status() != 200 || place(&answer) != session.home {
                return Err(format!("the session of {:?} was not there to end: {answer:?}", session.home));
            }
            self.ghost = Some(session.id);
            self.session = None;
            return Ok(());
        }
    }

    /// What was ended stays so: its id leads to the newest generation, as any unknown one.
    pub(crate) async fn visit_ghost(&mut self) -> Result<(), String> {
        let Some(ghost) = self.ghost.clone() else { return Ok(()) };
        let before = self.course.active();
        let Some(answer) = self.ask("GET", "/where", Some(&ghost), "").await? else { return Ok(()) };
        let found = place(&answer);
        if let Some(active) = self.course.active_since(before).filter(|active| *active != found.generation) {
            return Err(format!("a session that was ended is still at {found:?}, not at generation {active}"));
        }
        Ok(())
    }

    /// One exchange. `None` when the gateway died before its answer was there.
    async fn ask(
        &mut self,
        method: &str,
        target: &str,
        id: Option<&str>,
        fields: &str,
    ) -> Result<Option<Message>, String> {
        let (mut wire, since) = match self.wire.take() {
            Some(wire) => wire,
            None => self.connect().await?,
        };
        let cookie = id.map_or_else(String::new, |id| format!("Cookie: sid={id}\r\n"));
        let request = format!("{method} {target} HTTP/1.1\r\nHost: app.test\r\n{cookie}{fields}\r\n");
        let exchange = async {
            wire.try_send(request).await?;
            wire.try_answer(method).await
        };
        match exchange.await {
            Ok(answer) if matches!(answer.status(), 200 | 401) => {
                self.course.requests.fetch_add(1, Ordering::SeqCst);
                if !answer.head.has("connection", "close") {
                    self.wire = Some((wire, since));
                }
                Ok(Some(answer))
            }
            Ok(answer) => Err(format!("{method} {target}: {answer:?}")),
            Err(error) if error.kind() != io::ErrorKind::TimedOut && self.killed_since(since) => {
                self.course.lost.fetch_add(1, Ordering::SeqCst);
                Ok(None)
            }
            Err(error) => Err(format!("{method} {target}: {error}, and nobody killed the gateway")),
        }
    }

    fn killed_since(&self, since: u64) -> bool {
        self.course.kills.load(Ordering::SeqCst) > since
    }

    /// A connection, and the number of kills before it.
    async fn connect(&self) -> Result<(Wire, u64), String> {
        loop {
            let mut up = self.course.up.subscribe();
            up.wait_for(|up| *up).await.expect("the course holds the sender");
            let since = self.course.kills.load(Ordering::SeqCst);
            match Wire::connect(self.course.gateway).await {
                Ok(wire) => return Ok((wire, since)),
                Err(_) if self.killed_since(since) => {}
                Err(error) => return Err(format!("no connection, and nobody killed the gateway: {error}")),
            }
        }
    }
}

/// Has the gateway close a session by an answer that deletes the cookie, whatever the application knows of it.
pub(crate) async fn close(client: &mut Client, id: &str) -> Result<(), String> {
    let deleted = "X-Say: set-cookie: sid=; Path=/; Max-Age=0\r\n";
    while client.ask("GET", "/say", Some(id), deleted).await?.is_none() {}
    Ok(())
}

fn set_cookie(answer: &Message) -> Option<String> {
    let cookies = answer.head.all("set-cookie");
    let value = cookies.iter().find_map(|cookie| cookie.strip_prefix("sid="))?;
    value.split(';').next().filter(|value| !value.is_empty()).map(str::to_owned)
}
