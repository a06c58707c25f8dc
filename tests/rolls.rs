//! The promise of the house: clients with sessions notice nothing while generations roll under them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{App, Browser, File, Gateway, Service, eventually, full_scale};

/// How the file names a generation.
#[derive(Clone, Copy)]
enum Form {
    /// `backends = […]`.
    Shorthand,
    /// `[[service.generation]]`.
    Explicit,
}

impl Form {
    /// A file in which generation `number` with these applications is the newest.
    fn service(self, number: u64, apps: &[App]) -> Service {
        // One hundred, so that a slow client's generation never stands in the way of the next roll.
        let service = Service::app().set("max_generations", 100);
        let addresses = apps.iter().map(|app| app.address);
        match self {
            Form::Shorthand => service.backends(addresses),
            Form::Explicit => service.generation(number, addresses),
        }
    }
}

/// What clients and the one who rolls share.
#[derive(Default)]
struct Course {
    /// The newest generation whose roll was announced as done.
    announced: AtomicU64,
    stop: AtomicBool,
    requests: AtomicU64,
    sessions: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// Opens one session after the other, uses it and ends it, until the course is over.
async fn client(mut browser: Browser, course: Arc<Course>) {
    while !course.stop.load(Ordering::SeqCst) {
        if let Err(failure) = session(&mut browser, &course).await {
            course.failures.lock().unwrap().push(failure);
            return;
        }
    }
}

async fn session(browser: &mut Browser, course: &Course) -> Result<(), String> {
    let announced = course.announced.load(Ordering::SeqCst);
    let home = browser.try_login().await?;
    if home.generation < announced {
        return Err(format!("a session opened on {home:?} when generation {announced} had been announced"));
    }
    course.sessions.fetch_add(1, Ordering::SeqCst);
    for _ in 0..fastrand::u32(3..40) {
        browser.try_count().await?;
        course.requests.fetch_add(1, Ordering::SeqCst);
    }
    browser.try_logout().await
}

async fn two_apps(number: u64) -> Vec<App> {
    vec![App::start(&format!("{number}a"), number).await, App::start(&format!("{number}b"), number).await]
}

async fn rolling(form: Form, clients: usize, rolls: u64, every: Option<Duration>) {
    let mut apps = BTreeMap::from([(1, two_apps(1).await)]);
    let mut gateway = Gateway::ready(File::new([form.service(1, &apps[&1])])).await;
    let course = Arc::new(Course::default());
    course.announced.store(1, Ordering::SeqCst);
    let start = |course: &Arc<Course>, gateway: &Gateway| {
        let clients = (0..clients).map(|_| tokio::spawn(client(Browser::new(gateway.address), Arc::clone(course))));
        clients.collect::<Vec<_>>()
    };
    let mut tasks = start(&course, &gateway);
    progress(&course, clients as u64 * 5).await;
    let warm = gateway.memory();

    let mut tick = every.map(tokio::time::interval);
    for number in 2..=rolls + 1 {
        if let Some(tick) = &mut tick {
            tick.tick().await;
        }
        apps.insert(number, two_apps(number).await);
        gateway.reload([form.service(number, &apps[&number])]).await;
        let status = gateway.active(number).await;
        course.announced.store(number, Ordering::SeqCst);
        // What is retired is stopped, as an operator would; a client whose session was there notices.
        apps.retain(|number, _| status.state("app", *number) != "retired");
        progress(&course, clients as u64).await;
        let failures = course.failures.lock().unwrap();
        assert!(failures.is_empty(), "{} clients failed, the first: {:#?}", failures.len(), failures.first());
    }

    // With every session of the last roll's past over, all that is before it goes.
    let last = rolls + 1;
    gateway
        .until("all but the active generation are retired", |status| {
            (1..last).all(|number| status.state("app", number) == "retired")
        })
        .await;
    course.stop.store(true, Ordering::SeqCst);
    for task in tasks.drain(..) {
        task.await.unwrap();
    }
    let failures = course.failures.lock().unwrap().clone();
    assert!(failures.is_empty(), "{} clients failed, the first: {:#?}", failures.len(), failures.first());
    let (sessions, requests) = (course.sessions.load(Ordering::SeqCst), course.requests.load(Ordering::SeqCst));
    assert!(sessions > clients as u64 && requests > sessions, "{sessions} sessions, {requests} requests");
    gateway.sessions(last, 0).await;
    assert!(apps[&last].iter().all(|app| app.sessions() == 0));

    eprintln!("{clients} clients, {rolls} rolls: {sessions} sessions, {requests} requests");
    if full_scale() {
        // Less than with all clients there: what they held is given back, to the system too.
        eventually("memory is back where it was", async || {
            let now = gateway.memory();
            if now < warm { Ok(()) } else { Err(format!("{warm} bytes in the beginning, {now} now")) }
        })
        .await;
    }
}

/// Waits for so many further requests.
async fn progress(course: &Course, requests: u64) {
    let goal = course.requests.load(Ordering::SeqCst) + requests;
    eventually("the clients go on", async || {
        let now = course.requests.load(Ordering::SeqCst);
        let failures = course.failures.lock().unwrap();
        if now >= goal || !failures.is_empty() { Ok(()) } else { Err(format!("{now} of {goal} requests")) }
    })
    .await;
}

async fn at_scale(form: Form) {
    if full_scale() {
        rolling(form, 2_000, 60, Some(Duration::from_secs(1))).await;
    } else {
        rolling(form, 200, 5, None).await;
    }
}

#[tokio::test]
async fn clients_notice_nothing_of_rolls_by_the_shorthand_list() {
    at_scale(Form::Shorthand).await;
}

#[tokio::test]
async fn clients_notice_nothing_of_rolls_by_explicit_generations() {
    at_scale(Form::Explicit).await;
}

#[tokio::test]
async fn requests_without_a_session_fail_in_no_roll() {
    let mut apps = vec![App::start("1", 1).await];
    let mut gateway = Gateway::ready(File::new([Service::app().backends([apps[0].address])])).await;
    let course = Arc::new(Course::default());
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (mut browser, course) = (Browser::new(gateway.address), Arc::clone(&course));
            tokio::spawn(async move {
                while !course.stop.load(Ordering::SeqCst) {
                    let announced = course.announced.load(Ordering::SeqCst);
                    let answer = browser.try_ask("GET", "/where").await;
                    let generation = answer.as_ref().ok().and_then(|answer| answer.json()["generation"].as_u64());
                    if generation.is_none_or(|generation| generation < announced) {
                        course.failures.lock().unwrap().push(format!("after {announced}: {answer:?}"));
                        return;
                    }
                    course.requests.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for number in 2..=6 {
        let app = App::start(&number.to_string(), number).await;
        gateway.reload([Service::app().backends([app.address])]).await;
        gateway.active(number).await;
        course.announced.store(number, Ordering::SeqCst);
        // Nobody has a session: the one before goes at once, and is stopped.
        gateway.state(number - 1, "retired").await;
        apps.clear();
        apps.push(app);
        progress(&course, 200).await;
    }
    course.stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*course.failures.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_generation_waits_for_its_last_request() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let mut gateway = Gateway::ready(File::new([Service::app().backends([old.address])])).await;
    let mut wire = support::Wire::open(gateway.address).await;
    wire.send("GET /stream HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let stream = old.stream().await;
    let head = wire.head().await;
    gateway.reload([Service::app().backends([new.address])]).await;
    gateway.active(2).await;
    let status = gateway.state(1, "detached").await;
    assert_eq!(status.generation("app", 1).unwrap().requests, 1);
    stream.send("the end").await.unwrap();
    assert_eq!(gateway.status().await.state("app", 1), "detached");
    drop(stream);
    assert_eq!(wire.body(&head, false).await.unwrap().0, b"the end");
    gateway.state(1, "retired").await;
}
