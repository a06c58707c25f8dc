//! P8: a message whose framing two parsers could read differently is refused, never forwarded.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::{Arc, Mutex};

use support::{File, Gateway, Raw, Service, Wire, is_reset, within};
use tokio::sync::Notify;

/// A request that must never arrive, as the body or the rest of another.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n";

/// What is sent as a whole, `%` standing for [`HIDDEN`]; and why it is refused.
const REFUSED: &[(&str, &str)] = &[
    (
        "both lengths",
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%",
    ),
    (
        "both lengths, the other way round",
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n%",
    ),
    ("two lengths", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n%"),
    ("the same length twice", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok%"),
    ("a list of lengths", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2, 2\r\n\r\nok%"),
    ("a length with a sign", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: +2\r\n\r\nok%"),
    ("a negative length", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: -2\r\n\r\n%"),
    ("a hexadecimal length", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0x2\r\n\r\nok%"),
    ("an empty length", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length:\r\n\r\n%"),
    ("a length that overflows", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 18446744073709551618\r\n\r\nok%"),
    ("a length in other digits", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: \u{0661}\r\n\r\n%"),
    ("a field name with a space behind it", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length : 44\r\n\r\n%"),
    (
        "a coding with a space before the colon",
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n%",
    ),
    ("a folded coding", "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n%"),
    ("a folded field", "POST / HTTP/1.1\r\nHost: app.test\r\nX: a\r\n Content-Length: 44\r\n\r\n%"),
    ("a first field with leading space", "POST / HTTP/1.1\r\n Content-Length: 44\r\nHost: app.test\r\n\r\n%"),
    ("two codings", "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n%"),
    ("chunked not last", "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n%"),
    ("chunked twice", "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n%"),
    (
        "two lines of coding",
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n%",
    ),
    (
        "a coding that nearly is chunked",
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n%",
    ),
    (
        "a coding with a vertical tab",
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n%",
    ),
    ("a quoted coding", "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n%"),
    (
        "a coding with a parameter",
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n%",
    ),
    ("a coding in HTTP/1.0", "POST / HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%"),
    ("bare line feeds", "POST / HTTP/1.1\nHost: app.test\nContent-Length: 0\n\n%"),
    ("one bare line feed", "POST / HTTP/1.1\r\nHost: app.test\r\nX: y\nContent-Length: 44\r\n\r\n%"),
    ("a bare carriage return", "POST / HTTP/1.1\r\nHost: app.test\r\nX: y\rContent-Length: 44\r\n\r\n%"),
    ("a zero byte in a field", "POST / HTTP/1.1\r\nHost: app.test\r\nX: y\0\r\nContent-Length: 0\r\n\r\n%"),
    ("a zero byte in a name", "POST / HTTP/1.1\r\nHost: app.test\r\nContent\0-Length: 44\r\n\r\n%"),
    ("an empty field name", "POST / HTTP/1.1\r\nHost: app.test\r\n: 44\r\nContent-Length: 0\r\n\r\n%"),
    ("a line without a colon", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length 44\r\n\r\n%"),
    ("no host", "GET / HTTP/1.1\r\n\r\n%"),
    ("two hosts", "GET / HTTP/1.1\r\nHost: app.test\r\nHost: other.test\r\n\r\n%"),
    ("a list of hosts", "GET / HTTP/1.1\r\nHost: app.test, other.test\r\n\r\n%"),
    ("a host with a path", "GET / HTTP/1.1\r\nHost: app.test/../admin\r\n\r\n%"),
    ("a host with credentials", "GET / HTTP/1.1\r\nHost: me@app.test\r\n\r\n%"),
    ("a space in the target", "GET /a b HTTP/1.1\r\nHost: app.test\r\n\r\n%"),
    ("two spaces in the request line", "GET  / HTTP/1.1\r\nHost: app.test\r\n\r\n%"),
    ("a tab in the request line", "GET\t/ HTTP/1.1\r\nHost: app.test\r\n\r\n%"),
    ("a version without a number", "GET / HTTP/1.x\r\nHost: app.test\r\n\r\n%"),
    ("a version with two digits", "GET / HTTP/1.10\r\nHost: app.test\r\n\r\n%"),
    ("no version at all", "GET /\r\nHost: app.test\r\n\r\n%"),
    ("a fragment of another version", "GET / HTTP/2.0\r\nHost: app.test\r\n\r\n%"),
];

/// A body that turns bad once the head has been taken: what follows `POST / … chunked`.
const BROKEN: &[(&str, &str)] = &[
    ("a chunk size with a sign", "+2\r\nok\r\n0\r\n\r\n%"),
    ("a negative chunk size", "-2\r\nok\r\n0\r\n\r\n%"),
    ("a chunk size with a prefix", "0x2\r\nok\r\n0\r\n\r\n%"),
    ("an empty chunk size", "\r\nok\r\n0\r\n\r\n%"),
    ("a chunk size with a space before it", " 2\r\nok\r\n0\r\n\r\n%"),
    ("a chunk size that overflows", "10000000000000002\r\nok\r\n0\r\n\r\n%"),
    ("a chunk size ended by a line feed", "2\nok\r\n0\r\n\r\n%"),
    ("a chunk extension with a line feed in it", "2;a\nb\r\nok\r\n0\r\n\r\n%"),
    ("a chunk ended by a line feed", "2\r\nok\n0\r\n\r\n%"),
    ("a chunk longer than it says", "2\r\noks\r\n0\r\n\r\n%"),
    ("a chunk without an end", "2\r\nok0\r\n\r\n%"),
    ("a length in the trailers", "0\r\nContent-Length: 44\r\n\r\n%"),
    ("a coding in the trailers", "0\r\nTransfer-Encoding: chunked\r\n\r\n%"),
    ("trailers ended by a line feed", "0\r\n\n%"),
    ("a trailer with a line feed", "0\r\nX: y\n\r\n%"),
];

/// A backend that keeps all targets and answers each request once it has come whole.
async fn recorder() -> (Raw, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let targets = Arc::clone(&seen);
    let raw = Raw::start(move |mut wire, mut head| {
        let seen = Arc::clone(&targets);
        async move {
            loop {
                seen.lock().unwrap().push(head.target().to_owned());
                if wire.body(&head, false).await.is_err() {
                    return;
                }
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                match wire.try_head().await {
                    Ok(Some(next)) => head = next,
                    _ => return,
                }
            }
        }
    })
    .await;
    (raw, seen)
}

/// What comes before the gateway closes the connection.
async fn last_words(name: &str, wire: &mut Wire) -> String {
    match wire.rest().await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if is_reset(&error) => String::new(),
        Err(error) => panic!("{name}: the connection is not closed: {error}"),
    }
}

#[tokio::test]
async fn an_ambiguous_head_is_refused() {
    let (raw, seen) = recorder().await;
    let gateway = Gateway::ready(File::new([Service::app().backends([raw.address])])).await;
    for (name, text) in REFUSED {
        let mut wire = Wire::open(gateway.address).await;
        wire.send(text.replace('%', HIDDEN)).await;
        let answer = last_words(name, &mut wire).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 505 "), "{name}: {answer:?}");
        assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{name}: one answer, then the end: {answer:?}");
    }
    assert_eq!(*seen.lock().unwrap(), Vec::<String>::new(), "the backend saw a part of something refused");
    assert_eq!(Wire::open(gateway.address).await.get("/").await.status(), 200);
}

#[tokio::test]
async fn an_ambiguous_head_behind_a_good_request_is_refused() {
    let (raw, seen) = recorder().await;
    let gateway = Gateway::ready(File::new([Service::app().backends([raw.address])])).await;
    for (name, text) in REFUSED {
        let mut wire = Wire::open(gateway.address).await;
        wire.send(format!("GET /good HTTP/1.1\r\nHost: app.test\r\n\r\n{}", text.replace('%', HIDDEN))).await;
        let answer = last_words(name, &mut wire).await;
        // The good one may be answered or lost with the connection; the bad one gets nothing but a refusal.
        assert!(answer.matches("HTTP/1.1 200 ").count() <= 1, "{name}: {answer:?}");
    }
    assert!(seen.lock().unwrap().iter().all(|target| target == "/good"), "{:?}", seen.lock().unwrap());
}

#[tokio::test]
async fn a_body_that_turns_ambiguous_ends_the_connection() {
    let (raw, seen) = recorder().await;
    let gateway = Gateway::ready(File::new([Service::app().backends([raw.address])])).await;
    for (name, text) in BROKEN {
        let mut wire = Wire::open(gateway.address).await;
        let head = "POST /body HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        wire.send(format!("{head}{}", text.replace('%', HIDDEN))).await;
        let answer = last_words(name, &mut wire).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{name}: {answer:?}");
    }
    assert!(seen.lock().unwrap().iter().all(|target| target == "/body"), "{:?}", seen.lock().unwrap());
}

#[tokio::test]
async fn a_request_that_is_refused_byte_by_byte_is_refused_alike() {
    let (raw, seen) = recorder().await;
    let gateway = Gateway::ready(File::new([Service::app().backends([raw.address])])).await;
    for (name, text) in REFUSED.iter().step_by(7) {
        let mut wire = Wire::open(gateway.address).await;
        for byte in text.replace('%', HIDDEN).bytes() {
            // It may be refused before its end.
            if wire.try_send([byte]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let answer = last_words(name, &mut wire).await;
        assert!(!answer.contains(" 200 "), "{name}: {answer:?}");
    }
    assert_eq!(*seen.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn an_ambiguous_answer_is_not_passed_on() {
    const ANSWERS: &[(&str, &str)] = &[
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\nok"),
        (
            "both lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        ("a length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"),
        ("a zero byte", "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 2\r\n\r\nok"),
        ("a name with a space behind it", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
    ];
    let number = Arc::new(Mutex::new(0));
    let current = Arc::clone(&number);
    let raw = Raw::start(move |mut wire, _| {
        let answer = ANSWERS[*current.lock().unwrap()].1;
        async move {
            wire.send(answer).await;
            wire.closed().await;
        }
    })
    .await;
    let gateway = Gateway::ready(File::new([Service::app().backends([raw.address])])).await;
    for (index, (name, _)) in ANSWERS.iter().enumerate() {
        *number.lock().unwrap() = index;
        let mut wire = Wire::open(gateway.address).await;
        wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n").await;
        let head = wire.head().await;
        // Either refused, or written anew with a framing of which there is one reading.
        let lengths = head.all("content-length").len() + head.all("transfer-encoding").len();
        assert_eq!(lengths, 1, "{name}: {head:?}");
        let body = wire.body(&head, false).await;
        assert!(
            head.status() == 502 || body.as_ref().is_ok_and(|(body, _)| body == b"ok"),
            "{name}: {head:?} {body:?}"
        );
    }
}

/// Bytes of an answer that nobody asked for must not become the answer to the next client's request.
#[tokio::test]
async fn an_answer_too_many_meets_nobody() {
    let asked = Arc::new(Notify::new());
    let told = Arc::clone(&asked);
    let raw = Raw::start(move |mut wire, _| {
        let told = Arc::clone(&told);
        async move {
            let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{poison}")).await;
            told.notify_one();
            wire.closed().await;
        }
    })
    .await;
    let gateway = Gateway::ready(File::new([Service::app().backends([raw.address])])).await;
    let mut wire = Wire::open(gateway.address).await;
    for _ in 0..10 {
        let answer = wire.get("/").await;
        assert_eq!(answer.text(), "ok");
        within("the backend has answered", asked.notified()).await;
    }
}
