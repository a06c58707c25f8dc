//! A backend whose manners a test sets: how it answers checks, and how it answers clients.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::support::{Head, Raw, Wire};

/// How a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// With this status.
    Status(u16),
    /// With 200 and this text, in pieces.
    Says(Vec<&'static str>),
    /// Not at all; the connection stays open.
    Silent,
    /// By a reset.
    Resets,
    /// By the first half.
    Halves,
}

/// A running backend.
pub(crate) struct Patient {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _raw: Raw,
}

struct State {
    name: String,
    /// To checks: one after the other, the last one for ever.
    checks: Mutex<VecDeque<Manner>>,
    requests: Mutex<Manner>,
    checked: Mutex<Vec<Head>>,
}

impl Patient {
    /// One that is well.
    pub(crate) async fn start(name: &str) -> Self {
        let state = Arc::new(State {
            name: name.to_owned(),
            checks: Mutex::new([Manner::Status(200)].into()),
            requests: Mutex::new(Manner::Status(200)),
            checked: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let raw = Raw::start(move |wire, head| answer(Arc::clone(&shared), wire, head)).await;
        Self { address: raw.address, state, _raw: raw }
    }

    /// Answers checks so from now on, the last way for ever.
    pub(crate) fn checks(&self, manners: impl IntoIterator<Item = Manner>) {
        *self.state.checks.lock().unwrap() = manners.into_iter().collect();
    }

    /// Answers clients so from now on.
    pub(crate) fn requests(&self, manner: Manner) {
        *self.state.requests.lock().unwrap() = manner;
    }

    /// The heads of checks that came so far.
    pub(crate) fn checked(&self) -> Vec<Head> {
        self.state.checked.lock().unwrap().clone()
    }
}

async fn answer(state: Arc<State>, mut wire: Wire, head: Head) {
    let is_check = head.get("user-agent") == Some("tidegate-health");
    let manner = if is_check {
        state.checked.lock().unwrap().push(head.clone());
        let mut checks = state.checks.lock().unwrap();
        if checks.len() > 1 { checks.pop_front() } else { checks.front().cloned() }.unwrap()
    } else {
        state.requests.lock().unwrap().clone()
    };
    // Who asked may have gone.
    let _ = match manner {
        Manner::Status(status) => {
            let body = format!("{{\"backend\":\"{}\",\"generation\":1}}", state.name);
            let id = fastrand::u64(..);
            let cookie = if head.target() == "/login" { format!("Set-Cookie: sid={id}\r\n") } else { String::new() };
            let fields = format!("{cookie}Connection: close\r\nContent-Length: {}", body.len());
            wire.try_send(format!("HTTP/1.1 {status} X\r\n{fields}\r\n\r\n{body}")).await
        }
        Manner::Says(pieces) => {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
            let mut sent = wire.try_send(head).await;
            for piece in pieces {
                sent = wire.try_send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
            }
            sent.and(wire.try_send("0\r\n\r\n").await)
        }
        Manner::Silent => {
            let _ = wire.rest().await;
            Ok(())
        }
        Manner::Resets => {
            wire.reset();
            Ok(())
        }
        Manner::Halves => {
            let sent = wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it").await;
            wire.reset();
            sent
        }
    };
}
