//! The clock: a WebSocket on which the time and the generation come every second.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::app::{Answer, App, text};
use super::stopped;
use crate::clock::wall;
use crate::wire::websocket::{CLOSE, GOING_AWAY, PING, PONG, TEXT, accept_key, close_frame, frame};

const TICK: Duration = Duration::from_secs(1);
/// For a client that has stopped reading.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// For a client to answer our Close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a client's frame; a clock expects none but control frames.
const MAX_PAYLOAD: usize = 4_096;

const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const TOO_BIG: u16 = 1009;

/// Answers the handshake (RFC 6455 section 4.2) and starts the clock, which ends with its session, if it has one.
pub(super) fn answer(
    app: &Arc<App>,
    mut request: Request<Incoming>,
    session: Option<String>,
    stopping: watch::Receiver<bool>,
) -> Answer {
    let Some(accept) = handshake(request.version(), request.headers()) else {
        let mut refusal = text(StatusCode::UPGRADE_REQUIRED, "The clock is a WebSocket.\n");
        let headers = refusal.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return refusal;
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let app = Arc::clone(app);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            // A connection that breaks ends its clock; nobody else has to know.
            let _ = tell_time(&app, TokioIo::new(upgraded), session, stopping).await;
        }
    });
    let mut switch = Response::new(Full::default());
    *switch.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = switch.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept).expect("base64 is visible ASCII"));
    switch
}

/// The key's answer, if this is a WebSocket handshake.
fn handshake(version: Version, headers: &HeaderMap) -> Option<String> {
    let has = |name, wanted: &str| {
        let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    let is_asked = version == Version::HTTP_11
        && has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    is_asked.then(|| accept_key(key))
}

/// Sends the time until the client, the session's end or the stop signal closes.
async fn tell_time(
    app: &App,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    session: Option<String>,
    mut stopping: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut received = Vec::new();
    let (code, why) = loop {
        tokio::select! {
            () = stopped(&mut stopping) => break (GOING_AWAY, "this process stops"),
            _ = ticks.tick() => {
                // An open clock keeps its session.
                if session.as_ref().is_some_and(|id| app.sessions.find(id).is_none()) {
                    break (NORMAL, "the session has ended");
                }
                write(&mut stream, &frame(TEXT, now(app.generation).as_bytes(), None)).await?;
            }
            read = stream.read_buf(&mut received) => {
                if read? == 0 {
                    return Ok(());
                }
                match reply(&mut received) {
                    Ok(pongs) if pongs.is_empty() => {}
                    Ok(pongs) => write(&mut stream, &pongs).await?,
                    Err(Ending::Closed(code)) => {
                        write(&mut stream, &close_frame(code, "", None)).await?;
                        return stream.shutdown().await;
                    }
                    Err(Ending::Fault(code, why)) => break (code, why),
                }
            }
        }
    };
    write(&mut stream, &close_frame(code, why, None)).await?;
    stream.shutdown().await?;
    // The client's own Close, or its end; a connection closed with bytes unread would be reset.
    let rest = async {
        let mut ignored = [0; 1024];
        while stream.read(&mut ignored).await? > 0 {}
        Ok(())
    };
    timeout(CLOSE_TIMEOUT, rest).await.unwrap_or(Ok(()))
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    timeout(WRITE_TIMEOUT, stream.write_all(bytes)).await?
}

fn now(generation: u64) -> String {
    let time = jiff::Timestamp::try_from(wall()).map_or_else(|_| "unknown".to_owned(), |time| format!("{time:.0}"));
    serde_json::json!({ "time": time, "generation": generation, "pid": std::process::id() }).to_string()
}

/// Why the client's frames end the clock.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// The client closed, with this code.
    Closed(u16),
    /// The client broke a rule or a limit: the code and the reason to close with.
    Fault(u16, &'static str),
}

/// Takes the whole frames out of what was received and returns the pongs that they ask for.
fn reply(received: &mut Vec<u8>) -> Result<Vec<u8>, Ending> {
    let mut pongs = Vec::new();
    let mut at = 0;
    while let Some((opcode, payload, length)) = client_frame(&received[at..])? {
        at += length;
        match opcode {
            CLOSE => {
                let code = payload.first_chunk().map_or(NORMAL, |code| u16::from_be_bytes(*code));
                return Err(Ending::Closed(code));
            }
            PING => pongs.extend(frame(PONG, &payload, None)),
            _ => {}
        }
    }
    received.drain(..at);
    Ok(pongs)
}

/// The first frame: its opcode, its payload unmasked, and its length; `None` if it is not complete.
fn client_frame(bytes: &[u8]) -> Result<Option<(u8, Vec<u8>, usize)>, Ending> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let opcode = first & 0x0f;
    if second & 0x80 == 0 || first & 0x70 != 0 {
        return Err(Ending::Fault(PROTOCOL_ERROR, "a frame without mask, or with reserved bits"));
    }
    let (length, extended) = match second & 0x7f {
        126 => match rest.first_chunk() {
            Some(length) => (usize::from(u16::from_be_bytes(*length)), 2),
            None => return Ok(None),
        },
        127 => return Err(Ending::Fault(TOO_BIG, "a frame that is too big")),
        length => (usize::from(length), 0),
    };
    if opcode >= CLOSE && (extended > 0 || first & 0x80 == 0) {
        return Err(Ending::Fault(PROTOCOL_ERROR, "a control frame that is long or fragmented"));
    }
    if length > MAX_PAYLOAD {
        return Err(Ending::Fault(TOO_BIG, "a frame that is too big"));
    }
    let Some((mask, rest)) = rest[extended..].split_first_chunk::<4>() else { return Ok(None) };
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Ok(Some((opcode, payload, 2 + extended + 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

    #[test]
    fn whole_frames_are_answered_and_parts_wait() {
        let both = [frame(PING, b"are you there", MASK), frame(TEXT, &[b'x'; 300], MASK)].concat();
        for cut in 0..=both.len() {
            let mut received = both[..cut].to_vec();
            let mut pongs = reply(&mut received).expect("good frames");
            received.extend(&both[cut..]);
            pongs.extend(reply(&mut received).expect("good frames"));
            assert_eq!((pongs, received), (frame(PONG, b"are you there", None), vec![]), "cut at {cut}");
        }
        assert_eq!(reply(&mut close_frame(1001, "bye", MASK)), Err(Ending::Closed(1001)));
        assert_eq!(reply(&mut frame(CLOSE, b"", MASK)), Err(Ending::Closed(NORMAL)));
    }

    #[test]
    fn frames_against_the_rules_end_the_clock() {
        let code = |mut bytes: Vec<u8>| match reply(&mut bytes) {
            Err(Ending::Fault(code, _)) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(frame(PING, b"", None)), PROTOCOL_ERROR);
        assert_eq!(code(frame(PING, &[0; 126], MASK)), PROTOCOL_ERROR);
        assert_eq!(code(frame(TEXT, &[0; 5000], MASK)), TOO_BIG);
        assert_eq!(code(frame(TEXT, &[0; 70_000], MASK)), TOO_BIG);
    }
}
