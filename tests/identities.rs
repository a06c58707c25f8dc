//! Where an id may stand, who makes it, what becomes of ids that nobody knows, and what a flood of them costs.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fmt::Display;

use support::{App, Browser, File, Gateway, Service, Wire, eventually};

/// An old and a new application; the gateway stands before the old one.
struct Pair {
    old: App,
    new: App,
    gateway: Gateway,
    service: Service,
}

impl Pair {
    async fn start(session: &str) -> Self {
        Self::start_with(session, |file| file).await
    }

    async fn start_with(session: &str, change: impl FnOnce(File) -> File) -> Self {
        let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
        let service = Service::app().session(session);
        let gateway = Gateway::ready(change(File::new([service.clone().backends([old.address])]))).await;
        Self { old, new, gateway, service }
    }

    /// Makes the new application the active generation.
    async fn roll(&mut self) {
        self.gateway.reload([self.service.clone().backends([self.new.address])]).await;
        self.gateway.active(2).await;
    }

    async fn open(&self) -> u64 {
        self.gateway.status().await.gateway.sessions
    }

    /// Asks with these fields; the name of the application that answers, and the answer.
    async fn ask(&self, method: &str, target: &str, fields: &str) -> support::Message {
        Wire::open(self.gateway.address).await.ask(method, target, fields).await
    }

    async fn who(&self, target: &str, fields: &str) -> String {
        let answer = self.ask("GET", target, fields).await;
        answer.json()["backend"].as_str().unwrap().to_owned()
    }
}

/// Fields that make the application set a cookie of this value.
fn sets(cookie: impl Display) -> String {
    format!("X-Say: set-cookie: {cookie}\r\n")
}

/// `name=value` of the answer's cookie of this name.
fn cookie(answer: &support::Message, name: &str) -> Option<String> {
    let cookies = answer.head.all("set-cookie");
    let found = cookies.iter().rfind(|cookie| cookie.starts_with(&format!("{name}=")));
    found.map(|cookie| cookie.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn a_path_parameter_carries_the_id_of_the_cookie() {
    let mut pair = Pair::start("cookie = \"sid\", path_parameter = \"jsessionid\"").await;
    pair.ask("GET", "/say", &sets("sid=A1; Path=/")).await;
    pair.ask("GET", "/say", "X-Status: 302\r\nX-Say: location: /say/next;jsessionid=B2?x=1\r\n").await;
    pair.ask("GET", "/say", "X-Status: 302\r\nX-Say: location: http://elsewhere.test/say;jsessionid=C3\r\n").await;
    assert_eq!(pair.open().await, 2, "what leads to another host is no session of this one");
    pair.roll().await;
    assert_eq!(pair.who("/say;jsessionid=A1", "").await, "old");
    assert_eq!(pair.who("/say/cart;x=1;jsessionid=B2/more?jsessionid=z", "").await, "old");
    assert_eq!(pair.who("/say;jsessionid=C3", "").await, "new");
    assert_eq!(pair.who("/say;jsessionid=A1", "Cookie: sid=unknown\r\n").await, "old", "the first known one wins");
    assert_eq!(pair.who("/say?jsessionid=A1", "").await, "new");
}

#[tokio::test]
async fn a_logout_without_cookies_is_one() {
    let mut pair = Pair::start("cookie = \"sid\", path_parameter = \"p\", end = [{ path = \"/say/logout\" }]").await;
    pair.ask("GET", "/say", &sets("sid=A1; Path=/")).await;
    pair.roll().await;
    assert_eq!(pair.who("/say/logout/not;p=A1", "").await, "old");
    assert_eq!(pair.who("/say/logout;p=A1", "").await, "old");
    assert_eq!(pair.who("/say;p=A1", "").await, "new");
    pair.gateway.state(1, "retired").await;
}

#[tokio::test]
async fn ids_that_no_head_teaches_are_adopted_from_the_path_and_the_query() {
    let mut pair = Pair::start("path_segment = \"/say/*/room/{id}\", query = \"sid\"").await;
    pair.who("/say/a/room/room-secret/messages", "").await;
    pair.who("/say?x=1&sid=query-secret", "").await;
    pair.ask("GET", "/say?sid=failed", "X-Status: 404\r\n").await;
    pair.ask("GET", "/say?sid=broken", "X-Status: 500\r\n").await;
    assert_eq!(pair.open().await, 2, "what fails opens nothing");
    pair.roll().await;
    assert_eq!(pair.who("/say/b/room/room-secret", "").await, "old");
    assert_eq!(pair.who("/say?sid=query-secret", "").await, "old");
    assert_eq!(pair.who("/say?sid=%71uery-secret", "").await, "old", "an id is the same however it is written");
    assert_eq!(pair.who("/say?sid=failed", "").await, "new");
    assert_eq!(pair.who("/say?side=elsewhere", "").await, "new");
    let log = pair.gateway.stop().await.0;
    let log = std::fs::read_to_string(log.path().join("access.log")).unwrap();
    assert!(log.contains("/say?sid=…") && log.contains("/say/b/room/…"), "{log}");
    assert!(!log.contains("-secret"), "an id is a secret: {log}");
}

#[tokio::test]
async fn what_is_not_adopted_stays_unknown() {
    let pair = Pair::start("query = \"sid\", cookie = \"sid\", unknown = \"forward\", end = [{ path = \"/x\" }]").await;
    pair.who("/say?sid=q1", "Cookie: sid=c1\r\n").await;
    assert_eq!(pair.open().await, 0);
}

#[tokio::test]
async fn until_a_moment_every_unknown_id_is_adopted() {
    let mut pair = Pair::start("cookie = \"sid\", adopt_until = 2999-01-01T00:00:00Z").await;
    assert_eq!(pair.who("/say", "Cookie: sid=there-before\r\n").await, "old");
    pair.roll().await;
    assert_eq!(pair.who("/say", "Cookie: sid=there-before\r\n").await, "old");
    let past = Pair::start("cookie = \"sid\", adopt_until = 2001-01-01T00:00:00Z").await;
    past.who("/say", "Cookie: sid=there-before\r\n").await;
    assert_eq!(past.open().await, 0);
}

#[tokio::test]
async fn the_gateway_issues_a_cookie_of_its_own() {
    let mut pair = Pair::start("issue = \"gate\"").await;
    let first = pair.ask("GET", "/say", "").await;
    let lines = first.head.all("set-cookie");
    let attributes = lines[0].split_once(';').unwrap().1.to_ascii_lowercase();
    for attribute in ["httponly", "samesite=lax", "path=/"] {
        assert!(attributes.contains(attribute), "{lines:?}");
    }
    assert!(!attributes.contains("secure"), "{lines:?}");
    assert_eq!(first.head.get("cache-control"), Some("private"));
    let held = cookie(&first, "gate").unwrap();
    assert!(!held.contains(&pair.old.address.port().to_string()), "it shows no address: {held}");
    let again = pair.ask("GET", "/say", &format!("Cookie: a=b; {held}; c=d\r\n")).await;
    assert_eq!(cookie(&again, "gate"), None, "it is renewed at half of its time, not each time");
    pair.roll().await;
    assert_eq!(pair.who("/say", &format!("Cookie: {held}\r\n")).await, "old");
    let late = pair.ask("GET", "/say", "").await;
    assert_eq!(late.json()["backend"], "new");
    assert_ne!(cookie(&late, "gate").unwrap(), held);
    // It stays between the gateway and the client.
    let facts = pair.ask("GET", "/facts", &format!("Cookie: a=b; {held}; c=d\r\n")).await.json();
    let fields = facts["fields"].as_array().unwrap();
    let sent: Vec<_> = fields.iter().filter(|field| field[0] == "cookie").map(|field| field[1].clone()).collect();
    assert_eq!(sent, ["a=b; c=d"], "{facts:#}");
    let facts = pair.ask("GET", "/facts", &format!("Cookie: {held}\r\n")).await.json();
    assert!(facts["fields"].as_array().unwrap().iter().all(|field| field[0] != "cookie"), "{facts:#}");
}

#[tokio::test]
async fn no_cache_hands_a_session_to_others() {
    let pair = Pair::start("issue = \"gate\"").await;
    for shared in ["public, max-age=60", "max-age=60", "s-maxage=5"] {
        let answer = pair.ask("GET", "/say", &format!("X-Say: cache-control: {shared}\r\n")).await;
        assert_eq!((cookie(&answer, "gate"), answer.head.get("cache-control")), (None, Some(shared)));
    }
    assert_eq!(pair.open().await, 0);
    for own in ["private", "no-store", "private, max-age=60"] {
        let answer = pair.ask("GET", "/say", &format!("X-Say: cache-control: {own}\r\n")).await;
        assert!(cookie(&answer, "gate").is_some(), "{own}");
        assert_eq!(answer.head.all("cache-control"), [own]);
    }
    // The application has no say in the gateway's own cookie.
    let answer =
        pair.ask("GET", "/say", &(sets("gate=mine") + &sets("other=1") + "X-Say: cache-control: public\r\n")).await;
    assert_eq!(answer.head.all("set-cookie"), ["other=1"]);
}

#[tokio::test]
async fn a_sealed_cookie_that_is_not_of_an_open_session_opens_a_new_one() {
    let mut pair = Pair::start("issue = \"gate\", end = [{ method = \"POST\", path = \"/say/logout\" }]").await;
    let held = cookie(&pair.ask("GET", "/say", "").await, "gate").unwrap();
    let other = cookie(&pair.ask("GET", "/say", "").await, "gate").unwrap();
    pair.ask("POST", "/say/logout", &format!("Cookie: {held}\r\nContent-Length: 0\r\n")).await;
    pair.roll().await;
    // One of another gateway, with a key of its own.
    let stranger = Pair::start("issue = \"gate\"").await;
    let foreign = cookie(&stranger.ask("GET", "/say", "").await, "gate").unwrap();
    let mut flipped = other.clone().into_bytes();
    let last = flipped.len() - 5;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for (what, value) in [
        ("replayed after the logout", held.as_str()),
        ("truncated", &other[..other.len() - 3]),
        ("changed", &flipped),
        ("of another gateway", &foreign),
        ("empty", "gate="),
        ("no sealed one", "gate=AAAA"),
    ] {
        let answer = pair.ask("GET", "/say", &format!("Cookie: {value}\r\n")).await;
        assert_eq!(answer.json()["backend"], "new", "{what}");
        assert!(cookie(&answer, "gate").is_some_and(|fresh| fresh != value), "{what}");
    }
    let answer = pair.ask("GET", "/say", &format!("Cookie: {held}; {other}\r\n")).await;
    assert_eq!(answer.json()["backend"], "old", "of several the one that is open counts");
}

#[tokio::test]
async fn keys_may_be_shared_and_outlive_a_restart() {
    let key: String = (0..64).map(|_| char::from_digit(fastrand::u32(..16), 16).unwrap()).collect();
    let pair = Pair::start_with("issue = \"gate\"", |file| file).await;
    let (folder, file) = pair.gateway.stop().await;
    let path = folder.path().join("key");
    std::fs::write(&path, key).unwrap();
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    std::fs::set_permissions(&path, permissions).unwrap();
    let file = file.set("keys", format!("[\"{}\"]", path.display()));
    let gateway = Gateway::start_in(folder, file).await;
    gateway.active(1).await;
    let held = cookie(&Wire::open(gateway.address).await.get("/say").await, "gate").unwrap();
    let (folder, file) = gateway.stop().await;
    // Whether by the table or by the cookie itself: who was there is there.
    let gateway = Gateway::start_in(folder, file).await;
    gateway.active(1).await;
    let answer = Wire::open(gateway.address).await.ask("GET", "/say", &format!("Cookie: {held}\r\n")).await;
    assert_eq!(cookie(&answer, "gate"), None, "the session goes on, with the cookie that it has");
    gateway.sessions(1, 1).await;
}

#[tokio::test]
async fn an_unsure_start_takes_back_whom_it_may_have_known() {
    let mut pair = Pair::start("cookie = \"sid\", issue = \"gate\"").await;
    let held = cookie(&pair.ask("GET", "/say", "").await, "gate").unwrap();
    pair.roll().await;
    let (folder, file) = pair.gateway.stop().await;
    // As if the bindings had been lost, whatever is kept of them.
    drop(std::fs::remove_dir_all(folder.path().join("state/bindings")));
    pair.gateway = Gateway::start_in(folder, file).await;
    pair.gateway.active(2).await;
    assert_eq!(pair.who("/say", &format!("Cookie: {held}\r\n")).await, "old", "the cookie says it by itself");
    assert_eq!(pair.who("/say", "Cookie: sid=learned-before\r\n").await, "new", "where it was active");
    let third = App::start("third", 3).await;
    pair.gateway.reload([pair.service.clone().backends([third.address])]).await;
    pair.gateway.active(3).await;
    assert_eq!(pair.who("/say", "Cookie: sid=learned-before\r\n").await, "new", "and there it stays");
    assert_eq!(pair.who("/say", "Cookie: sid=seen-by-the-second\r\n").await, "new", "an unknown id is an older one");
    assert_eq!(pair.who("/say", "").await, "third");
}

#[tokio::test]
async fn two_services_of_one_space_share_their_sessions() {
    let (app, api) = (App::start("app", 1).await, App::start("api", 1).await);
    let services = |space: &str| {
        let session = format!("cookie = \"sid\", end = [{{ path = \"/x\" }}]{space}");
        [
            Service::new("app").session(&session).backends([app.address]),
            Service::new("api").session(&session).set("path", "\"/say/api\"").backends([api.address]),
        ]
    };
    for (space, expected) in [(", space = \"shop\"", "app"), ("", "api")] {
        let gateway = Gateway::ready(File::new(services(space))).await;
        Wire::open(gateway.address).await.ask("GET", "/say", &sets("sid=A")).await;
        let answer = Wire::open(gateway.address).await.ask("GET", "/say/api", "Cookie: sid=A\r\n").await;
        assert_eq!(answer.json()["backend"], expected, "{space}");
    }
}

#[tokio::test]
async fn a_cookie_of_another_path_is_another_session() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    pair.ask("GET", "/say", &sets("sid=shop; Path=/say")).await;
    // Beside the first one, not in its place; and without a path, the request's own is meant.
    pair.ask("GET", "/say/admin/login", &("Cookie: sid=shop\r\n".to_owned() + &sets("sid=admin"))).await;
    assert_eq!(pair.open().await, 2);
    pair.roll().await;
    assert_eq!(pair.who("/say", "Cookie: sid=shop\r\n").await, "old");
    assert_eq!(pair.who("/say", "Cookie: sid=admin\r\n").await, "old");
    pair.ask("GET", "/say", &("Cookie: sid=admin\r\n".to_owned() + &sets("sid=; Path=/say/admin; Max-Age=0"))).await;
    assert_eq!(pair.who("/say", "Cookie: sid=admin\r\n").await, "new", "deleted where it was set");
    pair.ask("GET", "/say", &("Cookie: sid=shop\r\n".to_owned() + &sets("sid=; Path=/say/admin; Max-Age=0"))).await;
    assert_eq!(pair.who("/say", "Cookie: sid=shop\r\n").await, "old", "deleted elsewhere");
    // One answer, one scope: the last line counts.
    let both = sets("sid=; Path=/say; Max-Age=0") + &sets("sid=renamed; Path=/say");
    pair.ask("GET", "/say", &("Cookie: sid=shop\r\n".to_owned() + &both)).await;
    assert_eq!(pair.who("/say", "Cookie: sid=renamed\r\n").await, "old");
}

#[tokio::test]
async fn strange_ids_are_ids_or_nothing() {
    let mut pair = Pair::start("cookie = \"sid\", query = \"q\"").await;
    let long = "x".repeat(8 * 1024);
    for value in ["sid=", "sid=\"\"", &format!("sid={long}")] {
        pair.ask("GET", "/say", &sets(value)).await;
    }
    pair.who(&format!("/say?q={long}"), "").await;
    pair.who("/say?q=&q", "").await;
    assert_eq!(pair.open().await, 0);
    let mut wire = Wire::open(pair.gateway.address).await;
    wire.send(b"GET /say HTTP/1.1\r\nHost: app.test\r\nX-Say: set-cookie: sid=\xff\xfe\x80; Path=/\r\n\r\n").await;
    wire.answer().await;
    pair.ask("GET", "/say", &sets("sid=\"quoted\"; Path=/")).await;
    pair.ask("GET", "/say", &(sets("sid=first; Path=/") + &sets("sid=second; Path=/"))).await;
    assert_eq!(pair.open().await, 3, "of two lines for one cookie the last one counts");
    pair.roll().await;
    let mut wire = Wire::open(pair.gateway.address).await;
    wire.send(b"GET /say HTTP/1.1\r\nHost: app.test\r\nCookie: sid=\xff\xfe\x80\r\n\r\n").await;
    assert_eq!(wire.answer().await.json()["backend"], "old");
    assert_eq!(pair.who("/say", "Cookie: sid=quoted\r\n").await, "old");
    assert_eq!(pair.who("/say", "Cookie: sid=\"quoted\"\r\n").await, "old");
    assert_eq!(pair.who("/say", "Cookie: sid=first\r\n").await, "new");
    assert_eq!(pair.who("/say", "Cookie: sid=nobody; sid=second\r\n").await, "old", "the first known one wins");
    let doubled: String = (0..200).map(|number| format!("sid=forged-{number}; ")).collect();
    assert_eq!(pair.who("/say", &format!("Cookie: {doubled}x=1\r\n")).await, "new");
}

#[tokio::test]
async fn a_server_that_knows_the_id_no_more_ends_the_session() {
    let mut pair = Pair::start("preset = \"mcp\"").await;
    let opened = "X-Say: mcp-session-id: one\r\n";
    pair.ask("POST", "/say", &format!("{opened}Content-Length: 0\r\n")).await;
    pair.roll().await;
    let session = "Mcp-Session-Id: one\r\n";
    assert_eq!(pair.who("/say", session).await, "old");
    assert_eq!(
        pair.ask("POST", "/say", &format!("{session}X-Status: 404\r\nContent-Length: 0\r\n")).await.status(),
        404
    );
    assert_eq!(pair.who("/say", session).await, "new");
    pair.gateway.state(1, "retired").await;
}

#[tokio::test]
async fn a_flood_of_forged_ids_leaves_no_trace() {
    let full = std::env::var("TIDEGATE_SCALE").is_ok_and(|scale| scale == "full");
    let (clients, requests) = (32, if full { 31_250 } else { 625 });
    let mut pair =
        Pair::start("cookie = \"sid\", header = \"X-Session\", issue = \"gate\", no_session = [{ path = \"/where\" }]")
            .await;
    let mut open = Browser::new(pair.gateway.address);
    open.login().await;
    flood(&pair, clients, 100).await;
    let (before, sessions) = (pair.gateway.memory(), pair.open().await);
    flood(&pair, clients, requests).await;
    let grown = pair.gateway.memory().saturating_sub(before);
    assert_eq!(pair.open().await, sessions);
    assert!(grown < 8 << 20, "{} forged ids cost {grown} bytes", clients * requests);
    pair.roll().await;
    assert_eq!(open.count().await.backend, "old");
}

/// Each client asks with ids that nobody has.
async fn flood(pair: &Pair, clients: usize, requests: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let gateway = pair.gateway.address;
        tasks.spawn(async move {
            let mut wire = Wire::open(gateway).await;
            for _ in 0..requests {
                let (a, b) = (fastrand::u128(..), fastrand::u128(..));
                let fields = format!("Cookie: sid={a:x}; gate={a:032x}{b:032x}{a:032x}\r\nX-Session: {b:x}\r\n");
                assert_eq!(wire.ask("GET", "/where", &fields).await.status(), 200);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn the_access_log_hides_ids_of_requests_that_belong_to_nobody() {
    let app = App::start("a", 1).await;
    let service = Service::app().session("query = \"sid\"").set("hosts", "[\"app.test\"]").backends([app.address]);
    let gateway = Gateway::ready(File::new([service])).await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET /say?sid=secret HTTP/1.1\r\nHost: other.test\r\nReferer: http://other.test/?sid=secret\r\n\r\n")
        .await;
    assert_eq!(wire.answer().await.status(), 404);
    let line = eventually("the line is written", async || {
        let log = gateway.access_log();
        if log.contains("other.test") { Ok(log) } else { Err(log) }
    })
    .await;
    assert!(!line.contains("secret"), "{line}");
}
