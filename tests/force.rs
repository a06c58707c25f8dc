//! Testers' tokens: whom they let in where, what the application sees of them, and what counts as none.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;

use support::{App, Browser, File, Gateway, Http2, Message, Service, Wire, eventually, http2, run};

const SECRET: &str = "correct-horse-battery-staple";
const PLACES: &str = "cookie = \"try\", header = \"X-Try-Generation\", query = \"try\"";

/// Versions as generations 1, 2, …, the last of them for testers alone.
fn service(apps: &[&App]) -> Service {
    let service = Service::app().set("rollout", 0).set("force", format!("{{ {PLACES}, secret = \"{SECRET}\" }}"));
    (1..).zip(apps).fold(service, |service, (number, app)| service.generation(number, [app.address]))
}

async fn ramped() -> (App, App, Gateway) {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let mut gateway = Gateway::ready(File::new([service(&[&old])])).await;
    gateway.reload([service(&[&old, &new])]).await;
    gateway.state(2, "ready").await;
    (old, new, gateway)
}

fn token(gateway: &Gateway, line: &str) -> String {
    gateway.cli(line).unwrap().lines().next().unwrap().to_owned()
}

async fn ask(gateway: &Gateway, target: &str, fields: &str) -> Message {
    Wire::open(gateway.address).await.ask("GET", target, fields).await
}

fn backend(answer: &Message) -> String {
    answer.json()["backend"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// The fields of a name that the application got.
fn fields(answer: &Message, name: &str) -> Vec<String> {
    let fields = answer.json()["fields"].as_array().unwrap().clone();
    let values = fields.iter().filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap().to_owned());
    values.collect()
}

/// Whether a text stands anywhere in what the gateway wrote.
fn is_written(gateway: &Gateway, text: &str) -> bool {
    let mut folders = vec![gateway.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path != gateway.config_file()
                && memchr::memmem::find(&fs::read(&path).unwrap_or_default(), text.as_bytes()).is_some()
            {
                eprintln!("it stands in {}", path.display());
                return true;
            }
        }
    }
    false
}

#[tokio::test]
async fn only_testers_get_to_a_version_without_a_share() {
    let (_old, new, gateway) = ramped().await;
    for _ in 0..100 {
        assert_eq!(backend(&ask(&gateway, "/where", "").await), "old");
    }
    let text = gateway.cli("status").unwrap();
    assert!(text.contains("new sessions go to generation 1, forced ones to 2 as well"), "{text}");
    assert!(text.contains("ready 0%"), "{text}");
    let token = token(&gateway, "force app@2 --for 10m");
    let asked = [
        ("/facts?a=1&b", format!("X-Try-Generation: {token}\r\nCookie: theme=dark\r\n")),
        ("/facts?a=1&b", format!("Cookie: theme=dark; try={token}\r\n")),
        ("/facts?a=1&b", format!("cookie: try={token}\r\nCookie: theme=dark\r\n")),
        (&format!("/facts?a=1&try={token}&b"), "Cookie: theme=dark\r\n".to_owned()),
    ];
    for (target, headers) in asked {
        let referer = format!("Referer: http://app.test/page?x=1&try={token}\r\n");
        let answer = ask(&gateway, target, &format!("{headers}{referer}")).await;
        // The application sees nothing of it.
        assert_eq!((backend(&answer).as_str(), &answer.json()["target"]), ("new", &"/facts?a=1&b".into()));
        assert_eq!(fields(&answer, "cookie"), ["theme=dark"]);
        assert_eq!(fields(&answer, "x-try-generation"), [""; 0]);
        assert_eq!(fields(&answer, "referer"), ["http://app.test/page?x=1"]);
    }
    // The session that a tester opens stays, with the token and without.
    let mut wire = Wire::open(gateway.address).await;
    let login = wire.ask("POST", &format!("/login?try={token}"), "").await;
    assert_eq!(backend(&login), "new");
    let cookie = login.head.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for headers in [format!("Cookie: {cookie}\r\n"), format!("Cookie: try={token}; {cookie}\r\n")] {
        assert_eq!(backend(&ask(&gateway, "/count", &headers).await), "new");
    }
    assert_eq!(new.sessions(), 1);
    let status = gateway.sessions(2, 1).await;
    assert_eq!((status.gateway.forced, status.gateway.force_refused), (5, 0));
    assert_eq!(backend(&ask(&gateway, "/where", "").await), "old");
    // The active one takes testers as well.
    let first = self::token(&gateway, "force app@1");
    assert_eq!(backend(&ask(&gateway, "/where", &format!("X-Try-Generation: {first}\r\n")).await), "old");
    let lines = eventually("the access log is written", async || {
        let log = gateway.access_log();
        if log.matches("\"session\":\"forced\"").count() == 6 { Ok(log) } else { Err(log) }
    })
    .await;
    assert!(lines.contains("/facts?a=1&try=…&b"), "{lines}");
    for secret in [&*token, SECRET] {
        assert!(!is_written(&gateway, secret), "{secret} is written down");
    }
}

#[tokio::test]
async fn a_ramp_and_testers_go_together_and_a_promotion_ends_both() {
    let (old, new, mut gateway) = ramped().await;
    let (first, second) = (token(&gateway, "force app@1"), token(&gateway, "force app@2"));
    gateway.reload([service(&[&old, &new]).set("rollout", 50)]).await;
    for _ in 0..20 {
        for (token, wanted) in [(&first, "old"), (&second, "new")] {
            assert_eq!(backend(&ask(&gateway, "/where", &format!("X-Try-Generation: {token}\r\n")).await), wanted);
        }
    }
    let mut held = Browser::new(gateway.address);
    eventually("a session opens on the old one", async || match held.login().await.generation {
        1 => Ok(()),
        other => {
            held.logout().await;
            Err(other)
        }
    })
    .await;
    gateway.cli("promote app").unwrap();
    // A detached generation takes nobody, whatever he brings.
    for token in [&first, &second] {
        assert_eq!(backend(&ask(&gateway, "/where", &format!("X-Try-Generation: {token}\r\n")).await), "new");
    }
    assert_eq!(gateway.status().await.gateway.force_refused, 1);
    held.count().await;
}

#[tokio::test]
async fn an_open_session_goes_before_a_token() {
    let (_old, _new, gateway) = ramped().await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let token = token(&gateway, "force app@2");
    let id = browser.id.clone().unwrap();
    for _ in 0..5 {
        let answer = ask(&gateway, "/count", &format!("Cookie: sid={id}; try={token}\r\n")).await;
        assert_eq!((answer.status(), backend(&answer)), (200, "old".to_owned()));
        assert_eq!(answer.head.get("cache-control"), None, "everybody sees this page");
    }
    // Its end is the token's time.
    browser.logout().await;
    assert_eq!(backend(&ask(&gateway, "/where", &format!("Cookie: sid={id}; try={token}\r\n")).await), "new");
}

#[tokio::test]
async fn what_is_forged_or_has_expired_counts_as_none() {
    let (old, new, mut gateway) = ramped().await;
    let token = token(&gateway, "force app@2");
    let other = service(&[&old, &new]).set("name", "\"other\"").set("path", "\"/other\"");
    gateway.reload([service(&[&old, &new]), other]).await;
    let foreign = self::token(&gateway, "force other@2");
    let mut changed = token.clone();
    changed.replace_range(20..21, if &token[20..21] == "A" { "B" } else { "A" });
    let third = self::token(&gateway, "force app@3");
    let long = "A".repeat(5_000);
    let bad = [&foreign, &changed, &third, &token[1..], &format!("{token}A"), "2", SECRET, &long];
    for value in bad {
        for fields in [format!("X-Try-Generation: {value}\r\n"), format!("Cookie: try={value}\r\n")] {
            let answer = ask(&gateway, "/facts", &fields).await;
            assert_eq!(backend(&answer), "old", "{value}");
            assert_eq!(answer.head.get("cache-control"), None);
            assert!(self::fields(&answer, "cookie").is_empty() && self::fields(&answer, "x-try-generation").is_empty());
        }
    }
    // What no value of an id can be is not even looked at.
    assert_eq!(gateway.status().await.gateway.force_refused, 2 * (bad.len() as u64 - 1));

    let short = self::token(&gateway, "force app@2 --for 2s");
    eventually("the token expires", async || {
        let answer = ask(&gateway, "/where", &format!("X-Try-Generation: {short}\r\n")).await;
        if backend(&answer) == "old" { Ok(()) } else { Err("not yet") }
    })
    .await;
    assert_eq!(backend(&ask(&gateway, "/where", &format!("X-Try-Generation: {token}\r\n")).await), "new");
    // With another secret, all tokens are others'.
    let rotated = format!("{{ {PLACES}, secret = \"another-secret-of-some-length\" }}");
    gateway.reload([service(&[&old, &new]).set("force", rotated)]).await;
    assert_eq!(backend(&ask(&gateway, "/where", &format!("X-Try-Generation: {token}\r\n")).await), "old");
    let fresh = self::token(&gateway, "force app@2");
    assert_eq!(backend(&ask(&gateway, "/where", &format!("X-Try-Generation: {fresh}\r\n")).await), "new");
}

#[tokio::test]
async fn no_cache_keeps_what_a_tester_sees() {
    let (_old, _new, gateway) = ramped().await;
    let token = token(&gateway, "force app@2");
    let say = |fields: &[&str]| fields.iter().map(|field| format!("X-Say: {field}\r\n")).collect::<String>();
    let public = say(&["cache-control: public, max-age=600", "cdn-cache-control: max-age=600", "surrogate-control: x"]);
    let forced = format!("X-Try-Generation: {token}\r\n");
    let answer = ask(&gateway, "/say", &format!("{public}{forced}")).await;
    assert_eq!(backend(&answer), "new");
    assert_eq!(answer.head.all("cache-control"), ["private, no-store"]);
    assert!(answer.head.all("cdn-cache-control").is_empty() && answer.head.all("surrogate-control").is_empty());
    let answer = ask(&gateway, "/say", &public).await;
    assert_eq!(answer.head.all("cache-control"), ["public, max-age=600"]);
    assert_eq!(answer.head.all("cdn-cache-control"), ["max-age=600"]);
    // A 304 speaks of what everybody has.
    let answer = ask(&gateway, "/say", &format!("X-Status: 304\r\n{public}{forced}")).await;
    assert_eq!((answer.status(), answer.head.all("cache-control")), (304, vec!["public, max-age=600"]));
    // A tester's session without the token is a tester's still.
    let login = Wire::open(gateway.address).await.ask("POST", "/login", &forced).await;
    let cookie = login.head.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let answer = ask(&gateway, "/say", &format!("{public}Cookie: {cookie}\r\n")).await;
    assert_eq!((backend(&answer).as_str(), answer.head.all("cache-control")), ("new", vec!["private, no-store"]));
}

#[tokio::test]
async fn a_public_page_opens_a_testers_session_by_the_gateways_cookie() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let service = |apps: &[&App]| service(apps).session("issue = \"tidegate\"");
    let mut gateway = Gateway::ready(File::new([service(&[&old])])).await;
    gateway.reload([service(&[&old, &new])]).await;
    gateway.state(2, "ready").await;
    let token = token(&gateway, "force app@2");
    let public = "X-Say: cache-control: public, max-age=600\r\n";
    let answer = ask(&gateway, &format!("/say?try={token}"), public).await;
    let cookie = answer.head.get("set-cookie").expect("it is issued").split(';').next().unwrap().to_owned();
    assert_eq!(backend(&ask(&gateway, "/where", &format!("Cookie: {cookie}\r\n")).await), "new");
    assert_eq!(ask(&gateway, "/say", public).await.head.get("set-cookie"), None);
}

#[tokio::test]
async fn testers_come_in_during_maintenance() {
    let (old, new, mut gateway) = ramped().await;
    gateway.reload([service(&[&old, &new]).set("maintenance", "{ on = true }")]).await;
    for (line, wanted) in [("force app@2", "new"), ("force app@1", "old")] {
        let forced = format!("X-Try-Generation: {}\r\n", token(&gateway, line));
        let login = Wire::open(gateway.address).await.ask("POST", "/login", &forced).await;
        assert_eq!((login.status(), backend(&login).as_str()), (200, wanted), "{login:?}");
        let cookie = login.head.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let answer = ask(&gateway, "/count", &format!("Cookie: {cookie}\r\n")).await;
        assert_eq!((answer.status(), backend(&answer).as_str()), (200, wanted), "the session is open");
    }
    assert_eq!(ask(&gateway, "/where", "").await.status(), 503);
    assert_eq!(ask(&gateway, "/where", "X-Try-Generation: 2\r\n").await.status(), 503);
}

#[tokio::test]
async fn a_tester_does_not_get_another_version_than_the_one_named() {
    let (_old, new, gateway) = ramped().await;
    let forced = format!("X-Try-Generation: {}\r\n", token(&gateway, "force app@2"));
    new.stop().await;
    let answer = ask(&gateway, "/where", &forced).await;
    assert!(matches!(answer.status(), 502..=504), "{answer:?}");
    assert_eq!(ask(&gateway, "/where", "").await.status(), 200);
}

#[tokio::test]
async fn tokens_work_over_http2() {
    let (_old, _new, gateway) = ramped().await;
    let token = token(&gateway, "force app@2");
    let client = Http2::open(gateway.address).await;
    assert_eq!(client.get("/where").await.json()["backend"], "old");
    let cookie = format!("try={token}");
    for fields in [&[("x-try-generation", &*token)][..], &[("cookie", "a=1"), ("cookie", &cookie), ("cookie", "b=2")]] {
        let reply = client.ask("GET", "/facts", fields).await.json();
        assert_eq!(reply["backend"], "new");
        assert!(!reply.to_string().contains(&token), "{reply}");
    }
    let target = format!("/facts?try={token}");
    let reply = client.try_ask(http2::request("GET", &target, &[])).await.unwrap().json();
    assert_eq!((&reply["backend"], &reply["target"]), (&"new".into(), &"/facts".into()));
}

#[tokio::test]
async fn the_command_line_says_how_a_token_is_used() {
    let (_old, _new, gateway) = ramped().await;
    let text = gateway.cli("force app@2 --for 90m").unwrap();
    let token = text.lines().next().unwrap();
    assert_eq!(token.len(), 66, "{text}");
    assert!(text.contains(&format!("-H 'x-try-generation: {token}'")), "{text}");
    assert!(text.contains(&format!("try={token}; path=/; max-age=5400")) && !text.contains(SECRET), "{text}");
    let json: serde_json::Value = serde_json::from_str(&gateway.cli("force app@2 --json").unwrap()).unwrap();
    assert_eq!((&json["service"], &json["generation"]), (&"app".into(), &2.into()));
    // The very line that is printed works.
    let curl = json["curl"].as_str().unwrap();
    let words: Vec<_> = curl.split('\'').collect();
    let [before, field, _, url, ""] = words.as_slice() else { panic!("{curl}") };
    assert_eq!((*before, *url), ("curl -i -H ", &*format!("http://{}/", gateway.address)));
    assert_eq!(backend(&ask(&gateway, "/where", &format!("{field}\r\n")).await), "new");
    for (line, why) in [
        ("force app@2 --for 0s", "from 1s to 720h"),
        ("force app@2 --for 1000h", "from 1s to 720h"),
        ("force app@2 --for soon", "from 1s to 720h"),
        ("force app", "as in app@8"),
        ("force app@x", "a number behind the @"),
        ("force shop@1", "there is no service shop; there is app"),
    ] {
        let told = gateway.cli(line).unwrap_err();
        assert!(told.contains(why), "{line}: {told}");
    }
}

#[tokio::test]
async fn a_secret_comes_from_a_file_or_a_variable_and_is_never_shown() {
    let app = App::start("old", 1).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("secret"), format!("{SECRET}\n")).unwrap();
    fs::write(path.join("short"), "short\n").unwrap();
    fs::write(path.join("tidegate.env"), format!("TRY_SECRET={SECRET}\n")).unwrap();
    let file = |force: &str| {
        let mut file = File::new([Service::app().set("force", format!("{{ {force} }}")).backends([app.address])]);
        file.head = "env_file = \"tidegate.env\"\n".to_owned();
        file
    };
    let check = |force: &str| {
        let output = run(path, "check", &file(force));
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains(SECRET), "{said}");
        (output.status.success(), said)
    };
    for good in ["secret_file = \"%FOLDER%/secret\"", "secret = \"${TRY_SECRET}\""] {
        let (is_good, said) = check(&format!("cookie = \"try\", {good}"));
        assert!(is_good, "{said}");
    }
    for (bad, why) in [
        ("cookie = \"try\", secret_file = \"%FOLDER%/short\"", "shorter than 16 characters"),
        ("cookie = \"try\", secret_file = \"%FOLDER%/missing\"", "cannot be read"),
        (&format!("cookie = \"try\", headr = \"x\", secret = \"{SECRET}\""), "unknown key \"headr\""),
        (&format!("cookie = \"sid\", secret = \"{SECRET}\""), "where the sessions of this service have their ids"),
        (&format!("secret = \"{SECRET}\""), "names no place"),
        ("cookie = \"try\"", "nothing tells a genuine token"),
        ("cookie = \"try\", secret = 123456789012345678", "found another value"),
    ] {
        let (is_good, said) = check(bad);
        assert!(!is_good && said.contains(why), "{bad}: {said}");
        assert!(!said.contains("123456789012345678"), "{said}");
    }
    // Both name one secret: a token of one file is a token of the other.
    let gateway = Gateway::start_in(folder, file("header = \"X-Try\", secret = \"${TRY_SECRET}\"")).await;
    gateway.all_active().await;
    let token = token(&gateway, "force app@1");
    assert_eq!(backend(&ask(&gateway, "/where", &format!("X-Try: {token}\r\n")).await), "old");
    assert_eq!(gateway.status().await.gateway.forced, 1);
    let state = fs::read_to_string(gateway.folder().join("state/fleet")).unwrap();
    assert!(state.contains("x-try") && !state.contains(SECRET), "{state}");
}
