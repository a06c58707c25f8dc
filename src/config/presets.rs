//! Kinds of application: which keys of `[service.session]` each of them stands for, and why.
//!
//! A preset is a piece of configuration, written as a file would write it. A key that the file has itself replaces the
//! preset's value of that key, and no other.

use toml::de::DeTable;

use super::raw::{self, Session, session};
use super::reader::{Kind, Table, refuse};
use super::report::{Faults, Place, shown};
use super::spelling::closest;

/// A kind of application.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Preset {
    /// What the file calls it.
    pub(super) name: &'static str,
    /// The keys that it stands for.
    pub(super) keys: &'static str,
    /// Whether such an application deletes its cookie at its logout, so that no `end` rule needs to say so.
    pub(super) deletes_its_cookie: bool,
}

/// The text of the key `preset`.
pub(super) const PRESET: Kind<&'static Preset> =
    Kind { noun: "a kind of application", example: "\"servlet\"", unit: "", parse: named };

const PRESETS: [Preset; 11] = [
    // Jakarta Servlet 6.0, section 7.1: the cookie is called JSESSIONID, the path parameter jsessionid; both can be
    // renamed. Tomcat lets the cookie win where both are there. `invalidate()` leaves the cookie in the browser.
    kind(
        "servlet",
        r#"
        cookie = "JSESSIONID"
        path_parameter = "jsessionid"
        "#,
    ),
    // The PHP manual on session.name and on session_destroy(), which "does not unset the session cookie". The form
    // that carries the id in links (session.use_trans_sid) is deprecated.
    kind(
        "php",
        r#"
        cookie = "PHPSESSID"
        "#,
    ),
    // Model Context Protocol, "Streamable HTTP", "Session Management", revisions 2025-03-26 to 2025-11-25: the server
    // assigns the id in the answer to `initialize`; a client ends its session by DELETE; a server that has ended one
    // answers 404, whereupon the client initializes anew, which is what it has to do when its server is lost.
    kind(
        "mcp",
        r#"
        header = "Mcp-Session-Id"
        end = [{ method = "DELETE" }]
        end_on_not_found = true
        on_lost = "not_found"
        "#,
    ),
    // SessionDefaults.CookieName of ASP.NET Core and SessionStateSection.CookieName of ASP.NET: what needs one process is
    // session state held in memory, and these name it. The cookie of a login is no id: it is a ticket, is renewed with
    // another value, and any process with the same keys reads it. ISession.Clear and Session.Abandon leave the cookie.
    kind(
        "aspnet",
        r#"
        cookie = [".AspNetCore.Session", "ASP.NET_SessionId"]
        "#,
    ),
    // A circuit lives in the process that prerendered its page, before any id exists; what names it then travels in
    // bodies. CircuitOptions.DisconnectedCircuitRetentionPeriod, 3 minutes unless set, is how long a circuit waits for
    // its browser; after that, there is nothing left to go back to.
    kind(
        "blazor",
        r#"
        issue = "tidegate"
        end_with_last_tunnel = "3m"
        "#,
    ),
    // A session is a WebSocket, uploads and media belong to it, and no head names it. MemorySessionStorage keeps the
    // state of one that was cut off for 2 minutes.
    kind(
        "streamlit",
        r#"
        issue = "tidegate"
        end_with_last_tunnel = "2m"
        "#,
    ),
    // The process holds kernels, terminals and open documents; the cookie of a login names its port, or changes with the
    // user. Clients without cookies name kernels and sessions by UUIDs. Terminals are absent: they are called "1", "2", in
    // every process alike. A kernel goes on when its browser has left (cull_idle_timeout is 0), overnight, too.
    kind(
        "jupyter",
        r#"
        issue = "tidegate"
        path_segment = ["/api/kernels/{id}", "/api/sessions/{id}"]
        idle_timeout = "24h"
        "#,
    ),
    // Engine.IO protocol 4: the body of the first answer names `sid`, all later requests carry it. The cookie brings the
    // second request to where the first one was; clients without cookies have `sid` alone. A socket that was cut off comes
    // back to its state within maxDisconnectionDuration, 2 minutes in the documentation's example, if at all.
    kind(
        "socketio",
        r#"
        issue = "tidegate"
        query = "sid"
        end_with_last_tunnel = "2m"
        "#,
    ),
    // ActionDispatch::Session::CookieStore, the default: the cookie is named after the application and holds the session
    // itself, encrypted, so that its value is another one after each answer.
    kind(
        "rails",
        r#"
        issue = "tidegate"
        "#,
    ),
    // SESSION_COOKIE_NAME. `logout()` flushes the session, and SessionMiddleware deletes the cookie of an empty one.
    Preset {
        deletes_its_cookie: true,
        ..kind(
            "django",
            r#"
            cookie = "sessionid"
            "#,
        )
    },
    // The option `name` of express-session. `req.session.destroy()` leaves the cookie in the browser.
    kind(
        "express",
        r#"
        cookie = "connect.sid"
        "#,
    ),
];

const fn kind(name: &'static str, keys: &'static str) -> Preset {
    Preset { name, keys, deletes_its_cookie: false }
}

fn named(text: &str) -> Result<&'static Preset, super::reader::Refusal> {
    if let Some(preset) = PRESETS.iter().find(|preset| preset.name == text) {
        return Ok(preset);
    }
    let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
    let help = match closest(text, &names) {
        Some(name) => format!("write {name:?}"),
        None => format!("write one of: {}; or name a source by itself, such as `cookie`", names.join(", ")),
    };
    refuse(format!("unknown kind of application {}", shown(text)), help)
}

impl Preset {
    /// The keys as the file would have typed them, all of them at the place where the file names the preset.
    fn typed(&self, place: &Place) -> Session {
        let faults = Faults::default();
        let (document, _) = DeTable::parse_recoverable(self.keys);
        session(Table::meant(&document, raw::SESSION, place, &faults))
    }
}

/// What the file says of sessions, together with what its preset says.
///
/// Sources stand in the preset's order; those that only the file names follow in the file's.
pub(super) fn complete(file: &Session) -> Session {
    let Some(at) = &file.preset else { return file.clone() };
    let (file, mut sources) = (file.clone(), file.sources.clone());
    let preset = at.value.typed(&at.place);
    let mut first: Vec<_> = preset.sources;
    for theirs in &mut first {
        if let Some(index) = sources.iter().position(|own| own.key == theirs.key) {
            *theirs = sources.remove(index);
        }
    }
    first.append(&mut sources);
    Session {
        sources: first,
        preset: file.preset,
        space: file.space.or(preset.space),
        unknown: file.unknown.or(preset.unknown),
        adopt_until: file.adopt_until.or(preset.adopt_until),
        idle_timeout: file.idle_timeout.or(preset.idle_timeout),
        unconfirmed_timeout: file.unconfirmed_timeout.or(preset.unconfirmed_timeout),
        application_timeout: file.application_timeout.or(preset.application_timeout),
        max_age: file.max_age.or(preset.max_age),
        rename_grace: file.rename_grace.or(preset.rename_grace),
        end: file.end.or(preset.end),
        end_on_not_found: file.end_on_not_found.or(preset.end_on_not_found),
        end_with_last_tunnel: file.end_with_last_tunnel.or(preset.end_with_last_tunnel),
        no_session: file.no_session.or(preset.no_session),
        no_touch: file.no_touch.or(preset.no_touch),
        announce: file.announce.or(preset.announce),
        switch: file.switch.or(preset.switch),
        on_lost: file.on_lost.or(preset.on_lost),
        lost_after: file.lost_after.or(preset.lost_after),
    }
}

/// Every preset by its name, with the keys of `[service.session]` that it stands for.
pub fn presets() -> impl Iterator<Item = (&'static str, &'static str)> {
    PRESETS.iter().map(|preset| (preset.name, preset.keys))
}
