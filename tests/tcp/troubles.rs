//! Backends that are not there, die or say nothing; services that take nobody.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{File, Gateway, Wire, eventually, executable, free_address, is_reset, within};
use crate::talk::{Caller, Program, before, connections, is_turned_away, lines, service};

#[tokio::test]
async fn who_refuses_is_passed_over() {
    let (gone, there) = (Program::echo("a").await, Program::echo("b").await);
    let (gateway, _, address) = before(&[&gone, &there]).await;
    gone.stop().await;
    for _ in 0..20 {
        assert_eq!(Caller::open(address).await.name, "b");
    }
    there.stop().await;
    is_turned_away(address).await;
    let lines = lines(&gateway, 21).await;
    let refused: Vec<_> = lines.iter().filter(|line| line["status"] == 502).collect();
    assert_eq!(refused.len(), 1, "{lines:?}");
    assert_eq!(refused[0]["reason"], "no backend could be reached");
}

/// `tidegate demo-app`, which is a server of TCP as any other.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_backend_that_is_killed_takes_its_connections_with_it_and_no_others() {
    let (first, second) = (free_address(), free_address());
    let start = |port: u16| {
        let mut command = Command::new(executable());
        command.args(["demo-app", "--port", &port.to_string(), "--generation", "1"]);
        Demo(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    };
    let (mut dies, _lives) = (start(first.port()), start(second.port()));
    let (service, address) = service();
    let service = service.set("balance", "\"round_robin\"").set("connect_timeout", "\"2s\"");
    let gateway = Gateway::ready(File::new([service.backends([first, second])])).await;
    let mut callers = Vec::new();
    eventually("both backends have connections", async || {
        let mut wire = Wire::open(address).await;
        assert_eq!(wire.get("/healthz").await.status(), 200);
        callers.push(wire);
        let status = gateway.status().await;
        let backends = &status.generation("app", 1).unwrap().backends;
        if backends.iter().all(|backend| backend.tunnels >= 3) { Ok(()) } else { Err(format!("{backends:?}")) }
    })
    .await;
    let of = |status: &crate::support::Status, name: &str| {
        let backends = &status.generation("app", 1).unwrap().backends;
        backends.iter().find(|backend| backend.name == name).unwrap().tunnels
    };
    let kept = of(&gateway.status().await, &second.to_string());
    dies.0.kill().unwrap();
    dies.0.wait().unwrap();
    let mut going_on = Vec::new();
    for mut wire in callers {
        // An answer, or the end.
        let asked = wire.try_send("GET /healthz HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        if asked.is_ok() && wire.try_answer("GET").await.is_ok() {
            going_on.push(wire);
        }
    }
    assert_eq!(going_on.len() as u64, kept, "others were cut off as well");
    gateway.until("the dead have no connections", |status| of(status, &first.to_string()) == 0).await;
    for _ in 0..10 {
        assert_eq!(Wire::open(address).await.get("/healthz").await.status(), 200);
    }
}

#[tokio::test]
async fn a_reset_is_no_end() {
    let program = Program::start(async |mut stream: TcpStream| {
        let mut first = [0];
        if stream.read(&mut first).await.is_ok_and(|read| read == 1) {
            stream.write_all(b"half of i").await.unwrap();
            // Until the client has that half.
            let _ = stream.read(&mut first).await;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    })
    .await;
    let (gateway, _, address) = before(&[&program]).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"!").await.unwrap();
    let mut half = [0; 9];
    within("half", stream.read_exact(&mut half)).await.unwrap();
    stream.write_all(b"!").await.unwrap();
    let error = within("the end", stream.read(&mut half)).await.expect_err("it passes for the whole");
    assert!(is_reset(&error), "{error}");
    let line = lines(&gateway, 1).await.remove(0);
    assert_eq!(line["reason"], "the backend broke off", "{line}");
}

/// A program that answers and hangs up before it has heard all, as one that refuses a long message does.
#[tokio::test]
async fn a_last_word_to_somebody_who_talks_on_is_heard() {
    const LAST: &str = "too long";
    let program = Program::start(async |mut stream: TcpStream| {
        let mut first = [0; 1_000];
        if stream.read(&mut first).await.is_ok_and(|read| read > 0) {
            stream.write_all(LAST.as_bytes()).await.unwrap();
        }
    })
    .await;
    let (_gateway, _, address) = before(&[&program]).await;
    for _ in 0..50 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut read, mut write) = stream.split();
        let talk = async {
            let words = vec![b'x'; 8 << 10];
            for _ in 0..64 {
                if write.write_all(&words).await.is_err() {
                    break;
                }
            }
        };
        let mut heard = [0; LAST.len()];
        let (_, heard_all) = within("the last word", async { tokio::join!(talk, read.read_exact(&mut heard)) }).await;
        heard_all.unwrap_or_else(|error| panic!("{:?}: {error}", String::from_utf8_lossy(&heard)));
        assert_eq!(heard, LAST.as_bytes());
    }
}

#[tokio::test]
async fn a_silent_connection_ends_at_its_limit() {
    let program = Program::echo("a").await;
    let (service, address) = service();
    let service = service.set("tunnel_timeout", "\"1s\"");
    let gateway = Gateway::ready(File::new([service.backends([program.address])])).await;
    let (mut busy, mut silent) = (Caller::open(address).await, Caller::open(address).await);
    let stop = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&stop);
    let talking = tokio::spawn(async move {
        while !is_over.load(Ordering::SeqCst) {
            busy.say(b"and so on").await;
        }
        busy
    });
    assert_eq!(silent.rest().await.unwrap(), b"");
    stop.store(true, Ordering::SeqCst);
    talking.await.unwrap().leave().await;
    let lines = lines(&gateway, 2).await;
    let silent: Vec<_> = lines.iter().filter(|line| line["reason"] == "no byte within tunnel_timeout").collect();
    assert_eq!(silent.len(), 1, "{lines:?}");
    assert_eq!(silent[0]["request_bytes"], 0);
}

#[tokio::test]
async fn maintenance_turns_new_ones_away_and_leaves_the_others() {
    let program = Program::echo("a").await;
    let (mut gateway, service, address) = before(&[&program]).await;
    let mut caller = Caller::open(address).await;
    let service = service.backends([program.address]);
    gateway.reload([service.clone().set("maintenance", "{ on = true }")]).await;
    is_turned_away(address).await;
    caller.say(b"still here").await;
    let line = lines(&gateway, 1).await.remove(0);
    assert_eq!((&line["status"], &line["reason"]), (&503.into(), &"maintenance: new sessions are turned away".into()));
    assert!(line.get("backend").is_none(), "{line}");
    gateway.reload([service]).await;
    Caller::open(address).await.leave().await;
    caller.leave().await;
}

#[tokio::test]
async fn without_a_ready_generation_nobody_is_served() {
    let (service, address) = service();
    let _gateway = Gateway::start(File::new([service.backends([free_address()])])).await;
    is_turned_away(address).await;
}

#[tokio::test]
async fn backends_that_are_set_to_drain_take_nobody_new() {
    let program = Program::echo("a").await;
    let (mut gateway, service, address) = before(&[&program]).await;
    let mut caller = Caller::open(address).await;
    let list = format!("[{{ address = \"{}\", status = \"drain\" }}]", program.address);
    gateway.reload([service.clone().set("backends", list)]).await;
    is_turned_away(address).await;
    caller.say(b"still here").await;
    let line = lines(&gateway, 1).await.remove(0);
    assert_eq!(line["reason"], "every backend is set to drain or down", "{line}");
}

#[tokio::test]
async fn connections_count_among_those_of_the_gateway() {
    let program = Program::echo("a").await;
    let (service, address) = service();
    let file = File::new([service.backends([program.address])]).set("max_connections", 3);
    let gateway = Gateway::ready(file).await;
    eventually("the test's own look is over", async || match gateway.status().await.gateway.connections {
        0 => Ok(()),
        open => Err(open),
    })
    .await;
    let mut callers = Vec::new();
    for _ in 0..3 {
        callers.push(Caller::open(address).await);
    }
    is_turned_away(address).await;
    callers.pop().unwrap().leave().await;
    connections(&gateway, 1, 2).await;
    Caller::open(address).await.leave().await;
}
