//! Which backend takes a new session, and what the operator wants of each: the rules of `balance`, `status` in the file,
//! `slow_start`, over the sockets of the built gateway.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use support::{App, Browser, File, Gateway, Service, Status, Wire, eventually, place, run};
use tokio::net::{TcpStream, UnixListener};

/// Three applications, `a`, `b` and `c`, of generation 1.
async fn three() -> [App; 3] {
    [App::start("a", 1).await, App::start("b", 1).await, App::start("c", 1).await]
}

/// The backends of a list, each with more keys.
fn list(apps: &[App], keys: &[&str]) -> String {
    let more = keys.iter().copied().chain(std::iter::repeat(""));
    let one = |(app, more): (&App, &str)| format!("{{ address = \"{}\"{more} }}", app.address);
    format!("[{}]", apps.iter().zip(more).map(one).collect::<Vec<_>>().join(", "))
}

fn by(apps: &[App], balance: &str) -> Service {
    Service::app().backends(apps.iter().map(|app| app.address)).set("balance", balance)
}

/// The backend that a request reaches which belongs to no session, over a connection of its own.
async fn asked(gateway: &Gateway, target: &str, fields: &str) -> String {
    let mut wire = Wire::open(gateway.address).await;
    wire.try_send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n")).await.unwrap();
    place(&wire.try_answer("GET").await.unwrap()).backend
}

/// The backend that opens a session for a new client.
async fn joined(gateway: &Gateway, room: &str) -> (Browser, String) {
    let mut browser = Browser::new(gateway.address);
    let answer = browser.ask("POST", &format!("/login?rid={room}")).await;
    let place = place(&answer);
    browser.home = Some(place.clone());
    (browser, place.backend)
}

fn intents(status: &Status, number: u64) -> Vec<String> {
    status.generation("app", number).unwrap().backends.iter().map(|backend| backend.intent.clone()).collect()
}

#[tokio::test]
async fn a_room_is_kept_together_over_new_clients_restart_and_resize() {
    let apps = three().await;
    let service = |apps: &[App]| {
        let listed: Vec<_> = apps.iter().map(|app| app.address).collect();
        Service::app().generation(1, listed).set("balance", "{ hash = { query = \"rid\" } }")
    };
    let mut gateway = Gateway::ready(File::new([service(&apps)])).await;
    let mut rooms = BTreeMap::new();
    let mut browsers = Vec::new();
    for room in 0..48 {
        let room = format!("room{room}");
        let (browser, backend) = joined(&gateway, &room).await;
        assert_eq!(joined(&gateway, &room).await.1, backend, "{room}: another client of it");
        assert_eq!(asked(&gateway, &format!("/where?x=1&rid={room}"), "").await, backend, "{room}: without a session");
        assert_eq!(asked(&gateway, &format!("/where?rid=%72{}", &room[1..]), "").await, backend, "{room}: encoded");
        let unknown = format!("Cookie: sid=of-another-time-{room}\r\n");
        assert_eq!(
            asked(&gateway, &format!("/where?rid={room}"), &unknown).await,
            backend,
            "{room}: with an unknown id"
        );
        rooms.insert(room, backend);
        browsers.push(browser);
    }
    assert_eq!(rooms.values().collect::<BTreeSet<_>>().len(), 3, "all three have rooms: {rooms:?}");

    // Without its third backend, only that one's rooms are elsewhere for new clients; whoever is inside stays.
    gateway.reload([service(&apps[..2])]).await;
    for (room, backend) in &rooms {
        let now = joined(&gateway, room).await.1;
        assert!(now == *backend || (backend == "c" && now != "c"), "{room} was at {backend} and is at {now}");
    }
    for browser in &mut browsers {
        browser.count().await;
    }
    gateway.reload([service(&apps)]).await;
    let (folder, file) = gateway.stop().await;
    let gateway = Gateway::start_in(folder, file).await;
    gateway.all_active().await;
    for (room, backend) in &rooms {
        assert_eq!(joined(&gateway, room).await.1, *backend, "{room} after it");
    }
}

#[tokio::test]
async fn every_key_of_a_hash_leads_to_one_backend() {
    let apps = three().await;
    let mut gateway = Gateway::ready(File::new([by(&apps, "{ hash = \"client\" }")])).await;
    let mut seen = BTreeSet::new();
    for _ in 0..12 {
        seen.insert(asked(&gateway, "/where", "X-Forwarded-For: 192.0.2.9\r\n").await);
    }
    assert_eq!(seen.len(), 1, "one client, which is not believed to be another: {seen:?}");

    let trusting = gateway.file.clone().set("trusted", "[\"127.0.0.1\"]");
    gateway.write(trusting);
    gateway.hup().await.unwrap();
    spread(&gateway, "/where", |key| format!("X-Forwarded-For: 192.0.2.{key}\r\n")).await;

    gateway.reload([by(&apps, "{ hash = { cookie = \"uid\" } }")]).await;
    spread(&gateway, "/where", |key| format!("Cookie: theme=dark; uid=u{key}\r\n")).await;
    gateway.reload([by(&apps, "{ hash = { header = \"X-User\" } }")]).await;
    spread(&gateway, "/where", |key| format!("x-user: u{key}\r\n")).await;
    gateway.reload([by(&apps, "{ hash = \"path\" }")]).await;
    let mut seen = BTreeSet::new();
    for path in (0..24).map(|number| format!("/say/{number}")) {
        let before: Vec<u64> = apps.iter().map(App::requests).collect();
        for query in ["", "?x=1", "?x=2"] {
            Wire::open(gateway.address).await.get(&format!("{path}{query}")).await;
        }
        let after = apps.iter().map(App::requests).zip(before).map(|(after, before)| after - before);
        let places: Vec<_> = after.enumerate().filter(|(_, count)| *count > 0).collect();
        assert!(places.len() == 1 && places[0].1 == 3, "{path}: {places:?}");
        seen.insert(places[0].0);
    }
    assert!(seen.len() > 1, "paths are spread");
}

/// Asks with many keys, each more than once: a key keeps its backend, and the backends share the keys.
async fn spread(gateway: &Gateway, target: &str, field: impl Fn(u32) -> String) {
    let mut seen = BTreeSet::new();
    for key in 1..49 {
        let first = asked(gateway, target, &field(key)).await;
        for _ in 0..2 {
            assert_eq!(asked(gateway, target, &field(key)).await, first, "{}", field(key));
        }
        seen.insert(first);
    }
    assert_eq!(seen.len(), 3, "by {}: {seen:?}", field(0));
}

#[tokio::test]
async fn crc32_modulo_picks_what_pomelo_would() {
    let apps = three().await;
    let service = by(&apps, "{ hash = { query = \"uid\" }, method = \"crc32_modulo\" }");
    let mut gateway = Gateway::ready(File::new([service.clone()])).await;
    // `Math.abs(crc.crc32(uid)) % 3` in node with crc 0.2.0, as in pomelo's gate server. Some are negative numbers there,
    // and the second to the sixth would be elsewhere without `Math.abs`.
    let expected = [
        ("1", 2),
        ("4", 0),
        ("5", 0),
        ("9", 1),
        ("user1", 0),
        ("user4", 1),
        ("2", 1),
        ("7", 0),
        ("42", 2),
        ("10001", 1),
        ("pomelo", 1),
        ("chat", 1),
        ("user-9", 0),
        ("room1", 2),
        ("%C3%A9", 2),
        ("%E4%B8%AD%E6%96%87", 0),
    ];
    for (uid, place) in expected {
        let backend = ["a", "b", "c"][place];
        assert_eq!(asked(&gateway, &format!("/where?uid={uid}"), "").await, backend, "{uid}");
        let mut browser = Browser::new(gateway.address);
        let answer = browser.ask("POST", &format!("/login?uid={uid}")).await;
        assert_eq!(support::place(&answer).backend, backend, "{uid}");
    }
    // Another order in the file is another order of the connectors.
    let [a, b, c] = &apps;
    let turned = service.backends([c.address, a.address, b.address]);
    gateway.reload([turned]).await;
    for (uid, place) in expected {
        assert_eq!(asked(&gateway, &format!("/where?uid={uid}"), "").await, ["c", "a", "b"][place], "{uid}");
    }
    assert_eq!(gateway.status().await.active("app"), Some(1), "nothing rolled");
}

#[tokio::test]
async fn turns_go_round_by_weight_over_all_threads() {
    let apps = three().await;
    let service = Service::app().set("backends", list(&apps, &[", weight = 3", ", weight = 2"]));
    let gateway = Gateway::ready(File::new([service.set("balance", "\"round_robin\"")])).await;
    let mut counts = BTreeMap::new();
    for _ in 0..12 {
        *counts.entry(joined(&gateway, "x").await.1).or_insert(0) += 1;
    }
    let expected = BTreeMap::from([("a".to_owned(), 6), ("b".to_owned(), 4), ("c".to_owned(), 2)]);
    assert_eq!(counts, expected);
}

#[tokio::test]
async fn the_least_are_looked_for_by_sessions_and_by_requests() {
    let apps = three().await;
    let mut gateway = Gateway::ready(File::new([by(&apps, "\"least_sessions\"")])).await;
    let mut browsers = Vec::new();
    for count in 1..=4 {
        for _ in 0..3 {
            browsers.push(joined(&gateway, "x").await.0);
        }
        assert_eq!([&apps[0], &apps[1], &apps[2]].map(App::sessions), [count; 3]);
    }
    // Two that leave one backend make room there.
    let mut leaving: Vec<_> =
        browsers.iter_mut().filter(|browser| browser.home.as_ref().unwrap().backend == "b").take(2).collect();
    for browser in &mut leaving {
        browser.logout().await;
    }
    for _ in 0..2 {
        assert_eq!(joined(&gateway, "x").await.1, "b");
    }

    gateway.reload([by(&apps, "\"least_requests\"")]).await;
    let mut held = Vec::new();
    for count in 1..=3 {
        let gate = gateway.address;
        held.push(tokio::spawn(async move { place(&Wire::open(gate).await.get("/slow").await).backend }));
        eventually("the request waits at a backend", async || {
            let waiting: u64 = apps.iter().map(App::waiting).sum();
            if waiting == count { Ok(()) } else { Err(waiting) }
        })
        .await;
    }
    assert_eq!([&apps[0], &apps[1], &apps[2]].map(App::waiting), [1; 3]);
    apps[1].release(1);
    eventually("one is done", async || if apps[1].waiting() == 0 { Ok(()) } else { Err("not yet") }).await;
    gateway.until("the gateway knows", |status| status.generation("app", 1).unwrap().requests == 2).await;
    assert_eq!(asked(&gateway, "/where", "").await, "b");
    apps.iter().for_each(|app| app.release(1));
    for held in held {
        held.await.unwrap();
    }
}

#[tokio::test]
async fn drain_keeps_its_sessions_and_takes_no_new_ones() {
    let apps = three().await;
    let service = |keys: &[&str]| Service::app().set("backends", list(&apps, keys)).set("balance", "\"round_robin\"");
    let mut gateway = Gateway::ready(File::new([service(&[])])).await;
    let mut browsers = Vec::new();
    for _ in 0..6 {
        browsers.push(joined(&gateway, "x").await.0);
    }
    gateway.reload([service(&["", ", status = \"drain\""])]).await;
    let status = gateway.status().await;
    assert_eq!(
        (status.active("app"), intents(&status, 1)),
        (Some(1), ["up", "drain", "up"].map(str::to_owned).to_vec())
    );
    gateway.logs("is set drain: it takes no new sessions").await;
    for _ in 0..6 {
        assert_ne!(joined(&gateway, "x").await.1, "b");
        assert_ne!(asked(&gateway, "/where", "").await, "b");
    }
    for browser in &mut browsers {
        browser.count().await;
    }
    assert_eq!(apps[1].sessions(), 2);
    // It outlives a restart, and nothing joins or rolls by it.
    let (folder, file) = gateway.stop().await;
    let mut gateway = Gateway::start_in(folder, file).await;
    gateway.all_active().await;
    assert_eq!(intents(&gateway.status().await, 1), ["up", "drain", "up"]);
    for browser in &browsers {
        browser.tab().count().await;
        assert_ne!(asked(&gateway, "/where", "").await, "b");
    }
    gateway.reload([service(&[])]).await;
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        seen.insert(joined(&gateway, "x").await.1);
    }
    assert_eq!(seen.len(), 3, "it is back at once, for it was ready all the time");
}

#[tokio::test]
async fn down_serves_nobody_and_up_is_asked_first() {
    let apps = three().await;
    let ready = "{ path = \"/healthz\", interval = \"20ms\" }";
    let service = |keys: &[&str]| {
        Service::app()
            .session("cookie = \"sid\", on_lost = \"strict\"")
            .generation_of(4, &list(&apps, keys))
            .set("balance", "\"round_robin\"")
            .set("ready", ready)
    };
    let mut gateway = Gateway::ready(File::new([service(&[])])).await;
    let mut browsers = Vec::new();
    for _ in 0..6 {
        browsers.push(joined(&gateway, "x").await.0);
    }
    gateway.reload([service(&["", ", status = \"down\""])]).await;
    gateway.logs("is set down: it serves nobody").await;
    let before = apps[1].requests();
    for _ in 0..6 {
        assert_ne!(joined(&gateway, "x").await.1, "b");
        assert_ne!(asked(&gateway, "/where", "Cookie: sid=nobody-knows-it\r\n").await, "b");
    }
    for browser in &mut browsers {
        if browser.home.as_ref().unwrap().backend != "b" {
            browser.count().await;
            continue;
        }
        let answer = browser.get("/count").await;
        assert_eq!((answer.status(), answer.head.get("retry-after")), (503, Some("10")), "{answer:?}");
        assert!(answer.text().contains("is away"), "{}", answer.text());
    }
    assert_eq!(apps[1].requests(), before, "not a request reached it");

    // What comes back may be another program: it takes nothing new until it says that it is ready.
    apps[1].set_ready(false);
    gateway.reload([service(&[])]).await;
    for browser in &mut browsers {
        browser.count().await;
    }
    for _ in 0..6 {
        assert_ne!(joined(&gateway, "x").await.1, "b");
    }
    apps[1].set_ready(true);
    gateway.logs("joined app@4").await;
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        seen.insert(joined(&gateway, "x").await.1);
    }
    assert_eq!(seen.len(), 3);
    assert_eq!(gateway.status().await.active("app"), Some(4));
}

#[tokio::test]
async fn sessions_of_a_backend_that_is_set_down_are_lost_as_the_service_says() {
    let apps = three().await;
    let service = |keys: &[&str]| {
        Service::app().set("backends", list(&apps, keys)).set("balance", "{ hash = { query = \"rid\" } }")
    };
    let mut gateway = Gateway::ready(File::new([service(&[])])).await;
    // A room at the second backend.
    let (mut browser, room) = 'found: {
        for number in 0..64 {
            let room = format!("room{number}");
            let (browser, backend) = joined(&gateway, &room).await;
            if backend == "b" {
                break 'found (browser, room);
            }
        }
        panic!("64 rooms, and none at b");
    };
    browser.count().await;
    let known = gateway.status().await.lost();
    gateway.reload([service(&["", ", status = \"down\""])]).await;
    let (other, company) = joined(&gateway, &room).await;
    let answer = browser.ask("POST", &format!("/facts?rid={room}")).await;
    assert_eq!((answer.status(), place(&answer).backend), (200, company), "it goes where its room is now: {answer:?}");
    let fields = answer.json()["fields"].clone();
    let told = |field: &&serde_json::Value| field[0] == "tidegate-session-lost" && field[1] == "app@1";
    assert_eq!(fields.as_array().unwrap().iter().filter(told).count(), 1, "{fields:?}");
    gateway.until("it is counted", |status| status.lost() == known + 1).await;
    let mut other = other;
    other.count().await;
    // An id that is lost is one that nobody knows; the next login has a session.
    browser.login().await;
    browser.count().await;

    // Where nothing else is up, it stays, and is there when its backend is.
    let home = browser.home.clone().unwrap().backend;
    let down = [", status = \"down\""; 3];
    gateway.reload([service(&down).set("wait_for_backend", "\"none\"")]).await;
    assert_eq!(browser.get("/count").await.status(), 503);
    gateway.reload([service(&[])]).await;
    assert_eq!(browser.count().await.backend, home);
}

#[tokio::test]
async fn nobody_up_is_warned_of_and_said_to_clients() {
    let apps = three().await;
    let service = |keys: &[&str]| Service::app().set("backends", list(&apps, keys)).set("wait_for_backend", "\"none\"");
    let all = [", status = \"drain\"", ", status = \"down\"", ", status = \"drain\""];
    let mut gateway = Gateway::ready(File::new([service(&[])])).await;
    let mut browser = Browser::new(gateway.address);
    while browser.login().await.backend != "a" {
        browser = Browser::new(gateway.address);
    }
    let folder = tempfile::tempdir().unwrap();
    let checked = run(folder.path(), "check", &gateway.file.with([service(&all)]));
    let told = String::from_utf8(checked.stderr).unwrap() + &String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success() && told.contains("no backend is `up`"), "{told}");
    gateway.reload([service(&all)]).await;
    let answer = Wire::open(gateway.address).await.get("/where").await;
    assert_eq!((answer.status(), answer.head.get("retry-after")), (503, Some("10")), "{answer:?}");
    assert!(answer.text().contains("takes new sessions"), "{}", answer.text());
    browser.count().await;
    gateway.reload([service(&["", all[1], all[2]])]).await;
    assert_eq!(asked(&gateway, "/where", "").await, "a");
}

#[tokio::test]
async fn who_comes_up_later_takes_few_at_first() {
    let apps = three().await;
    let service = |count: usize, slow: &str| {
        let listed: Vec<_> = apps[..count].iter().map(|app| app.address).collect();
        Service::app().generation(1, listed).set("balance", "\"least_sessions\"").set("slow_start", slow)
    };
    let mut gateway = Gateway::ready(File::new([service(2, "\"10h\"")])).await;
    for _ in 0..10 {
        joined(&gateway, "x").await;
    }
    assert_eq!((apps[0].sessions(), apps[1].sessions()), (5, 5), "a new generation has nothing to grow beside");
    gateway.reload([service(3, "\"10h\"")]).await;
    gateway.logs("joined app@1").await;
    for _ in 0..40 {
        joined(&gateway, "x").await;
    }
    // A hundredth of the new sessions, so that eight of forty are as good as impossible; by the rule alone it is sixteen.
    assert!(apps[2].sessions() < 8, "{} of 40", apps[2].sessions());
    gateway.reload([service(3, "\"none\"")]).await;
    for _ in 0..40 {
        joined(&gateway, "x").await;
    }
    assert_eq!(apps.each_ref().map(App::sessions), [30; 3]);
}

/// Passes connections to a unix socket on to an application.
fn relay(path: &PathBuf, app: &App) -> tokio::task::JoinHandle<()> {
    let (listener, address) = (UnixListener::bind(path).unwrap(), app.address);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(address).await.unwrap();
                // How it ends is for the two sides to judge.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    })
}

#[tokio::test]
async fn unix_sockets_are_balanced_weighed_and_asked_like_others() {
    let apps = three().await;
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..2).map(|index| folder.path().join(format!("{index}.sock"))).collect();
    let service = |weight: u32, status: &str| {
        let [one, other] = [&paths[0], &paths[1]].map(|path| format!("unix:{}", path.display()));
        let ready = "{ path = \"/healthz\", interval = \"20ms\" }";
        Service::app()
            .set(
                "backends",
                format!("[{{ address = \"{one}\", weight = {weight}, status = \"{status}\" }}, \"{other}\"]"),
            )
            .set("balance", "\"round_robin\"")
            .set("ready", ready)
    };
    let first = relay(&paths[0], &apps[0]);
    let mut gateway = Gateway::start(File::new([service(3, "up")])).await;
    assert_eq!(gateway.status().await.state("app", 1), "starting", "the second socket is not there");
    let second = relay(&paths[1], &apps[1]);
    gateway.active(1).await;
    let mut browsers = Vec::new();
    for _ in 0..8 {
        browsers.push(joined(&gateway, "x").await.0);
    }
    assert_eq!((apps[0].sessions(), apps[1].sessions()), (6, 2));
    gateway.reload([service(1, "drain")]).await;
    for _ in 0..4 {
        assert_eq!(joined(&gateway, "x").await.1, "b");
    }
    for browser in &mut browsers {
        browser.count().await;
    }
    gateway.reload([service(1, "up").set("balance", "{ hash = { query = \"rid\" } }")]).await;
    let mut seen = BTreeSet::new();
    for room in 0..24 {
        let backend = joined(&gateway, &format!("r{room}")).await.1;
        assert_eq!(joined(&gateway, &format!("r{room}")).await.1, backend);
        seen.insert(backend);
    }
    assert_eq!(seen.len(), 2);
    first.abort();
    second.abort();
}
