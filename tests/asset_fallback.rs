//! Files of other generations (`asset_fallback`): who is asked, what for, and what of the answer counts.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::{App, Browser, File, Gateway, Http2, Message, Script, Service, Wire, answer, eventually};

/// A version of an application: it has `/assets/<name>.js`, opens sessions at `/login`, and has a 404 of its own.
async fn version(name: &'static str) -> Script {
    Script::start(move |request: &Message| {
        let path = request.head.target().split(['?', ';']).next().unwrap();
        let file = format!("/assets/{name}.js");
        Some(if path == "/login" {
            answer(200, &format!("Set-Cookie: sid={name}; Path=/"), name)
        } else if path != file {
            answer(404, "Set-Cookie: sid=lost; Path=/", &format!("{name} has no such file"))
        } else if request.head.get("if-none-match") == Some("\"1\"") {
            answer(304, "ETag: \"1\"", "")
        } else if request.head.get("range").is_some() {
            answer(206, "Content-Range: bytes 0-1/9", "fi")
        } else {
            // All by which another generation could reach the client's session.
            let fields = "Set-Cookie: sid=foreign; Path=/\nTidegate-Session: end\nClear-Site-Data: \"cookies\"";
            answer(200, fields, &format!("file of {name}"))
        })
    })
    .await
}

const RULES: &str = "cookie = \"sid\", path_parameter = \"sid\", query = \"sid\", header = \"X-Session\"";

fn service() -> Service {
    Service::app().session(RULES).set("asset_fallback", "[\"/assets/*\", \"/app.js\"]")
}

/// Versions in generations from 1 on, each with a session of its own on it, the last of them active.
async fn rolled(versions: &[Script]) -> (Gateway, Vec<Browser>) {
    let of = |script: &Script| service().backends([script.address]);
    let mut gateway = Gateway::ready(File::new([of(&versions[0])])).await;
    let mut browsers = Vec::new();
    for (version, number) in versions.iter().zip(1..) {
        if number > 1 {
            gateway.reload([of(version)]).await;
            gateway.active(number).await;
        }
        let mut browser = Browser::new(gateway.address);
        assert_eq!(browser.get("/login").await.status(), 200);
        gateway.sessions(number, 1).await;
        browsers.push(browser);
    }
    (gateway, browsers)
}

async fn get(gateway: &Gateway, target: &str, fields: &str) -> Message {
    Wire::open(gateway.address).await.ask("GET", target, fields).await
}

#[tokio::test]
async fn a_file_of_an_old_version_is_found_without_a_word_about_the_client() {
    let versions = [version("old").await, version("new").await];
    let (gateway, _browsers) = rolled(&versions).await;
    let fields = "Cookie: sid=unknown; theme=dark\r\nAuthorization: Basic YTpi\r\nX-Session: unknown\r\n\
                  Referer: http://app.test/cart;sid=unknown\r\nX-Mine: 1\r\nOrigin: http://app.test\r\n";
    let said = get(&gateway, "/assets/old.js;sid=unknown?sid=unknown&v=1", fields).await;
    assert_eq!((said.status(), said.text().as_str()), (200, "file of old"), "{said:?}");
    for name in ["set-cookie", "tidegate-session", "clear-site-data"] {
        assert!(said.head.get(name).is_none(), "{said:?}");
    }
    // The one whose session it could have been is asked as it stands.
    let own = versions[1].heard();
    let own = own.iter().find(|heard| heard.head.target().starts_with("/assets/")).unwrap();
    assert!(own.head.get("cookie").is_some() && own.head.get("authorization").is_some(), "{own:?}");
    let asked = versions[0].heard().pop().unwrap();
    assert_eq!(asked.head.start, "GET /assets/old.js?v=1 HTTP/1.1");
    for name in ["cookie", "authorization", "referer", "x-session", "tidegate-session-lost"] {
        assert!(asked.head.get(name).is_none(), "{asked:?}");
    }
    assert_eq!((asked.head.get("x-mine"), asked.head.get("origin")), (Some("1"), Some("http://app.test")), "{asked:?}");
    assert_eq!(asked.head.get("host"), Some("app.test"), "{asked:?}");
    // Nothing opened and nothing ended.
    gateway.sessions(1, 1).await;
    let status = gateway.sessions(2, 1).await;
    assert_eq!(status.gateway.borrowed, 1);
    eventually("the log names the generation that answered", async || {
        let log = gateway.access_log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("/assets/")).collect();
        if lines.len() == 1 && lines[0].contains("\"generation\":1") { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test]
async fn heads_parts_and_conditions_are_asked_for_as_they_are() {
    let versions = [version("old").await, version("new").await];
    let (gateway, _browsers) = rolled(&versions).await;
    let mut wire = Wire::open(gateway.address).await;
    let said = wire.ask("HEAD", "/assets/old.js", "").await;
    assert_eq!((said.status(), said.head.get("content-length")), (200, Some("11")), "{said:?}");
    let said = wire.ask("GET", "/assets/old.js", "Range: bytes=0-1\r\n").await;
    assert_eq!((said.status(), said.text().as_str()), (206, "fi"), "{said:?}");
    let said = wire.ask("GET", "/assets/old.js", "If-None-Match: \"1\"\r\n").await;
    assert_eq!(said.status(), 304, "{said:?}");
    let client = Http2::open(gateway.address).await;
    let said = client.get("/assets/old.js").await;
    assert_eq!((said.status.as_u16(), said.body.as_slice()), (200, &b"file of old"[..]), "{said:?}");
    assert!(said.headers.get("set-cookie").is_none(), "{said:?}");
}

#[tokio::test]
async fn only_such_questions_are_asked() {
    let versions = [version("old").await, version("new").await];
    let (gateway, _browsers) = rolled(&versions).await;
    let before = versions[0].heard().len();
    let mut wire = Wire::open(gateway.address).await;
    for (method, target) in [
        ("GET", "/page"),
        ("GET", "/app.jsx"),
        ("GET", "/assets/../page"),
        ("POST", "/assets/old.js"),
        ("DELETE", "/assets/old.js"),
        // What is there is not asked for.
        ("GET", "/assets/new.js"),
    ] {
        let said = wire.ask(method, target, "").await;
        let expected = if target.ends_with("new.js") { 200 } else { 404 };
        assert_eq!(said.status(), expected, "{method} {target}: {said:?}");
    }
    let said = wire.ask("GET", "/assets/old.js", "Connection: Upgrade\r\nUpgrade: shout\r\n").await;
    assert_eq!(said.status(), 404, "{said:?}");
    assert_eq!(versions[0].heard().len(), before);
    // That one is, by its exact name.
    assert_eq!(wire.ask("GET", "/app.js", "").await.status(), 404);
    assert_eq!(versions[0].heard().len(), before + 1);
}

#[tokio::test]
async fn two_others_are_asked_the_newest_first_and_else_the_own_404_stands() {
    let versions = [version("a").await, version("b").await, version("c").await, version("d").await];
    let (gateway, mut browsers) = rolled(&versions).await;
    let asked = |target: &str| versions.each_ref().map(|version| version.count(target));
    assert_eq!(get(&gateway, "/assets/c.js", "").await.text(), "file of c");
    assert_eq!(asked("/assets/c.js"), [0, 0, 1, 1]);
    assert_eq!(get(&gateway, "/assets/b.js", "").await.text(), "file of b");
    assert_eq!(asked("/assets/b.js"), [0, 1, 1, 1]);
    let said = get(&gateway, "/assets/a.js", "").await;
    assert_eq!((said.status(), said.text().as_str()), (404, "d has no such file"), "{said:?}");
    assert_eq!(asked("/assets/a.js"), [0, 1, 1, 1]);
    // It is an answer like any other: what it says of the session counts.
    assert_eq!(said.head.get("set-cookie"), Some("sid=lost; Path=/"));
    gateway.sessions(4, 2).await;
    // A user of an old version, whose page loads what only the newest has.
    let said = browsers[1].get("/assets/d.js").await;
    assert_eq!(said.text(), "file of d", "{said:?}");
    assert_eq!(asked("/assets/d.js"), [0, 1, 0, 1]);
    assert_eq!(browsers[1].get("/page").await.text(), "b has no such file");
}

#[tokio::test]
async fn one_that_does_not_answer_counts_as_one_that_has_not_got_it() {
    let dead = Script::start(|request: &Message| {
        (request.head.target() == "/login").then(|| answer(200, "Set-Cookie: sid=dead; Path=/", ""))
    })
    .await;
    let versions = [version("old").await, dead, version("new").await];
    let (gateway, _browsers) = rolled(&versions).await;
    assert_eq!(get(&gateway, "/assets/old.js", "").await.text(), "file of old");
    assert_eq!(versions[1].count("/assets/old.js"), 1);
    assert_eq!(get(&gateway, "/assets/none.js", "").await.text(), "new has no such file");
    // Nobody's session is lost by a question.
    let status = gateway.sessions(2, 1).await;
    assert_eq!(status.lost(), 0);
}

#[tokio::test]
async fn a_generation_that_is_gone_is_not_asked() {
    let versions = [App::start("1", 1).await, App::start("2", 2).await];
    let of = |app: &App| service().set("asset_fallback", "[\"/none\"]").backends([app.address]);
    let mut gateway = Gateway::ready(File::new([of(&versions[0])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    gateway.reload([of(&versions[1])]).await;
    gateway.active(2).await;
    let asked = versions[0].requests();
    assert_eq!(get(&gateway, "/none", "").await.status(), 404);
    assert_eq!(versions[0].requests(), asked + 1, "it is asked while it is there");
    browser.logout().await;
    gateway.state(1, "retired").await;
    let asked = versions[0].requests();
    assert_eq!(get(&gateway, "/none", "").await.status(), 404);
    assert_eq!(versions[0].requests(), asked);
}

#[tokio::test]
async fn a_generation_lives_until_its_file_is_sent() {
    let (old, new) = (App::start("1", 1).await, version("new").await);
    let rules = service().set("asset_fallback", "[\"/stream\"]");
    let mut gateway = Gateway::ready(File::new([rules.clone().backends([old.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    gateway.reload([rules.backends([new.address])]).await;
    gateway.active(2).await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET /stream HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let stream = old.stream().await;
    stream.send("a").await.unwrap();
    let head = wire.head().await;
    assert_eq!(head.status(), 200, "{head:?}");
    assert_eq!(wire.chunk().await.unwrap().unwrap(), b"a");
    browser.logout().await;
    let status = gateway.sessions(1, 0).await;
    assert_eq!(status.state("app", 1), "detached", "its file is on its way");
    stream.send("b").await.unwrap();
    assert_eq!(wire.chunk().await.unwrap().unwrap(), b"b");
    drop(stream);
    assert!(wire.chunk().await.unwrap().is_err(), "the file ends well");
    gateway.state(1, "retired").await;
}
