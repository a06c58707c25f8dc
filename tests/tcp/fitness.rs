//! Backends that die or refuse: which connections end, who is passed over, who is ejected or down, and who comes back.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::support::{Backend, File, Gateway, Service, Status, eventually, free_address};
use crate::talk::{Caller, Program, connections, is_turned_away, lines, service};

fn backend(status: &Status, address: SocketAddr) -> &Backend {
    let backends = &status.generation("app", 1).unwrap().backends;
    backends.iter().find(|one| one.address == address.to_string()).unwrap()
}

/// Who answers so many callers, each of whom leaves.
async fn answering(address: SocketAddr, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        let caller = Caller::open(address).await;
        names.push(caller.name.clone());
        caller.leave().await;
    }
    names.sort();
    names.dedup();
    names
}

/// Two programs that get new connections in turn.
struct Pair {
    gateway: Gateway,
    address: SocketAddr,
    a: Program,
    b: Program,
}

async fn pair(keys: &[(&str, &str)]) -> Pair {
    let (a, b) = (Program::echo("a").await, Program::echo("b").await);
    let (service, address) = service();
    let service = service.backends([a.address, b.address]).set("balance", "\"round_robin\"");
    let service = keys.iter().fold(service, |service: Service, (key, value)| service.set(key, value));
    Pair { gateway: Gateway::ready(File::new([service])).await, address, a, b }
}

#[tokio::test]
async fn who_refuses_so_often_is_ejected_and_comes_back() {
    let ejection = "{ errors = 2, duration = \"1s\", max_duration = \"1s\" }";
    let Pair { gateway, address, a, b: _b } = pair(&[("ejection", ejection)]).await;
    // Half of the connections each.
    let mut callers = Vec::new();
    for _ in 0..8 {
        callers.push(Caller::open(address).await);
    }
    let gone = a.address;
    a.stop().await;
    let (mut cut, mut going_on) = (0, Vec::new());
    for mut caller in callers {
        let outcome = caller.try_say(b"still there?").await;
        match (caller.name.as_str(), outcome) {
            ("a", Err(_)) => cut += 1,
            ("b", Ok(())) => going_on.push(caller),
            (name, outcome) => panic!("a connection to {name}: {outcome:?}"),
        }
    }
    assert_eq!((cut, going_on.len()), (4, 4));
    connections(&gateway, 1, 4).await;

    // A caller who comes to the dead one is passed on to the other, and is none the wiser.
    let ask = async {
        loop {
            assert_eq!(answering(address, 1).await, ["b"]);
        }
    };
    let status = tokio::select! {
        () = ask => unreachable!("they call for ever"),
        status = gateway.until("it is ejected", |status| backend(status, gone).ejected_until.is_some()) => status,
    };
    let why = backend(&status, gone).ejection_reason.clone().unwrap();
    assert!(why.ends_with("requests in a row failed, the last one by no connection"), "{why}");

    // It takes connections again, and gets some when its time is over.
    let _a = Program::echo_at(gone, "a").await;
    gateway.until("it is not ejected", |status| backend(status, gone).ejected_until.is_none()).await;
    assert_eq!(answering(address, 6).await, ["a", "b"]);
    for mut caller in going_on {
        caller.say(b"all the while").await;
        caller.leave().await;
    }
}

#[tokio::test]
async fn an_ejected_one_is_not_tried() {
    let Pair { gateway, address, a, b: _b } =
        pair(&[("ejection", "{ errors = 2, duration = \"1h\", max_duration = \"1h\" }")]).await;
    let gone = a.address;
    a.stop().await;
    eventually("it is ejected", async || {
        assert_eq!(answering(address, 2).await, ["b"]);
        backend(&gateway.status().await, gone).ejected_until.clone().ok_or("not yet")
    })
    .await;
    // Whoever came would be noticed.
    let listener = TcpListener::bind(gone).await.unwrap();
    assert_eq!(answering(address, 20).await, ["b"]);
    let nobody = tokio::select! {
        biased;
        came = listener.accept() => Err(came),
        () = std::future::ready(()) => Ok(()),
    };
    assert!(nobody.is_ok(), "{nobody:?}");
}

#[tokio::test]
async fn a_check_finds_who_is_gone_and_who_is_back() {
    let keys = [("health", "{ interval = \"30ms\", timeout = \"30s\" }"), ("ejection", "\"off\"")];
    let Pair { gateway, address, a, b } = pair(&keys).await;
    let known = async |who: SocketAddr, health: &str| {
        gateway.until(&format!("{who} is {health}"), |status| backend(status, who).health == health).await
    };
    known(a.address, "up").await;
    known(b.address, "up").await;
    let mut caller = Caller::open(address).await;
    while caller.name != "b" {
        caller = Caller::open(address).await;
    }
    let gone = a.address;
    a.stop().await;
    let status = known(gone, "down").await;
    let why = backend(&status, gone).health_reason.clone().unwrap();
    assert!(why.starts_with(&format!("3 checks in a row failed: cannot connect to {gone}")), "{why}");
    assert_eq!(answering(address, 10).await, ["b"]);
    caller.say(b"nobody here minds").await;
    let a = Program::echo_at(gone, "a").await;
    known(gone, "up").await;
    assert_eq!(answering(address, 6).await, ["a", "b"]);
    caller.leave().await;

    // With everybody down, callers are tried on all of them, and turned away in the end.
    let others = b.address;
    a.stop().await;
    b.stop().await;
    known(gone, "down").await;
    known(others, "down").await;
    is_turned_away(address).await;
    let _b = Program::echo_at(others, "b").await;
    known(others, "up").await;
    assert_eq!(answering(address, 3).await, ["b"]);
    let lines = lines(&gateway, 1).await;
    assert_eq!(lines.iter().filter(|line| line["status"] == 502).count(), 1, "{lines:?}");
}

#[tokio::test]
async fn who_fails_its_check_at_another_port_takes_nobody_new() {
    let checked = free_address().port();
    let a = Program::echo_at(SocketAddr::from(([127, 0, 0, 2], free_address().port())), "a").await;
    let b = Program::echo("b").await;
    let mut sides = Vec::new();
    for program in [&a, &b] {
        sides.push(TcpListener::bind((program.address.ip(), checked)).await.unwrap());
    }
    let (service, address) = service();
    let health = format!("{{ interval = \"30ms\", timeout = \"30s\", port = {checked} }}");
    let service = service.backends([a.address, b.address]).set("balance", "\"round_robin\"").set("health", health);
    let gateway = Gateway::ready(File::new([service])).await;
    let known = async |health: &str| {
        gateway.until(&format!("a is {health}"), |status| backend(status, a.address).health == health).await
    };
    known("up").await;
    let mut caller = Caller::open(address).await;
    while caller.name != "a" {
        caller = Caller::open(address).await;
    }
    drop(sides.remove(0));
    known("down").await;
    // It would take them.
    assert_eq!(answering(address, 10).await, ["b"]);
    caller.say(b"its own go on").await;
    sides.push(TcpListener::bind((a.address.ip(), checked)).await.unwrap());
    known("up").await;
    assert_eq!(answering(address, 6).await, ["a", "b"]);
    caller.leave().await;
}
