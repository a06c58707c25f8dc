//! What a session is, it is after the gateway's death: renamed, closed, seen once, idle, held by a tab, or lost.

use std::fs;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{App, Browser, File, Gateway, Message, Service, Socket, Wire, eventually, full_scale};

const END: &str = "end = [{ path = \"/say/logout\" }]";

/// An old and a new application; the gateway stands before the old one at first.
pub(crate) struct Pair {
    pub(crate) old: App,
    pub(crate) new: App,
    /// `None` while it is dead.
    gateway: Option<Gateway>,
    session: String,
}

impl Pair {
    pub(crate) async fn start(session: &str) -> Self {
        let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
        let session = format!("{session}, {END}");
        let service = Service::app().session(&session).generation(1, [old.address]);
        let gateway = Gateway::ready(File::new([service])).await;
        Self { old, new, gateway: Some(gateway), session }
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("it runs")
    }

    /// The file's service with the old application, and the new one from the roll on.
    pub(crate) fn service(&self, generations: u64) -> Service {
        let service = Service::app().session(&self.session).generation(1, [self.old.address]);
        if generations == 1 { service } else { service.generation(2, [self.new.address]) }
    }

    pub(crate) async fn roll(&mut self) {
        let service = self.service(2);
        self.gateway.as_mut().expect("it runs").reload([service]).await;
        self.gateway().active(2).await;
    }

    /// Ends it without a word, has `meanwhile` done, and starts it again.
    pub(crate) async fn kill(&mut self, meanwhile: impl AsyncFnOnce(&std::path::Path)) {
        let (folder, file) = self.gateway.take().expect("it runs").kill();
        meanwhile(folder.path()).await;
        self.gateway = Some(Gateway::start_in(folder, file).await);
    }

    /// The same by SIGTERM.
    pub(crate) async fn stop(&mut self, meanwhile: impl AsyncFnOnce(&std::path::Path)) {
        let (folder, file) = self.gateway.take().expect("it runs").stop().await;
        meanwhile(folder.path()).await;
        self.gateway = Some(Gateway::start_in(folder, file).await);
    }

    /// Ends it by SIGTERM; [`Pair::start_in`] goes on.
    pub(crate) async fn end(mut self) -> (Self, TempDir, File) {
        let (folder, file) = self.gateway.take().expect("it runs").stop().await;
        (self, folder, file)
    }

    pub(crate) async fn start_in(self, folder: TempDir, file: File) -> Self {
        Self { gateway: Some(Gateway::start_in(folder, file).await), ..self }
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser::new(self.gateway().address)
    }

    pub(crate) async fn ask(&self, target: &str, fields: &str) -> Message {
        Wire::open(self.gateway().address).await.ask("GET", target, fields).await
    }

    /// Which application answers to a cookie.
    pub(crate) async fn who(&self, cookie: &str) -> String {
        let answer = self.ask("/where", &format!("Cookie: {cookie}\r\n")).await;
        answer.json()["backend"].as_str().unwrap().to_owned()
    }
}

async fn at_once(_: &std::path::Path) {}

/// Waits until so much time has passed by the clock: what a timeout is compared with.
pub(crate) async fn passed(time: Duration) {
    let began = Instant::now();
    eventually("the time has passed", async || if began.elapsed() > time { Ok(()) } else { Err("not yet") }).await;
}

#[tokio::test]
async fn a_changed_id_stays_changed() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    let mut user = pair.browser();
    user.login().await;
    user.count().await;
    pair.roll().await;
    let former = user.id.clone().unwrap();
    let renamed = user.get("/login").await;
    assert_eq!((&renamed.json()["backend"], &renamed.json()["count"]), (&"old".into(), &1.into()));
    let present = user.id.clone().unwrap();
    assert_ne!(former, present);
    pair.kill(at_once).await;
    assert_eq!(pair.gateway().status().await.generation("app", 1).unwrap().sessions, 1, "it counts once");
    let answer = pair.ask("/count", &format!("Cookie: sid={present}\r\n")).await;
    assert_eq!((answer.status(), &answer.json()["count"]), (200, &2.into()));
    assert_eq!(pair.who(&format!("sid={former}")).await, "old", "a request that was on its way understands it");
    // And ends under its new name.
    pair.ask("/logout", &format!("Cookie: sid={present}\r\n")).await;
    pair.kill(at_once).await;
    assert_eq!(pair.who(&format!("sid={present}")).await, "new");
    // Until its generation is gone, a former id is understood for a while.
    pair.gateway().state(1, "retired").await;
    assert_eq!(pair.who(&format!("sid={former}")).await, "new");
}

#[tokio::test]
async fn a_sealed_cookie_that_was_closed_is_not_replayed() {
    let mut pair = Pair::start("issue = \"gate\"").await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let answer = pair.ask("/say", "").await;
        let cookie = answer.head.all("set-cookie")[0].split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with("gate="), "{cookie}");
        assert_eq!(pair.who(&cookie).await, "old");
        held.push(cookie);
    }
    pair.roll().await;
    pair.ask("/say/logout", &format!("Cookie: {}\r\n", held[0])).await;
    pair.kill(at_once).await;
    assert_eq!(pair.who(&held[0]).await, "new", "it was closed");
    assert_eq!(pair.who(&held[1]).await, "old", "it was not");
    pair.ask("/say/logout", &format!("Cookie: {}\r\n", held[1])).await;
    pair.gateway().state(1, "retired").await;
}

#[tokio::test]
async fn whatever_closed_a_session_closed_it() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let mut user = pair.browser();
        user.login().await;
        user.count().await;
        ids.push(user.id.unwrap());
    }
    pair.roll().await;
    for (id, target) in ids.iter().zip(["/logout", "/logout-expires", "/logout-signal", "/say/logout"]) {
        pair.ask(target, &format!("Cookie: sid={id}\r\n")).await;
    }
    pair.kill(at_once).await;
    for id in &ids[..4] {
        assert_eq!(pair.who(&format!("sid={id}")).await, "new");
    }
    assert_eq!(pair.who(&format!("sid={}", ids[4])).await, "old");
    assert_eq!(pair.gateway().status().await.state("app", 1), "detached");
}

#[tokio::test]
async fn who_was_seen_once_was_seen_once() {
    let mut pair = Pair::start("cookie = \"sid\", unconfirmed_timeout = \"1s\"").await;
    let mut user = pair.browser();
    user.login().await;
    user.count().await;
    for _ in 0..20 {
        pair.browser().login().await;
    }
    pair.kill(at_once).await;
    let status = pair.gateway().status().await;
    assert_eq!((status.gateway.sessions, status.gateway.unconfirmed), (21, 20), "{status:#?}");
    pair.roll().await;
    pair.gateway().sessions(1, 1).await;
    assert_eq!(pair.who(&format!("sid={}", user.id.unwrap())).await, "old", "a user is no passer-by");
}

/// The log knows when a session was last used but for an error, which is made up for: by the idle timeout and 16
/// seconds. What is to be seen behind that has to take longer.
const BEYOND_ERRORS: Duration = Duration::from_secs(25);

#[tokio::test]
async fn idle_time_rests_while_the_gateway_is_down() {
    let mut pair = Pair::start("cookie = \"sid\", idle_timeout = \"3s\"").await;
    let mut user = pair.browser();
    user.login().await;
    pair.roll().await;
    user.count().await;
    pair.kill(async |_| passed(BEYOND_ERRORS).await).await;
    // Long enough for what is over to be closed.
    passed(Duration::from_millis(1_500)).await;
    let answer = pair.ask("/count", &format!("Cookie: sid={}\r\n", user.id.unwrap())).await;
    assert_eq!((answer.status(), &answer.json()["backend"]), (200, &"old".into()));
    // From now on it runs again.
    pair.gateway().state(1, "retired").await;
}

#[tokio::test]
async fn a_session_lives_by_the_tab_that_was_open_when_the_gateway_died() {
    let mut pair = Pair::start("cookie = \"sid\", idle_timeout = \"3s\"").await;
    let mut user = pair.browser();
    user.login().await;
    let id = user.id.clone().unwrap();
    let mut plain = pair.browser();
    plain.login().await;
    let _tab = Socket::tab(pair.gateway().address, &id).await;
    pair.roll().await;
    // Only the tab has kept it.
    pair.gateway().sessions(1, 1).await;
    passed(BEYOND_ERRORS).await;
    // Somebody else, so that the log knows how late it is.
    pair.browser().login().await;
    pair.kill(at_once).await;
    passed(Duration::from_millis(1_500)).await;
    assert_eq!(pair.gateway().status().await.generation("app", 1).unwrap().sessions, 1);
    let answer = pair.ask("/count", &format!("Cookie: sid={id}\r\n")).await;
    assert_eq!((answer.status(), &answer.json()["backend"]), (200, &"old".into()));
    // The tab is gone with the gateway.
    pair.gateway().state(1, "retired").await;
}

#[tokio::test]
async fn a_session_whose_generation_is_gone_is_lost_and_counted() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    let mut early = pair.browser();
    early.login().await;
    let fleet = pair.gateway().folder().join("state/fleet");
    pair.gateway().until("the state is on the disk", |status| status.gateway.durable).await;
    let older = fs::read(&fleet).unwrap();
    pair.roll().await;
    let mut late = pair.browser();
    late.login().await;
    assert_eq!(pair.who(&format!("sid={}", late.id.clone().unwrap())).await, "new");
    // An operator brings back a copy of the record and the file that went with it.
    let (pair, folder, file) = pair.end().await;
    fs::write(folder.path().join("state/fleet"), older).unwrap();
    let file = file.with([pair.service(1)]);
    let pair = pair.start_in(folder, file).await;
    let status = pair.gateway().status().await;
    assert_eq!(status.active("app"), Some(1));
    assert_eq!(status.recovered(), (1, 1), "{status:#?}\n{}", pair.gateway().log());
    assert_eq!(pair.who(&format!("sid={}", early.id.unwrap())).await, "old");
    let answer = pair.ask("/login", &format!("Cookie: sid={}\r\n", late.id.unwrap())).await;
    assert_eq!((answer.status(), &answer.json()["backend"]), (200, &"old".into()), "it begins anew");
    assert_eq!(pair.gateway().status().await.gateway.sessions, 2);
}

#[tokio::test]
async fn ends_and_starts_lose_nothing() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    let mut users = Vec::new();
    for turn in 0..if full_scale() { 20 } else { 3 } {
        if turn == 2 {
            pair.roll().await;
        }
        for _ in 0..20 {
            let mut user = pair.browser();
            let home = user.login().await;
            users.push((user.id.unwrap(), home.backend));
        }
        pair.stop(at_once).await;
        let status = pair.gateway().status().await;
        assert_eq!((status.gateway.sessions, status.gateway.unsure), (users.len() as u64, false), "{status:#?}");
        for (id, backend) in &users {
            let answer = pair.ask("/count", &format!("Cookie: sid={id}\r\n")).await;
            assert_eq!((answer.status(), answer.json()["backend"].as_str()), (200, Some(backend.as_str())));
        }
    }
    assert!(users.iter().any(|(_, backend)| backend == "new"));
}
