//! Addresses of services come and go with the file, all of them or none.

use tokio::net::TcpListener;

use crate::support::{Service, Wire, eventually, free_address};
use crate::talk::{Caller, Program, before, closed, is_turned_away};

#[test]
fn the_example_is_a_right_one() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/tcp/tidegate.toml");
    let loaded = tidegate::config::load(&file.as_path().into()).unwrap_or_else(|report| panic!("{report}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let listen: Vec<_> = loaded.model.services.iter().map(|service| service.mode.listen().len()).collect();
    assert_eq!(listen, [1, 1]);
}

#[tokio::test]
async fn addresses_come_and_go_with_the_file() {
    let (a, b) = (Program::echo("a").await, Program::echo("b").await);
    let (mut gateway, service, address) = before(&[&a]).await;
    let mut caller = Caller::open(address).await;
    let (second, other) = (free_address(), free_address());
    let service = service.backends([a.address]);
    let both = service.clone().set("listen", format!("[\"{address}\", \"{second}\"]"));
    let another = Service::tcp("other", other).backends([b.address]);
    gateway.reload([both, another.clone()]).await;
    gateway.all_active().await;
    for (address, name) in [(address, "a"), (second, "a"), (other, "b")] {
        assert_eq!(Caller::open(address).await.name, name, "{address}");
    }
    let mut through_second = Caller::open(second).await;
    gateway.reload([service.set("listen", format!("[\"{second}\"]")), another]).await;
    closed(address).await;
    assert_eq!(Caller::open(second).await.name, "a");
    // Who came by an address that is no more stays.
    caller.say(b"still here").await;
    through_second.say(b"here as well").await;
    // Nothing of it is a roll.
    let status = gateway.status().await;
    assert_eq!((status.active("app"), status.active("other")), (Some(1), Some(1)));
    caller.leave().await;
}

#[tokio::test]
async fn a_service_that_vanishes_serves_who_is_there() {
    let (a, b) = (Program::echo("a").await, Program::echo("b").await);
    let (mut gateway, _, address) = before(&[&a]).await;
    let mut caller = Caller::open(address).await;
    gateway.reload([Service::tcp("other", free_address()).backends([b.address])]).await;
    closed(address).await;
    caller.say(b"still here").await;
    gateway.until("app drains", |status| status.service("app").is_some_and(|service| !service.in_file)).await;
    assert_eq!(gateway.status().await.state("app", 1), "detached");
    caller.leave().await;
    gateway.until("app is gone", |status| status.service("app").is_none()).await;
}

#[tokio::test]
async fn an_address_can_be_given_to_another_service() {
    let (a, b) = (Program::echo("a").await, Program::echo("b").await);
    let (mut gateway, service, address) = before(&[&a]).await;
    let other = free_address();
    let service = service.backends([a.address]);
    let second = |address| Service::tcp("other", address).backends([b.address]);
    gateway.reload([service.clone(), second(other)]).await;
    gateway.all_active().await;
    let mut caller = Caller::open(address).await;
    // They change places.
    gateway.reload([service.clone().set("listen", format!("[\"{other}\"]")), second(address)]).await;
    for (address, name) in [(address, "b"), (other, "a")] {
        eventually("the address is another's", async || {
            let found = Caller::open(address).await.name;
            if found == name { Ok(()) } else { Err(found) }
        })
        .await;
    }
    caller.say(b"still here").await;
    assert_eq!(caller.name, "a");
}

#[tokio::test]
async fn an_address_can_become_the_gateways_own() {
    let a = Program::echo("a").await;
    let (mut gateway, service, address) = before(&[&a]).await;
    let mut caller = Caller::open(address).await;
    let listen = format!("[\"{}\", \"{address}\"]", gateway.address);
    let file = gateway.file.with([service.set("listen", format!("[\"{}\"]", free_address())).backends([a.address])]);
    gateway.write(file.set("listen", listen));
    gateway.hup().await.unwrap();
    eventually("it speaks HTTP there", async || {
        let mut wire = Wire::open(address).await;
        let asked = wire.try_send("GET /.tidegate/ready HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        asked.map_err(|error| error.to_string())?;
        match wire.try_answer("GET").await {
            Ok(answer) if answer.status() == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    caller.say(b"still here").await;
}

#[tokio::test]
async fn a_file_with_an_address_that_is_taken_changes_nothing() {
    let (a, b) = (Program::echo("a").await, Program::echo("b").await);
    let (mut gateway, service, address) = before(&[&a]).await;
    let mut caller = Caller::open(address).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = free_address();
    // A roll, a service, an address less, one more and one that another process has.
    let listen = format!("[\"{free}\", \"{}\"]", taken.local_addr().unwrap());
    let file = gateway.file.with([
        service.clone().set("listen", listen).backends([b.address]),
        Service::tcp("other", free_address()).backends([b.address]),
    ]);
    gateway.write(file);
    let report = gateway.hup().await.expect_err("the address is taken");
    let wanted = format!("cannot listen on {}", taken.local_addr().unwrap());
    assert!(report.contains(&wanted) && report.contains("`listen` of the service app"), "{report}");
    closed(free).await;
    let status = gateway.status().await;
    assert_eq!((status.active("app"), status.services.len()), (Some(1), 1), "{status:?}");
    caller.say(b"still here").await;
    assert_eq!(Caller::open(address).await.name, "a");
    // What was in the way is gone: the same file is taken.
    drop(taken);
    let file = gateway.file.clone();
    gateway.write(file);
    gateway.hup().await.unwrap();
    gateway.active(2).await;
    assert_eq!(Caller::open(free).await.name, "b");
    caller.say(b"here all the while").await;
}

#[tokio::test]
async fn a_service_keeps_its_mode_while_something_is_open() {
    let a = Program::echo("a").await;
    let (mut gateway, service, address) = before(&[&a]).await;
    let caller = Caller::open(address).await;
    let file = gateway.file.with([Service::app().backends([a.address])]);
    gateway.write(file);
    let report = gateway.hup().await.expect_err("it speaks HTTP on a sudden");
    assert!(report.contains("mode = \"tcp\"") && report.contains("a name of its own"), "{report}");
    caller.leave().await;
    // Nothing was changed by it.
    Caller::open(address).await.leave().await;
    gateway.reload([service.set("maintenance", "{ on = true }").backends([a.address])]).await;
    is_turned_away(address).await;
}
