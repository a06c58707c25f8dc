//! The stream of changes.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderName, StatusCode};
use http_body_util::channel::Channel;
use tokio::time::timeout;

use super::Desk;
use super::wanted::Problems;
use crate::admin::api::Event;
use crate::admin::problem::problem;
use crate::admin::server::Stay;
use crate::admin::watcher::Frame;

/// Something is sent at least so often, so that both ends know of each other.
const ALIVE: Duration = Duration::from_secs(15);
/// Pieces that wait for a client that reads slowly.
const AHEAD: usize = 4;

/// What changes, as it changes: server-sent events.
///
/// First a `gateway`, a `service` for each service, and `complete`. From then on what has changed, once a second at most:
/// `gateway`, `service` (an `Overview`), `removed`, and `happened` for each new event. The stream ends after an hour, and
/// with the gateway; who wants to go on connects again.
#[utoipa::path(get, path = "/v1/changes", tag = "status", responses(
    (status = 200, description = "Without end.", body = String, content_type = "text/event-stream"), Problems))]
pub(super) async fn changes(State(desk): State<Desk>, Extension(stay): Extension<Stay>) -> Response {
    if desk.watched.stream().is_none() {
        let why = "As many streams of changes are open as may be; close one, or try again later.";
        return problem(StatusCode::TOO_MANY_REQUESTS, why);
    }
    stay.longer();
    let (mut pieces, body) = Channel::<Bytes>::new(AHEAD);
    tokio::spawn(async move {
        let Some((_place, mut frames)) = desk.watched.stream() else { return };
        let mut seen = Seen::default();
        loop {
            let text = match timeout(ALIVE, frames.changed()).await {
                Ok(Ok(())) => {
                    let frame = frames.borrow_and_update().clone();
                    frame.map(|frame| seen.changes(frame)).unwrap_or_default()
                }
                // The gateway is stopping.
                Ok(Err(_)) => return,
                Err(_) => ": alive\n\n".to_owned(),
            };
            if !text.is_empty() && pieces.send_data(text.into()).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Who stands between may not collect what is meant to come at once.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// What a client has seen.
#[derive(Default)]
struct Seen {
    frame: Option<Frame>,
}

impl Seen {
    /// What is to be sent, so that it has seen this frame.
    fn changes(&mut self, frame: Frame) -> String {
        let mut text = String::new();
        let before = self.frame.replace(frame.clone());
        if before.as_ref().is_none_or(|before| before.gateway != frame.gateway) {
            send(&mut text, "gateway", &frame.gateway);
        }
        let known = |name| before.as_ref().and_then(|before| before.services.iter().find(|(known, _)| known == name));
        for (name, service) in &frame.services {
            if known(name).is_none_or(|(_, known)| !Arc::ptr_eq(known, service)) {
                send(&mut text, "service", service);
            }
        }
        let Some(before) = before else {
            send(&mut text, "complete", "{}");
            return text;
        };
        for (name, _) in &before.services {
            if !frame.services.iter().any(|(present, _)| present == name) {
                send(&mut text, "removed", &serde_json::json!({ "service": name }).to_string());
            }
        }
        if !Arc::ptr_eq(&before.events, &frame.events) {
            for event in newer(&before.events, &frame.events) {
                send(&mut text, "happened", &serde_json::to_string(event).unwrap_or_default());
            }
        }
        text
    }
}

/// Those behind the last one that was known.
fn newer<'e>(before: &[Event], events: &'e [Event]) -> &'e [Event] {
    let Some(last) = before.last() else { return events };
    let known = events.iter().rposition(|event| event == last);
    known.map_or(events, |place| &events[place + 1..])
}

/// JSON has no line breaks of its own.
fn send(text: &mut String, event: &str, json: &str) {
    // Writing to a text does not fail.
    _ = write!(text, "event: {event}\ndata: {json}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::sample;
    use crate::ids::ServiceName;

    fn event(text: &str) -> Event {
        let kind = "rolled".to_owned();
        Event { at: sample::at(0), kind, service: None, generation: None, trouble: false, text: text.to_owned() }
    }

    #[test]
    fn only_what_changed_is_sent() {
        let (app, shop): (Arc<str>, Arc<str>) = ("1".into(), "2".into());
        let named = |name: &str, text: &Arc<str>| (ServiceName::new(name), Arc::clone(text));
        let frame = |gateway: &str, services, events: Vec<Event>| Frame {
            gateway: gateway.into(),
            services,
            events: Arc::new(events),
        };
        let mut seen = Seen::default();
        let first = frame("a", vec![named("app", &app), named("shop", &shop)], vec![event("old")]);
        let text = seen.changes(first.clone());
        let expected = "event: gateway\ndata: a\n\nevent: service\ndata: 1\n\nevent: service\ndata: 2\n\n\
            event: complete\ndata: {}\n\n";
        assert_eq!(text, expected);
        assert_eq!(seen.changes(first), "");
        let other: Arc<str> = "3".into();
        let text = seen.changes(frame("a", vec![named("app", &other)], vec![event("old"), event("new")]));
        assert!(
            text.starts_with("event: service\ndata: 3\n\nevent: removed\ndata: {\"service\":\"shop\"}\n\n"),
            "{text}"
        );
        assert!(text.contains("event: happened") && text.contains("new") && !text.contains("old"), "{text}");
    }
}
