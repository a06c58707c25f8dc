//! From a request to its answer.

use std::sync::Arc;

use bytes::Bytes;
use cookie::Cookie;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::sessions::{MAX_SESSIONS, Sessions, User};
use super::{page, socket};
use crate::clock::Clock;

/// The cookie that carries the session's id.
const COOKIE: &str = "demo_session";
/// Bytes of a request's body.
const MAX_BODY: usize = 64 * 1024;
/// Characters of a name; the rest is cut off.
const MAX_NAME: usize = 60;
/// By which a gateway says that it lost the session of this request, and on which generation.
const SESSION_LOST: HeaderName = HeaderName::from_static("tidegate-session-lost");

pub(super) type Answer = Response<Full<Bytes>>;

/// The application's whole state.
#[derive(Debug)]
pub(super) struct App {
    pub(super) generation: u64,
    pub(super) sessions: Sessions,
}

impl App {
    pub(super) fn new(generation: u64) -> Self {
        Self { generation, sessions: Sessions::new(Clock::boot(), MAX_SESSIONS) }
    }

    /// The session that a request belongs to; the first known one, as a browser may send cookies of several paths.
    fn session_of(&self, headers: &HeaderMap) -> Option<(String, User)> {
        ids_in(headers).into_iter().find_map(|id| self.sessions.find(&id).map(|user| (id, user)))
    }
}

/// Answers one request. A clock goes on in its own task, until `stopping` says so.
pub(super) async fn answer(app: &Arc<App>, request: Request<Incoming>, stopping: &watch::Receiver<bool>) -> Answer {
    let session = app.session_of(request.headers());
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_post = request.method() == Method::POST;
    match request.uri().path() {
        "/" if is_read => front(app, request.headers(), session),
        "/healthz" if is_read => text(StatusCode::OK, "ok\n"),
        "/api/state" if is_read => state(app, session),
        "/clock" if request.method() == Method::GET => {
            socket::answer(app, request, session.map(|(id, _)| id), stopping.clone())
        }
        "/login" if is_post => login(app, request, session).await,
        "/count" if is_post => match session {
            Some((id, _)) => {
                app.sessions.count(&id);
                see_front()
            }
            None => see_front(),
        },
        "/logout" if is_post => {
            for id in ids_in(request.headers()) {
                app.sessions.close(&id);
            }
            let expired = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
            with_cookie(see_front(), &expired)
        }
        "/" | "/healthz" | "/api/state" | "/clock" => not_allowed("GET, HEAD"),
        "/login" | "/count" | "/logout" => not_allowed("POST"),
        _ => text(StatusCode::NOT_FOUND, "There is nothing here. The application begins at /.\n"),
    }
}

fn front(app: &App, headers: &HeaderMap, session: Option<(String, User)>) -> Answer {
    let lost = headers.get(&SESSION_LOST).and_then(|value| value.to_str().ok());
    let html = match session {
        Some((_, user)) => page::session(app.generation, &user),
        None => {
            let notice = match lost {
                Some(generation) => format!("Your session was lost with {generation}. Please log in again."),
                None if ids_in(headers).is_empty() => String::new(),
                None => {
                    "Your session is not known here: it has ended, or another process holds it. Please log in again."
                        .to_owned()
                }
            };
            page::login(app.generation, &notice)
        }
    };
    html_answer(StatusCode::OK, html)
}

fn state(app: &App, session: Option<(String, User)>) -> Answer {
    let (status, json) = match session {
        Some((_, User { name, counter })) => (
            StatusCode::OK,
            serde_json::json!({
                "generation": app.generation, "name": name, "counter": counter, "pid": std::process::id(),
            }),
        ),
        None => (
            StatusCode::UNAUTHORIZED,
            serde_json::json!({
                "generation": app.generation, "pid": std::process::id(), "error": "no session: log in first",
            }),
        ),
    };
    typed(status, "application/json", format!("{json}\n"))
}

async fn login(app: &App, request: Request<Incoming>, former: Option<(String, User)>) -> Answer {
    let is_secure = request.headers().get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "A form may have up to 64 KiB.\n");
        }
        Err(_) => return text(StatusCode::BAD_REQUEST, "The form did not arrive whole.\n"),
    };
    let name: String = form_value(&body, "name").chars().filter(|c| !c.is_control()).collect();
    let name: String = name.trim().chars().take(MAX_NAME).collect();
    if name.is_empty() {
        return html_answer(StatusCode::BAD_REQUEST, page::login(app.generation, "Please enter a name."));
    }
    if let Some((id, _)) = former {
        app.sessions.close(&id);
    }
    let secure = if is_secure { "; Secure" } else { "" };
    let id = app.sessions.open(name);
    with_cookie(see_front(), &format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Lax{secure}"))
}

/// The ids that a request's cookies carry.
fn ids_in(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let cookies = lines.flat_map(Cookie::split_parse).filter_map(Result::ok);
    cookies.filter(|cookie| cookie.name() == COOKIE).map(|cookie| cookie.value().to_owned()).collect()
}

/// A value of a form (`application/x-www-form-urlencoded`); empty if it is not there.
fn form_value(body: &[u8], name: &str) -> String {
    let pairs = body.split(|&byte| byte == b'&');
    let mut values = pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let Some(mut rest) = values.next() else { return String::new() };
    let mut decoded = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => decoded.push(b' '),
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: u8| (byte as char).to_digit(16).map_or(0, |digit| digit as u8);
                decoded.push(digit(*high) << 4 | digit(*low));
                rest = tail;
            }
            _ => decoded.push(*first),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

pub(super) fn text(status: StatusCode, text: &'static str) -> Answer {
    typed(status, "text/plain; charset=utf-8", text.to_owned())
}

fn html_answer(status: StatusCode, page: page::Page) -> Answer {
    let mut answer = typed(status, "text/html; charset=utf-8", page.html);
    let policy = HeaderValue::try_from(page.policy).expect("a policy is visible ASCII");
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    answer
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn see_front() -> Answer {
    let mut answer = text(StatusCode::SEE_OTHER, "");
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
    answer
}

fn with_cookie(mut answer: Answer, cookie: &str) -> Answer {
    let cookie = HeaderValue::try_from(cookie).expect("cookies of hexadecimal ids are visible ASCII");
    answer.headers_mut().insert(header::SET_COOKIE, cookie);
    answer
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Not with this method.\n");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        for (body, expected) in [
            ("name=Ada", "Ada"),
            ("x=1&name=Ada+Lovelace&name=2", "Ada Lovelace"),
            ("name=%C3%84%2b%26", "Ä+&"),
            ("name=100%", "100%"),
            ("name=%zz%4", "%zz%4"),
            ("name=%ff", "\u{fffd}"),
            ("names=x&name", ""),
        ] {
            assert_eq!(form_value(body.as_bytes(), "name"), expected, "{body}");
        }
    }
}
