//! Generations of a service of plain TCP: who is connected stays, who comes is on the newest, the last one ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::support::{File, Gateway, eventually, is_reset};
use crate::talk::{Caller, Program, before, closed, connections, lines, service};

#[tokio::test]
async fn who_is_connected_stays_and_the_last_one_ends_the_generation() {
    let (old, new) = (Program::echo("old").await, Program::echo("new").await);
    let (service, address) = service();
    let hook = "[\"sh\", \"-c\", \"echo $0 $TIDEGATE_BACKENDS >> %FOLDER%/retired\", \"{service}@{generation}\"]";
    let service = service.set("on_retired", hook);
    let mut gateway = Gateway::ready(File::new([service.clone().backends([old.address])])).await;
    let (mut first, mut second) = (Caller::open(address).await, Caller::open(address).await);
    let stop = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&stop);
    // Without a pause before, within and after the roll.
    let talking = tokio::spawn(async move {
        let mut said = 0_u64;
        while !is_over.load(Ordering::SeqCst) {
            first.say(format!("{said} ").as_bytes()).await;
            said += 1;
        }
        (first, said)
    });
    gateway.reload([service.backends([new.address])]).await;
    gateway.active(2).await;
    let mut third = Caller::open(address).await;
    assert_eq!((second.name.as_str(), third.name.as_str()), ("old", "new"));
    second.say(b"still here").await;
    third.say(b"here by now").await;
    connections(&gateway, 1, 2).await;
    connections(&gateway, 2, 1).await;
    assert_eq!(gateway.status().await.state("app", 1), "detached");

    second.leave().await;
    connections(&gateway, 1, 1).await;
    assert_eq!(gateway.status().await.state("app", 1), "detached");
    assert!(!gateway.folder().join("retired").exists());
    stop.store(true, Ordering::SeqCst);
    let (first, said) = talking.await.unwrap();
    assert!(said > 0);
    first.leave().await;
    gateway.state(1, "retired").await;
    eventually("the hook has run", async || {
        let told = std::fs::read_to_string(gateway.folder().join("retired")).map_err(|error| error.to_string())?;
        if told.starts_with("app@1 ") && told.lines().count() == 1 { Ok(()) } else { Err(told) }
    })
    .await;
    third.say(b"here all the while").await;
    third.leave().await;
}

#[tokio::test]
async fn the_drain_deadline_ends_what_is_left() {
    let (old, new) = (Program::echo("old").await, Program::echo("new").await);
    let (service, address) = service();
    let service = service.set("drain_timeout", "\"1s\"").set("drain_spread", "\"500ms\"");
    let mut gateway = Gateway::ready(File::new([service.clone().backends([old.address])])).await;
    let mut callers = Vec::new();
    for _ in 0..10 {
        callers.push(Caller::open(address).await);
    }
    gateway.reload([service.backends([new.address])]).await;
    gateway.active(2).await;
    let mut later = Caller::open(address).await;
    for caller in &mut callers {
        assert_eq!(caller.rest().await.unwrap(), b"");
    }
    gateway.state(1, "retired").await;
    eventually("the program is alone", async || if old.open() == 0 { Ok(()) } else { Err(old.open()) }).await;
    for line in lines(&gateway, 10).await {
        assert_eq!(line["reason"], "the generation's drain deadline has passed", "{line}");
    }
    later.say(b"another generation").await;
}

#[tokio::test]
async fn a_rollback_by_the_file_takes_new_ones_back() {
    let (one, two) = (Program::echo("one").await, Program::echo("two").await);
    let (service, address) = service();
    let first = service.clone().generation(1, [one.address]);
    let both = first.clone().generation(2, [two.address]);
    let mut gateway = Gateway::ready(File::new([first.clone()])).await;
    let early = Caller::open(address).await;
    gateway.reload([both]).await;
    gateway.active(2).await;
    let late = Caller::open(address).await;
    gateway.reload([first]).await;
    gateway.active(1).await;
    let last = Caller::open(address).await;
    assert_eq!([&early.name, &late.name, &last.name], ["one", "two", "one"]);
    late.leave().await;
    gateway.state(2, "retired").await;
    early.leave().await;
    last.leave().await;
}

#[tokio::test]
async fn many_talk_on_through_rolls() {
    const CALLERS: usize = 300;
    let programs =
        [Program::echo("1").await, Program::echo("2").await, Program::echo("3").await, Program::echo("4").await];
    let (mut gateway, service, address) = before(&[&programs[0]]).await;
    let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..CALLERS {
        let (stop, told) = (Arc::clone(&stop), Arc::clone(&told));
        callers.spawn(async move {
            let mut seen = Vec::new();
            // Some stay for the whole time, some come and go.
            while !stop.load(Ordering::SeqCst) {
                let mut caller = Caller::open(address).await;
                seen.push(caller.name.parse::<u64>().unwrap());
                let mut said = 0;
                while !stop.load(Ordering::SeqCst) && (number % 3 == 0 || said < 5) {
                    caller.say(format!("{number}: {said}; {}", "x".repeat(number * 37)).as_bytes()).await;
                    (said, _) = (said + 1, told.fetch_add(1, Ordering::SeqCst));
                }
                caller.leave().await;
            }
            seen
        });
    }
    for (index, program) in programs.iter().enumerate().skip(1) {
        let before = told.load(Ordering::SeqCst);
        let wanted = before + 2 * CALLERS;
        eventually("there is talk", async || {
            let now = told.load(Ordering::SeqCst);
            if now > wanted { Ok(()) } else { Err(now) }
        })
        .await;
        gateway.reload([service.clone().backends([program.address])]).await;
        gateway.active(index as u64 + 1).await;
        assert_eq!(Caller::open(address).await.name, (index + 1).to_string(), "after the roll was told as done");
    }
    stop.store(true, Ordering::SeqCst);
    let (mut stayed, mut visits) = (0, 0);
    while let Some(seen) = callers.join_next().await {
        let seen = seen.unwrap_or_else(|error| panic!("a connection failed: {error}"));
        assert!(seen.is_sorted(), "one came back to an older generation: {seen:?}");
        stayed += usize::from(seen == [1]);
        visits += seen.len();
    }
    assert!(stayed >= CALLERS / 3 && visits > CALLERS, "{stayed} stayed, {visits} visits");
    for number in 1..4 {
        gateway.state(number, "retired").await;
    }
    connections(&gateway, 4, 0).await;
}

#[tokio::test]
async fn a_gateway_that_stops_waits_for_connections() {
    let program = Program::echo("a").await;
    let (mut gateway, _, address) = before(&[&program]).await;
    let mut caller = Caller::open(address).await;
    gateway.signal(Signal::TERM);
    closed(address).await;
    caller.say(b"not yet").await;
    assert!(gateway.is_running());
    caller.leave().await;
    let status = gateway.exited().await;
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
}

#[tokio::test]
async fn what_does_not_end_is_ended_when_the_gateway_stops() {
    let program = Program::echo("a").await;
    let (service, address) = service();
    let file = File::new([service.backends([program.address])]).set("shutdown_timeout", "\"700ms\"");
    let mut gateway = Gateway::ready(file).await;
    let mut callers = Vec::new();
    for _ in 0..5 {
        callers.push(Caller::open(address).await);
    }
    gateway.signal(Signal::TERM);
    for caller in &mut callers {
        assert_eq!(caller.rest().await.unwrap(), b"");
    }
    let status = gateway.exited().await;
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    for line in lines(&gateway, 5).await {
        assert_eq!(line["reason"], "the gateway is stopping", "{line}");
    }
}

#[tokio::test]
async fn a_restart_ends_connections_and_the_generations_that_they_held() {
    let (old, new) = (Program::echo("old").await, Program::echo("new").await);
    let (mut gateway, service, address) = before(&[&old]).await;
    let mut caller = Caller::open(address).await;
    gateway.reload([service.backends([new.address])]).await;
    gateway.active(2).await;
    assert_eq!(gateway.status().await.state("app", 1), "detached");
    let (folder, file) = gateway.kill();
    match caller.rest().await {
        Ok(rest) => assert_eq!(rest, b""),
        Err(error) => assert!(is_reset(&error), "{error}"),
    }
    let gateway = Gateway::start_in(folder, file).await;
    gateway.all_active().await;
    gateway.state(1, "retired").await;
    assert_eq!(Caller::open(address).await.name, "new");
}
