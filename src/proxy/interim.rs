//! Interim responses (1xx, RFC 9110 section 15.2) on their way from a backend to the client.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use crate::wire::links::Links;

/// What a backend has said before its final response. Filled by the codec's callback on the task of the backend's
/// connection, read by the exchange and by the request's body; the callback has to be `Send`, hence the lock, which
/// nobody ever waits for: all three run on one thread.
#[derive(Debug, Default)]
pub struct Interim(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    /// 100 (Continue) has come, or nobody waits for it any more.
    go_on: bool,
    /// The exchange is over without the body.
    unwanted: bool,
    /// Heads to pass on, serialised.
    heads: Vec<u8>,
    exchange: Option<Waker>,
    body: Option<Waker>,
    /// By which the links of what is passed on are turned towards the client.
    links: Option<Links>,
}

/// Bytes of interim heads that wait to be passed on; a backend that says more says it to nobody.
const MOST_WAITING: usize = 64 * 1024;

impl Interim {
    /// Nothing said yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Notes an interim response. 100 opens the body; every other one waits to be passed on.
    pub fn note(&self, status: StatusCode, headers: &HeaderMap) {
        let mut said = self.0.lock();
        if status == StatusCode::CONTINUE {
            said.go_on = true;
            if let Some(body) = said.body.take() {
                body.wake();
            }
        } else if said.heads.len() < MOST_WAITING {
            let Said { heads, links, .. } = &mut *said;
            match links {
                Some(links) => {
                    let mut headers = headers.clone();
                    links.rewrite(&mut headers);
                    write_head(heads, status, &headers);
                }
                None => write_head(heads, status, headers),
            }
            if let Some(exchange) = said.exchange.take() {
                exchange.wake();
            }
        }
    }

    /// From here on, turns links towards the client as these say.
    pub fn turn(&self, links: Links) {
        self.0.lock().links = Some(links);
    }

    /// Lets the body go on without a 100.
    pub fn go_on(&self) {
        let mut said = self.0.lock();
        said.go_on = true;
        if let Some(body) = said.body.take() {
            body.wake();
        }
    }

    /// Lets go of a body that nobody wants: the answer is complete.
    pub fn give_up(&self) {
        let mut said = self.0.lock();
        said.unwanted = true;
        if let Some(body) = said.body.take() {
            body.wake();
        }
    }

    /// Ready with true when the body may be sent, with false when it never will be.
    pub fn poll_send_body(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut said = self.0.lock();
        if said.unwanted {
            return Poll::Ready(false);
        }
        if said.go_on {
            return Poll::Ready(true);
        }
        said.body = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the body was let go on.
    pub fn has_gone_on(&self) -> bool {
        self.0.lock().go_on
    }

    /// The heads that wait, of an answer for which nobody took them before.
    pub fn take_withheld(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().heads)
    }

    /// The heads that wait; the task is woken when another one comes.
    pub fn take_heads(&self, cx: &Context<'_>) -> Vec<u8> {
        let mut said = self.0.lock();
        match &mut said.exchange {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        std::mem::take(&mut said.heads)
    }
}

fn write_head(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("Interim").as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        // Fields of the hop, and fields that an interim response must not have, stay here.
        let dropped = [&http::header::CONNECTION, &http::header::TRANSFER_ENCODING, &http::header::CONTENT_LENGTH]
            .contains(&name)
            || name == http::header::UPGRADE
            || name.as_str().starts_with("tidegate-");
        if !dropped {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_hints_on_and_keeps_the_hop_to_itself() {
        let mut headers = HeaderMap::new();
        headers.insert("link", "</a.css>; rel=preload".parse().expect("a value"));
        headers.insert("connection", "close".parse().expect("a value"));
        headers.insert("tidegate-session", "end".parse().expect("a value"));
        let interim = Interim::new();
        interim.note(StatusCode::EARLY_HINTS, &headers);
        let cx = Context::from_waker(Waker::noop());
        let heads = String::from_utf8(interim.take_heads(&cx)).expect("ASCII");
        assert_eq!(heads, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n");
        assert!(interim.take_heads(&cx).is_empty());
        assert_eq!(interim.poll_send_body(&cx), Poll::Pending);
        interim.note(StatusCode::CONTINUE, &HeaderMap::new());
        assert_eq!(interim.poll_send_body(&cx), Poll::Ready(true));
        interim.give_up();
        assert_eq!(interim.poll_send_body(&cx), Poll::Ready(false));
    }
}
