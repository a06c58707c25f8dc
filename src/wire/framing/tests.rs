//! Known smuggling vectors, split invariance, and the scanner beside hyper's server.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const MAX_HEAD: usize = 4096;
const MAX_LINES: usize = 40;

fn scan(bytes: &[u8]) -> Result<RequestFraming, Violation> {
    let mut framing = RequestFraming::new(MAX_HEAD, MAX_LINES);
    framing.feed(bytes).map(|()| framing)
}

fn reason(bytes: impl AsRef<[u8]>) -> Option<Reason> {
    scan(bytes.as_ref()).err().map(|violation| violation.reason)
}

/// A POST whose header lines, but for Host, and what follows them are given.
fn post(rest: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}")
}

#[test]
fn a_violation_says_whether_it_was_in_a_body() {
    for (bytes, in_body) in [
        (post("X y\r\n"), false),
        (post("Content-Length: 3\r\n\r\nabcG\n"), false),
        (post("Transfer-Encoding: chunked\r\n\r\n0x0\r\n"), true),
        (post("Transfer-Encoding: chunked\r\n\r\n3\r\nabcd"), true),
        (post("Transfer-Encoding: chunked\r\n\r\n0\r\nHost: a\r\n"), true),
    ] {
        let mut framing = RequestFraming::new(MAX_HEAD, MAX_LINES);
        framing.feed(bytes.as_bytes()).expect_err("refused");
        assert_eq!(framing.in_body(), in_body, "{bytes}");
    }
}

#[test]
fn smuggling_vectors_are_refused() {
    use Reason::*;
    let chunked = |body: &str| post(&format!("Transfer-Encoding: chunked\r\n\r\n{body}"));
    let vectors = [
        // Two lengths.
        (post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"), BothLengths),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n"), BothLengths),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), SecondContentLength),
        (post("Content-Length: 0\r\ncontent-length: 5\r\n\r\nhello"), SecondContentLength),
        (post("Content-Length: 5, 5\r\n\r\nhello"), ContentLength),
        (post("Content-Length: +5\r\n\r\nhello"), ContentLength),
        (post("Content-Length: -0\r\n\r\n"), ContentLength),
        (post("Content-Length: 0x5\r\n\r\nhello"), ContentLength),
        (post("Content-Length: 5 5\r\n\r\nhello"), ContentLength),
        (post("Content-Length: \r\n\r\n"), ContentLength),
        (post("Content-Length: 9223372036854775808\r\n\r\n"), ContentLength),
        (post("Content-Length: 18446744073709551621\r\n\r\nhello"), ContentLength),
        // Codings that one parser takes for chunked and another does not.
        (post("Transfer-Encoding: \x0bchunked\r\n\r\n"), ControlByte),
        (post("Transfer-Encoding: xchunked\r\n\r\n"), TransferEncoding),
        (post("Transfer-Encoding: chunked, identity\r\n\r\n"), TransferEncoding),
        (post("Transfer-Encoding: identity, chunked\r\n\r\n"), TransferEncoding),
        (post("Transfer-Encoding: gzip, chunked\r\n\r\n"), TransferEncoding),
        (post("Transfer-Encoding: chunked,\r\n\r\n"), TransferEncoding),
        (post("Transfer-Encoding: chunked;q=1\r\n\r\n"), TransferEncoding),
        (post("Transfer-Encoding: \"chunked\"\r\n\r\n"), TransferEncoding),
        (post("Transfer-Encoding: identity\r\n\r\n"), TransferEncoding),
        (post("Transfer-Encoding:\r\n\r\n"), TransferEncoding),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), SecondTransferEncoding),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n"), SecondTransferEncoding),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), TransferEncodingIn10),
        // Field lines.
        (post("Transfer-Encoding : chunked\r\n\r\n"), SpaceBeforeColon),
        (post("Transfer-Encoding\t: chunked\r\n\r\n"), SpaceBeforeColon),
        (post("Transfer-Encoding\r\n : chunked\r\n\r\n"), FieldName),
        (post(" Content-Length: 5\r\n\r\n"), FoldedLine),
        (post("X: a\r\n\tb\r\n\r\n"), FoldedLine),
        (post(": a\r\n\r\n"), FieldName),
        (post("X\0: a\r\n\r\n"), ControlByte),
        (post("X(: a\r\n\r\n"), FieldName),
        (post("Ä: a\r\n\r\n"), FieldName),
        (post("X: a\0b\r\n\r\n"), ControlByte),
        (post("X: a\x7f\r\n\r\n"), ControlByte),
        (post("X: a\rContent-Length: 5\r\n\r\n"), BareCr),
        (post("X: a\r\r\n\r\n"), BareCr),
        (post("X: a\nContent-Length: 5\r\n\r\n"), BareLf),
        (post("X: a\r\n\n"), BareLf),
        ("GET / HTTP/1.1\nHost: a\n\n".into(), BareLf),
        // Request lines.
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestLine),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), BareLf),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestLine),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestLine),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestLine),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n".into(), RequestLine),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestLine),
        ("GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestLine),
        ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestLine),
        ("GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestLine),
        ("GET /\x0b HTTP/1.1\r\nHost: a\r\n\r\n".into(), ControlByte),
        ("GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".into(), Target),
        ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n".into(), Target),
        ("GET /\r\n\r\n".into(), RequestLine),
        ("GET\r\n\r\n".into(), RequestLine),
        ("GET  HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestLine),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n".into(), Version),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".into(), Version),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n".into(), Version),
        ("GET / http/1.1\r\nHost: a\r\n\r\n".into(), RequestLine),
        ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestLine),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), Version),
        // Hosts.
        ("GET / HTTP/1.1\r\n\r\n".into(), NoHost),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(), SecondHost),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".into(), SecondHost),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: a:80:90\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: a:\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: :80\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n".into(), Host),
        ("GET / HTTP/1.1\r\nHost: a\u{e4}\r\n\r\n".into(), Host),
        // Chunks.
        (chunked("0x5\r\nhello\r\n0\r\n\r\n"), ChunkSize),
        (chunked("+5\r\nhello\r\n0\r\n\r\n"), ChunkSize),
        (chunked(" 5\r\nhello\r\n0\r\n\r\n"), ChunkSize),
        (chunked("5 \r\nhello\r\n0\r\n\r\n"), ChunkSize),
        (chunked("5 ;a\r\nhello\r\n0\r\n\r\n"), ChunkSize),
        (chunked("5,\r\nhello\r\n0\r\n\r\n"), ChunkSize),
        (chunked("\r\nhello\r\n0\r\n\r\n"), ChunkSize),
        (chunked("g\r\nhello\r\n0\r\n\r\n"), ChunkSize),
        (chunked("ffffffffffffffff\r\n"), ChunkSize),
        (chunked("0000000000000005\r\nhello\r\n0\r\n\r\n"), ChunkSize),
        (chunked("5\nhello\r\n0\r\n\r\n"), BareLf),
        (chunked("5;a\nhello\r\n0\r\n\r\n"), BareLf),
        (chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), BareCr),
        (chunked("5;a\0\r\nhello\r\n0\r\n\r\n"), ControlByte),
        (chunked("5\r\nhello0\r\n\r\n"), ChunkEnd),
        (chunked("5\r\nhello\n0\r\n\r\n"), ChunkEnd),
        (chunked("5\r\nhello\r0\r\n\r\n"), ChunkEnd),
        (chunked("5\r\nhello!!\r\n0\r\n\r\n"), ChunkEnd),
        (chunked("0\r\nContent-Length: 5\r\n\r\n"), TrailerField),
        (chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n"), TrailerField),
        (chunked("0\r\nHost: b\r\n\r\n"), TrailerField),
        (chunked("0\r\nX : b\r\n\r\n"), SpaceBeforeColon),
        (chunked("0\r\nX: b\n\r\n"), BareLf),
        (chunked("0\r\n\n"), BareLf),
        (chunked("0\r\n X: b\r\n\r\n"), FoldedLine),
    ];
    for (bytes, expected) in vectors {
        assert_eq!(reason(&bytes), Some(expected), "{bytes:?}");
        let mut framing = RequestFraming::new(MAX_HEAD, MAX_LINES);
        let one_by_one = bytes.as_bytes().iter().find_map(|byte| framing.feed(&[*byte]).err());
        assert_eq!(one_by_one.map(|violation| violation.reason), Some(expected), "byte by byte: {bytes:?}");
        let again = framing.feed(b"GET").expect_err("refused for good");
        assert_eq!((again.offset, again.reason), (0, expected), "for good: {bytes:?}");
    }
}

#[test]
fn ordinary_requests_pass() {
    let passing: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHOST:\t[2001:db8::1]:8080 \r\nX:\r\nY: \r\nZ: a\tb\xe4\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: my_host.example.com:65535\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        b"GET http://a/?q=%20&r=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked \r\n\r\n00A;a=\"b\"\r\n0123456789\r\n1\r\n\n\r\n0;x\r\nX-Sum: 1\r\n\r\n",
    ];
    for bytes in passing {
        match scan(bytes) {
            Ok(framing) => assert!(framing.is_idle() && !framing.in_head() && !framing.in_body()),
            Err(violation) => panic!("{violation:?}: {}", String::from_utf8_lossy(bytes)),
        }
    }
}

#[test]
fn it_knows_where_it_stands() {
    let mut framing = RequestFraming::new(MAX_HEAD, MAX_LINES);
    let mut standing = |bytes: &[u8]| {
        framing.feed(bytes).expect("in order");
        (framing.is_idle(), framing.in_head(), framing.in_body())
    };
    let (idle, head, body) = ((true, false, false), (false, true, false), (false, false, true));
    assert_eq!(standing(b""), idle);
    assert_eq!(standing(b"G"), head);
    assert_eq!(standing(b"ET / HTTP/1.1\r\n"), head);
    assert_eq!(standing(b"Host: a\r\nContent-Length: 2\r\n\r"), head);
    assert_eq!(standing(b"\n"), body);
    assert_eq!(standing(b"x"), body);
    assert_eq!(standing(b"x"), idle);
    assert_eq!(standing(b"\r"), head);
    assert_eq!(standing(b"\n"), idle);
    assert_eq!(standing(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), body);
    assert_eq!(standing(b"1\r\nx\r"), body);
    assert_eq!(standing(b"\n0\r\n"), body);
    assert_eq!(standing(b"\r\n"), idle);
}

#[test]
fn limits_hold_to_the_byte() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n";
    assert_eq!(RequestFraming::new(head.len(), 2).feed(head), Ok(()));
    let too_large = Violation { offset: head.len() - 1, reason: Reason::HeadTooLarge, in_body: false };
    assert_eq!(RequestFraming::new(head.len() - 1, 2).feed(head), Err(too_large));
    assert_eq!(
        RequestFraming::new(head.len(), 1).feed(head),
        Err(Violation { offset: 25, reason: Reason::TooManyLines, in_body: false })
    );
    let endless = "a".repeat(MAX_HEAD + 1);
    assert_eq!(reason(&endless[1..]), None);
    assert_eq!(reason(&endless), Some(Reason::HeadTooLarge));
    assert!(Reason::HeadTooLarge.is_limit() && !Reason::BareLf.is_limit());
}

#[test]
fn chunk_extensions_and_trailers_are_bounded_over_a_body() {
    let mut framing = scan(post("Transfer-Encoding: chunked\r\n\r\n").as_bytes()).expect("a head");
    let line = format!("1;{}\r\nx\r\n", "e".repeat(1023));
    for _ in 0..15 {
        framing.feed(line.as_bytes()).expect("15 KiB of extensions");
    }
    let refused = framing.feed(line.as_bytes()).expect_err("16 KiB");
    assert_eq!(refused.reason, Reason::ChunkExtensions);

    let mut framing = scan(post("Transfer-Encoding: chunked\r\n\r\n1;").as_bytes()).expect("a head");
    let refused = framing.feed(&[b'e'; 20_000]).expect_err("an endless line");
    assert_eq!(refused.reason, Reason::ChunkExtensions);

    let mut framing = scan(post("Transfer-Encoding: chunked\r\n\r\n0\r\n").as_bytes()).expect("a head");
    let refused = framing.feed("X: y\r\n".repeat(MAX_LINES + 1).as_bytes()).expect_err("too many lines");
    assert_eq!(refused, Violation { offset: 6 * MAX_LINES, reason: Reason::TrailersTooLarge, in_body: true });
}

#[test]
fn an_unfinished_line_keeps_no_buffer_behind() {
    let mut framing = RequestFraming::new(MAX_HEAD, MAX_LINES);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(2000));
    for byte in head.as_bytes() {
        framing.feed(&[*byte]).expect("in order");
    }
    assert!(framing.is_idle() && framing.partial.capacity() <= KEPT_BUFFER);
}

/// One generated request, as bytes.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let target = "/[a-z0-9/._~%!$&'()*+,;=:@-]{0,30}(\\?[a-z0-9=&/?]{0,20})?";
    let method = prop_oneof![Just("GET"), Just("POST"), Just("PUT"), Just("DELETE"), Just("OPTIONS"), Just("X-Y")];
    let fields = prop::collection::vec(("X-[a-zA-Z0-9-]{0,20}", "[ -~]{0,60}"), 0..8);
    let chunks = prop::collection::vec((1usize..200, "(;[a-z]{1,8}(=[a-z0-9]{1,8})?)?"), 0..5);
    let body = prop_oneof![
        Just(Body::None),
        (0usize..3000).prop_map(Body::Length),
        (chunks, any::<bool>()).prop_map(|(chunks, trailer)| Body::Chunks(chunks, trailer)),
    ];
    (method, target, fields, body, any::<bool>()).prop_map(|(method, target, fields, body, empty_line)| {
        let mut out = Vec::new();
        if empty_line {
            out.extend(b"\r\n");
        }
        out.extend(format!("{method} {target} HTTP/1.1\r\nHost: example.com\r\n").bytes());
        for (name, value) in fields {
            out.extend(format!("{name}: {value}\r\n").bytes());
        }
        match body {
            Body::None => out.extend(b"\r\n"),
            Body::Length(length) => {
                out.extend(format!("Content-Length: {length}\r\n\r\n").bytes());
                out.extend((0..length).map(|index| index as u8));
            }
            Body::Chunks(chunks, trailer) => {
                out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                for (length, extension) in chunks {
                    out.extend(format!("{length:x}{extension}\r\n").bytes());
                    out.extend((0..length).map(|index| index as u8));
                    out.extend(b"\r\n");
                }
                out.extend(if trailer { &b"0\r\nX-Sum: 1\r\n\r\n"[..] } else { b"0\r\n\r\n" });
            }
        }
        out
    })
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Length(usize),
    Chunks(Vec<(usize, String)>, bool),
}

fn requests() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(request(), 1..5).prop_map(|all| all.concat())
}

/// Requests with a few bytes overwritten, inserted or taken out.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop::sample::select(&b"\r\n\t\0 :;,0159afxG\x0b\x7f\xe4-+"[..]);
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3, byte), 0..4);
    (requests(), edits).prop_map(|(mut bytes, edits)| {
        for (index, kind, byte) in edits {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

/// What hyper's server makes of a connection: how many heads it dispatched, and the lengths of the bodies that it read whole.
fn hyper_sees(bytes: &[u8]) -> (usize, Vec<u64>) {
    let heads = Rc::new(RefCell::new(0));
    let bodies = Rc::new(RefCell::new(Vec::new()));
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let service = service_fn({
        let (heads, bodies) = (heads.clone(), bodies.clone());
        move |request: http::Request<Incoming>| {
            let (heads, bodies) = (heads.clone(), bodies.clone());
            async move {
                *heads.borrow_mut() += 1;
                if let Ok(body) = request.into_body().collect().await {
                    bodies.borrow_mut().push(body.to_bytes().len() as u64);
                }
                Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(hyper_util::rt::TokioIo::new(server), service);
        let talk = async {
            client.write_all(bytes).await.expect("room in the pipe");
            client.shutdown().await.expect("an open pipe");
            let _ = client.read_to_end(&mut Vec::new()).await;
        };
        let _ = tokio::join!(connection, talk);
    });
    (heads.take(), bodies.take())
}

proptest! {
    #[test]
    fn generated_requests_pass(bytes in requests()) {
        let framing = scan(&bytes);
        prop_assert!(framing.as_ref().is_ok_and(RequestFraming::is_idle), "{:?}", framing.err());
    }

    /// However a stream is cut, the verdict is the same, at the same byte unless that byte was fed before.
    #[test]
    fn cuts_do_not_matter(bytes in damaged(), cuts in prop::collection::vec(1usize..40, 1..30)) {
        let mut whole = RequestFraming::new(1500, 7);
        let at_once = whole.feed(&bytes);
        let mut framing = RequestFraming::new(1500, 7);
        let mut at = 0;
        let mut cut = cuts.iter().cycle();
        let in_parts = loop {
            if at == bytes.len() {
                break Ok(());
            }
            let end = (at + cut.next().expect("endless")).min(bytes.len());
            if let Err(violation) = framing.feed(&bytes[at..end]) {
                prop_assert!(violation.offset < end - at);
                break Err(Violation { offset: at + violation.offset, ..violation });
            }
            at = end;
        };
        prop_assert_eq!(&framing.bodies, &whole.bodies);
        prop_assert_eq!(framing.state, whole.state);
        match at_once {
            Ok(()) => prop_assert_eq!(in_parts, Ok(())),
            Err(Violation { offset, reason, in_body }) => {
                prop_assert_eq!(in_parts, Err(Violation { offset: offset.max(at), reason, in_body }));
            }
        }
    }

    /// What the scanner accepts, hyper reads in the same way.
    #[test]
    fn hyper_agrees_with_what_passes(bytes in requests()) {
        let ours = scan(&bytes).expect("generated requests pass").bodies;
        prop_assert_eq!(hyper_sees(&bytes), (ours.len(), ours));
    }

    /// Of a damaged stream, hyper gets the bytes before the violation, and dispatches nothing that the scanner did not let through.
    #[test]
    fn hyper_sees_no_more_than_what_passed(bytes in damaged()) {
        let mut framing = RequestFraming::new(MAX_HEAD, MAX_LINES);
        let passed = framing.feed(&bytes).map_or_else(|violation| violation.offset, |()| bytes.len());
        let (heads, bodies) = hyper_sees(&bytes[..passed]);
        prop_assert!(heads <= framing.bodies.len());
        prop_assert_eq!(&bodies[..], &framing.bodies[..bodies.len()]);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = scan(&bytes);
        let chunks = [post("Transfer-Encoding: chunked\r\n\r\n").as_bytes(), &bytes].concat();
        let _ = scan(&chunks);
    }

    #[test]
    fn the_fast_check_of_a_line_is_the_plain_one(text in prop::collection::vec(prop_oneof![9 => 0x20u8..0x7f, 1 => any::<u8>()], 0..60)) {
        let plain = text.iter().position(|&byte| byte != b'\t' && (byte < 0x20 || byte == 0x7f));
        prop_assert_eq!(lines::check_bytes(&text).err().map(|(index, _)| index), plain);
    }
}
