//! A new version for a share of the new sessions: how large it is, who stays where, and how it ends.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{App, Browser, File, Gateway, Http2, Service, Socket, Wire, eventually};

/// The old version as generation 1 and the new one as 2, or as many as there are.
fn explicit(rollout: u8, apps: &[&App]) -> Service {
    let service = Service::app().set("rollout", rollout);
    (1..).zip(apps).fold(service, |service, (number, app)| service.generation(number, [app.address]))
}

fn shorthand(rollout: u8, app: &App) -> Service {
    Service::app().set("rollout", rollout).backends([app.address])
}

/// Two versions, the second of them with this share.
async fn ramped(rollout: u8) -> (App, App, Gateway) {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let mut gateway = Gateway::ready(File::new([explicit(rollout, &[&old])])).await;
    gateway.reload([explicit(rollout, &[&old, &new])]).await;
    gateway.state(2, "ready").await;
    (old, new, gateway)
}

/// Opens so many sessions and counts those of generation 2.
async fn opened(gateway: SocketAddr, count: usize) -> usize {
    let mut wire = Wire::open(gateway).await;
    let mut new = 0;
    for _ in 0..count {
        let answer = wire.ask("POST", "/login", "").await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        new += usize::from(answer.json()["generation"] == 2);
    }
    new
}

async fn asked(gateway: SocketAddr, fields: &str) -> String {
    let answer = Wire::open(gateway).await.ask("GET", "/where", fields).await;
    answer.json()["backend"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[tokio::test]
async fn the_share_is_the_files_and_nobody_moves() {
    let (old, new, mut gateway) = ramped(25).await;
    let mut browsers = Vec::new();
    for _ in 0..40 {
        let mut browser = Browser::new(gateway.address);
        browser.login().await;
        browsers.push(browser);
    }
    // Of 2,000, 500 with a deviation of 19.4: six of these are once in half a billion runs.
    let share = opened(gateway.address, 2_000).await;
    assert!((384..=616).contains(&share), "{share} of 2000 are no quarter");
    let status = gateway.status().await;
    assert_eq!((status.active("app"), status.generation("app", 2).unwrap().share), (Some(1), Some(25)));
    assert_eq!(status.generation("app", 1).unwrap().share, None);
    let text = gateway.cli("status").unwrap();
    assert!(text.contains("new sessions go to generation 1, 25% of them to 2"), "{text}");
    assert!(text.contains("ready 25%") && text.lines().all(|line| line.len() <= 80), "{text}");

    // Whoever is bound stays, in all tabs, while the share moves and when it ends.
    for browser in &mut browsers {
        browser.count().await;
        browser.count().await;
    }
    assert!(browsers.iter().any(|browser| browser.home.as_ref().unwrap().generation == 2), "of 40, none is new");
    gateway.reload([explicit(60, &[&old, &new])]).await;
    assert_eq!(gateway.status().await.generation("app", 2).unwrap().share, Some(60));
    let share = opened(gateway.address, 1_000).await;
    assert!((507..=693).contains(&share), "{share} of 1000 are no 60 percent");
    gateway.cli("promote app").unwrap();
    for browser in &mut browsers {
        browser.count().await;
    }
    assert_eq!(opened(gateway.address, 50).await, 50);
    assert_eq!(
        gateway.kinds().await,
        ["started", "rolled", "started", "ramped", "rules_changed", "ramped", "promoted"]
    );
    gateway.logs("app@2 is promoted and takes the new sessions; app@1 is detached").await;
    gateway.state(1, "detached").await;
}

#[tokio::test]
async fn streams_of_http2_and_websockets_are_drawn_for_as_well() {
    let (old, new, gateway) = ramped(25).await;
    let client = Http2::open(gateway.address).await;
    let mut share = 0;
    for _ in 0..400 {
        let reply = client.ask("POST", "/login", &[]).await;
        share += usize::from(reply.json()["generation"] == 2);
    }
    // 100 with a deviation of 8.7.
    assert!((48..=152).contains(&share), "{share} of 400 are no quarter");
    let before = (old.requests(), new.requests());
    for _ in 0..120 {
        Socket::open(gateway.address, "/ws", None).await;
    }
    let (to_old, to_new) = (old.requests() - before.0, new.requests() - before.1);
    assert_eq!(to_old + to_new, 120);
    // 30 with a deviation of 4.7.
    assert!((1..=58).contains(&to_new), "{to_new} of 120 are no quarter");
}

#[tokio::test]
async fn an_unknown_id_and_a_key_stay_on_one_side() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let hashed = |service: Service| service.set("balance", "{ hash = { query = \"uid\" } }");
    for by_key in [false, true] {
        let service = |apps: &[&App]| if by_key { hashed(explicit(50, apps)) } else { explicit(50, apps) };
        let mut gateway = Gateway::ready(File::new([service(&[&old])])).await;
        gateway.reload([service(&[&old, &new])]).await;
        gateway.state(2, "ready").await;
        let mut sides = [0, 0];
        for user in 0..40 {
            let ask = async || {
                let (target, cookie) = if by_key {
                    (format!("/where?uid={user}"), String::new())
                } else {
                    ("/where".to_owned(), format!("Cookie: sid=unknown-{user}\r\n"))
                };
                let answer = Wire::open(gateway.address).await.ask("GET", &target, &cookie).await;
                answer.json()["generation"].as_u64().unwrap()
            };
            let first = ask().await;
            sides[usize::try_from(first).unwrap() - 1] += 1;
            for _ in 0..4 {
                assert_eq!(ask().await, first, "user {user} moved");
            }
        }
        assert!(sides.iter().all(|count| *count > 0), "{sides:?}");
    }
}

#[tokio::test]
async fn what_opens_no_session_has_no_part_in_it() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let session = "cookie = \"sid\", end = [{ path = \"/never\" }], no_session = [{ user_agent = \"probe\" }]";
    let service = |apps: &[&App]| explicit(50, apps).session(session);
    let mut gateway = Gateway::ready(File::new([service(&[&old])])).await;
    gateway.reload([service(&[&old, &new])]).await;
    gateway.state(2, "ready").await;
    for _ in 0..40 {
        assert_eq!(asked(gateway.address, "User-Agent: Probe/1.0\r\n").await, "old");
    }
    let mut seen = Vec::new();
    for _ in 0..40 {
        seen.push(asked(gateway.address, "").await);
    }
    assert!(seen.iter().any(|one| one == "new"), "others are drawn for");
}

#[tokio::test]
async fn the_command_line_promotes_and_aborts() {
    let (old, new, gateway) = ramped(50).await;
    let mut browser = Browser::new(gateway.address);
    eventually("a session opens on the new one", async || match browser.login().await.generation {
        2 => Ok(()),
        other => {
            browser.logout().await;
            Err(other)
        }
    })
    .await;
    // What is not so is refused, and says why.
    for (line, why) in [
        ("promote app@1", "app@1 is active"),
        ("promote app@3", "there is no generation app@3"),
        ("promote shop", "there is no service shop"),
        ("detach app@1", "app@1 is active"),
        ("detach app", "as in app@8"),
        ("promote ap/p", "letters, digits"),
    ] {
        let told = gateway.cli(line).unwrap_err();
        assert!(told.contains(why), "{line}: {told}");
    }
    let told = gateway.cli("detach app@2").unwrap();
    assert!(told.contains("the ramp of app@2 was aborted"), "{told}");
    assert_eq!(gateway.cli("detach app@2").unwrap(), "it was so already\n");
    assert_eq!(opened(gateway.address, 50).await, 0);
    // Its session goes on and holds it; the file as it is brings it back neither now nor after a restart.
    browser.count().await;
    gateway.hup().await.unwrap();
    gateway.logs("app@2 stays detached: its ramp was aborted").await;
    assert_eq!(gateway.status().await.state("app", 2), "detached");
    let (folder, file) = gateway.kill();
    let gateway = Gateway::start_in(folder, file).await;
    assert_eq!(gateway.status().await.state("app", 2), "detached");
    browser = browser.tab();
    browser.count().await;
    assert_eq!(opened(gateway.address, 20).await, 0);
    let told = gateway.cli("promote app").unwrap_err();
    assert!(told.contains("app@1 takes all new sessions already"), "{told}");
    browser.logout().await;
    gateway.state(2, "retired").await;
    drop((old, new));
}

#[tokio::test]
async fn the_admin_api_takes_orders_of_those_who_may_give_them() {
    let (_old, _new, gateway) = ramped(50).await;
    let admin: SocketAddr = gateway.file.get("admin").trim_matches('"').parse().unwrap();
    let token = std::fs::read_to_string(gateway.folder().join("state/admin-token")).unwrap();
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    let own = format!("Host: {admin}\r\n");
    let ask = async |method: &str, fields: String| {
        let mut wire = Wire::open(admin).await;
        wire.send(format!("{method} /v1/services/app/promote HTTP/1.1\r\nConnection: close\r\n{fields}\r\n")).await;
        wire.answer().await
    };
    assert_eq!(ask("POST", own.clone()).await.status(), 401);
    assert_eq!(ask("POST", format!("Host: evil.example:{}\r\n{bearer}", admin.port())).await.status(), 403);
    assert_eq!(ask("POST", format!("{own}{bearer}Origin: http://evil.example\r\n")).await.status(), 403);
    assert_eq!(ask("POST", format!("{own}{bearer}Sec-Fetch-Site: cross-site\r\n")).await.status(), 403);
    assert_eq!(ask("GET", format!("{own}{bearer}")).await.status(), 405);
    assert_eq!(gateway.status().await.state("app", 2), "ready", "none of them was obeyed");
    for (path, status) in [
        ("/v1/services/shop/promote", 404),
        ("/v1/services/app/generations/7/detach", 404),
        ("/v1/services/app/generations/x/detach", 404),
        ("/v1/services/app/generations/2/explode", 404),
        ("/v1/services/app/generations/1/detach", 409),
        ("/v1/services/app/generations/1/promote", 409),
    ] {
        let answer = gateway.order(path).await;
        assert_eq!((answer.status(), answer.head.get("content-type")), (status, Some("application/problem+json")));
        assert!(!answer.json()["detail"].as_str().unwrap().is_empty());
    }
    let answer = gateway.order("/v1/services/app/generations/2/promote").await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(answer.json()["changes"][0].as_str().unwrap().contains("app@2 is promoted"), "{answer:?}");
    assert_eq!(gateway.status().await.active("app"), Some(2), "the answer comes when it is so");
}

#[tokio::test]
async fn the_file_promotes_and_aborts() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let mut gateway = Gateway::ready(File::new([shorthand(10, &old)])).await;
    // The old list again: aborted, without a session retired at once.
    gateway.reload([shorthand(10, &new)]).await;
    gateway.state(2, "ready").await;
    gateway.reload([shorthand(10, &old)]).await;
    gateway.state(2, "retired").await;
    assert_eq!(gateway.status().await.active("app"), Some(1));
    // Without the key there is no ramp: what is ready is active.
    gateway.reload([shorthand(10, &new)]).await;
    gateway.state(3, "ready").await;
    gateway.reload([Service::app().backends([new.address])]).await;
    assert_eq!(gateway.status().await.active("app"), Some(3));
    gateway.state(1, "retired").await;
    // The explicit form: the table that is removed is aborted, the share of 100 promotes.
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let mut gateway = Gateway::ready(File::new([explicit(10, &[&old])])).await;
    gateway.reload([explicit(10, &[&old, &new])]).await;
    gateway.state(2, "ready").await;
    gateway.reload([explicit(10, &[&old])]).await;
    gateway.state(2, "retired").await;
    let third = |rollout: u8| explicit(rollout, &[&old]).generation(3, [new.address]);
    gateway.reload([third(10)]).await;
    gateway.state(3, "ready").await;
    gateway.reload([third(100)]).await;
    assert_eq!(gateway.status().await.active("app"), Some(3));
    assert_eq!(asked(gateway.address, "").await, "new");
}

#[tokio::test]
async fn a_ramp_stands_after_a_death_where_it_stood() {
    let (old, new, mut gateway) = ramped(50).await;
    let mut browsers = Vec::new();
    for _ in 0..20 {
        let mut browser = Browser::new(gateway.address);
        browser.login().await;
        browsers.push(browser);
    }
    for dies in [true, false] {
        let (folder, file) = if dies { gateway.kill() } else { gateway.stop().await };
        gateway = Gateway::start_in(folder, file).await;
        let status = gateway.status().await;
        assert_eq!((status.active("app"), status.state("app", 2)), (Some(1), "ready"));
        assert_eq!(status.generation("app", 2).unwrap().share, Some(50));
        // At once: nothing has to get ready anew.
        let share = opened(gateway.address, 200).await;
        assert!((58..=142).contains(&share), "{share} of 200 are no half");
        for browser in &mut browsers {
            *browser = browser.tab();
            browser.count().await;
        }
    }
    // A promotion that was answered is so after a death, too.
    gateway.cli("promote app@2").unwrap();
    let (folder, file) = gateway.kill();
    let gateway = Gateway::start_in(folder, file).await;
    let status = gateway.status().await;
    assert_eq!((status.active("app"), status.state("app", 1)), (Some(2), "detached"));
    assert_eq!(opened(gateway.address, 20).await, 20);
    for browser in &mut browsers {
        *browser = browser.tab();
        browser.count().await;
    }
    drop((old, new));
}

#[tokio::test]
async fn a_further_roll_takes_the_share_over() {
    let (old, new, mut gateway) = ramped(50).await;
    let newest = App::start("newest", 3).await;
    newest.set_ready(false);
    let ready = "{ path = \"/healthz\", interval = \"20ms\", timeout = \"40s\" }";
    gateway.reload([explicit(50, &[&old, &new, &newest]).set("ready", ready)]).await;
    gateway.state(3, "starting").await;
    assert_eq!(gateway.status().await.state("app", 2), "ready", "until the third one is");
    assert!(opened(gateway.address, 60).await > 0);
    newest.set_ready(true);
    gateway.state(3, "ready").await;
    let status = gateway.status().await;
    assert_eq!((status.active("app"), status.state("app", 2)), (Some(1), "detached"));
    assert_eq!(opened(gateway.address, 60).await, 0);
    let mut seen = Vec::new();
    for _ in 0..60 {
        seen.push(asked(gateway.address, "").await);
    }
    assert!(seen.iter().any(|one| one == "newest") && seen.iter().any(|one| one == "old"), "{seen:?}");
}

#[tokio::test]
async fn nobody_pays_for_a_new_version_that_dies() {
    let (_old, new, gateway) = ramped(50).await;
    new.stop().await;
    for _ in 0..60 {
        let answer = Wire::open(gateway.address).await.ask("POST", "/login", "").await;
        assert_eq!((answer.status(), &answer.json()["backend"]), (200, &"old".into()), "{answer:?}");
    }
    gateway.sessions(1, 60).await;
}

#[tokio::test]
async fn a_session_of_the_new_version_stays_there_when_its_backend_is_set_down() {
    let old = App::start("old", 1).await;
    let (first, second) = (App::start("first", 2).await, App::start("second", 2).await);
    let service = |status: &str| {
        let backends =
            format!("[{{ address = \"{}\", status = \"{status}\" }}, \"{}\"]", first.address, second.address);
        explicit(0, &[&old]).generation_of(2, &backends)
    };
    let half = |status: &str| service(status).set("rollout", 90);
    let mut gateway = Gateway::ready(File::new([explicit(90, &[&old])])).await;
    gateway.reload([half("up")]).await;
    gateway.state(2, "ready").await;
    let mut browser = Browser::new(gateway.address);
    eventually("a session opens on the first backend", async || match browser.login().await.backend.as_str() {
        "first" => Ok(()),
        other => {
            let other = other.to_owned();
            browser.logout().await;
            Err(other)
        }
    })
    .await;
    gateway.reload([half("down")]).await;
    assert_eq!(browser.get("/where").await.json()["backend"], "second", "not on the old version");
}

#[tokio::test]
async fn no_session_opens_on_the_old_version_once_the_promotion_was_told() {
    let (_old, _new, gateway) = ramped(10).await;
    let (address, told) = (gateway.address, Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let mut wire = Wire::open(address).await;
                let mut after = 0;
                while after < 50 {
                    let is_told = told.load(Ordering::SeqCst);
                    let answer = wire.ask("POST", "/login", "").await;
                    assert!(!is_told || answer.json()["generation"] == 2, "{answer:?}");
                    after += usize::from(is_told);
                }
            })
        })
        .collect();
    gateway.order("/v1/services/app/promote").await;
    told.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn pages_are_told_no_other_version_than_their_own_while_it_is_ramped() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let session = "cookie = \"sid\", end = [{ path = \"/never\" }], announce = true";
    let service = |apps: &[&App]| explicit(50, apps).session(session);
    let mut gateway = Gateway::ready(File::new([service(&[&old])])).await;
    gateway.reload([service(&[&old, &new])]).await;
    gateway.state(2, "ready").await;
    let mut seen = [false; 2];
    for _ in 0..60 {
        let answer = Wire::open(gateway.address).await.get("/where").await;
        let own = answer.json()["generation"].as_u64().unwrap();
        assert_eq!(answer.head.get("tidegate-generation"), Some(&*format!("app@{own}; newest={own}")));
        seen[usize::try_from(own).unwrap() - 1] = true;
    }
    assert_eq!(seen, [true; 2]);
}
