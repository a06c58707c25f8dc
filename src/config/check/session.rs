//! The `[service.session]` table, as typed to usable.

use super::doubts::Doubts;
use super::{or, raw};
use crate::clock;
use crate::config::defaults;
use crate::config::model::{
    EndRule, Exemption, Gateway, IdPlace, IssuedCookie, Plan, SameSite, Secure, SessionRules, Source,
};
use crate::config::reader::At;
use crate::config::report::{Faults, Place};
use crate::ids::ServiceName;

/// Sources of one service: each is looked for in every request.
const MAX_SOURCES: usize = 16;
/// Elements of a list of rules, each of which is held against every request.
const MAX_RULES: usize = 64;

/// What the rules of one service are held against.
#[derive(Clone, Copy)]
pub(super) struct Around<'c> {
    pub(super) service: &'c raw::Service,
    pub(super) gateway: &'c Gateway,
    pub(super) plan: Option<&'c Plan>,
    pub(super) faults: &'c Faults,
}

impl Around<'_> {
    /// The service's path, below which all its requests lie.
    pub(super) fn prefix(&self) -> &str {
        self.service.path.as_ref().map_or("/", |at| at.value.as_str())
    }

    /// The rules of the service, of which `raw` is all that file and preset say.
    pub(super) fn rules(&self, raw: &raw::Session, name: &ServiceName) -> SessionRules {
        let faults = self.faults;
        let default = defaults::session(name);
        let idle_timeout = or(&raw.idle_timeout, default.idle_timeout);
        let rules = SessionRules {
            space: or(&raw.space, default.space),
            sources: sources(raw, faults),
            idle_timeout,
            // No session that was seen once outlives those that were seen twice.
            unconfirmed_timeout: or(&raw.unconfirmed_timeout, default.unconfirmed_timeout.min(idle_timeout)),
            application_timeout: or(&raw.application_timeout, idle_timeout),
            max_age: or(&raw.max_age, default.max_age),
            rename_grace: or(&raw.rename_grace, default.rename_grace),
            end_with_last_tunnel: or(&raw.end_with_last_tunnel, default.end_with_last_tunnel),
            end: raw.end.iter().flat_map(|at| &at.value).map(end_rule).collect(),
            end_on_not_found: or(&raw.end_on_not_found, default.end_on_not_found),
            no_session: raw.no_session.iter().flat_map(|at| &at.value).map(|at| exemption(&at.value)).collect(),
            no_touch: raw.no_touch.iter().flat_map(|at| &at.value).map(|at| at.value.clone()).collect(),
            adopt_until: or(&raw.adopt_until, default.adopt_until),
            on_lost: or(&raw.on_lost, default.on_lost),
            lost_after: or(&raw.lost_after, default.lost_after),
            announce: or(&raw.announce, default.announce),
            switch: or(&raw.switch, default.switch),
        };
        few(raw.end.as_ref(), faults);
        few(raw.no_session.as_ref(), faults);
        few(raw.no_touch.as_ref(), faults);
        if let Some(At { value: Some(path), place }) = &raw.switch {
            self.switch(path, place);
        }
        Doubts { around: *self, session: raw, rules: &rules, now: clock::wall() }.tell();
        rules
    }

    /// The path at which clients switch must be one that comes to this service, and that nothing else answers.
    fn switch(&self, path: &str, place: &Place) {
        if path == self.gateway.health_path {
            let help = "write another path, such as \"/.tidegate/switch\"";
            self.faults.error(place, "is the path of `health_path`, which answers before it", help);
        }
        let prefix = self.prefix();
        if !below(prefix, path) {
            let message = format!("lies outside of the service's path {prefix:?}, so that no request to it comes here");
            self.faults.error(place, message, format!("write \"{prefix}{path}\""));
        }
    }
}

/// Every source with its place, in the order in which they are tried.
pub(super) fn typed(raw: &raw::Session) -> impl Iterator<Item = &At<raw::Source>> {
    raw.sources.iter().flat_map(|key| &key.sources)
}

fn sources(raw: &raw::Session, faults: &Faults) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for At { value, place } in typed(raw) {
        let mut source = match value {
            raw::Source::Given(given) => Source::of(given.clone()),
            raw::Source::Issued(issue) => match issued(issue, place, faults) {
                Some(cookie) => Source::of(IdPlace::Issued(cookie)),
                None => continue,
            },
        };
        if let Some(unknown) = &raw.unknown {
            // What only the gateway makes is never taken from a client.
            source.adopts = unknown.value && !matches!(source.place, IdPlace::Issued(_));
        }
        if sources.len() == MAX_SOURCES {
            let help = "remove those that the application no longer uses";
            faults.error(place, format!("there are more than {MAX_SOURCES} places of ids"), help);
            break;
        }
        match sources.iter().find(|other| collide(&other.place, &source.place)) {
            Some(Source { place: IdPlace::Issued(_), .. }) => {
                let help = "give the gateway's cookie a name of its own: `issue = \"tidegate\"`";
                faults.error(place, "is the name of the cookie that the gateway issues", help);
            }
            Some(_) if matches!(source.place, IdPlace::Issued(_)) => {
                let help = "give it a name of its own: `issue = \"tidegate\"`";
                faults.error(place, "is the name of a cookie of the application", help);
            }
            Some(_) => faults.error(place, "this place of ids is named twice", "remove one of the two"),
            None => {}
        }
        sources.push(source);
    }
    sources
}

/// Whether two sources are the same place.
fn collide(one: &IdPlace, other: &IdPlace) -> bool {
    let cookie = |place: &IdPlace| match place {
        IdPlace::Cookie(name) => Some(name.clone()),
        IdPlace::Issued(cookie) => Some(cookie.name.clone()),
        _ => None,
    };
    one == other || cookie(one).is_some_and(|name| cookie(other) == Some(name))
}

/// The cookie, if it has a name; held against what browsers refuse (RFC 6265bis sections 4.1.3 and 5.6).
fn issued(raw: &raw::Issue, place: &Place, faults: &Faults) -> Option<IssuedCookie> {
    let name = raw.name.as_ref()?;
    let lower = name.value.to_ascii_lowercase();
    let host_only = lower.starts_with("__host-");
    let prefix = &name.value[..name.value.find('-').map_or(0, |at| at + 1)];
    let prefixed = host_only || lower.starts_with("__secure-");
    let default = defaults::issued(name.value.clone());
    let cookie = IssuedCookie {
        domain: raw.domain.as_ref().map(|at| at.value.clone()).or(default.domain),
        path: or(&raw.path, default.path),
        same_site: or(&raw.same_site, default.same_site),
        secure: or(&raw.secure, if prefixed { Secure::Always } else { default.secure }),
        name: default.name,
    };
    if let Some(secure) = &raw.secure
        && prefixed
        && secure.value != Secure::Always
    {
        let message = format!("browsers take a cookie whose name begins with {prefix} only if it is Secure");
        faults.error(&secure.place, message, "write \"always\", or leave `secure` out");
    } else if cookie.same_site == SameSite::None && cookie.secure == Secure::Never {
        let at = raw.secure.as_ref().map_or(place, |at| &at.place);
        let help = "write \"auto\" or \"always\", or another `same_site`";
        faults.error(at, "browsers take a cookie with same_site = \"none\" only if it is Secure", help);
    }
    if host_only {
        if let Some(domain) = &raw.domain {
            let message = format!("browsers take a cookie whose name begins with {prefix} only without a domain");
            faults.error(&domain.place, message, "leave `domain` out, or begin the name with __Secure-");
        }
        if let Some(path) = raw.path.as_ref().filter(|path| path.value != "/") {
            let message = format!("browsers take a cookie whose name begins with {prefix} only with the path \"/\"");
            faults.error(&path.place, message, "leave `path` out, or begin the name with __Secure-");
        }
    }
    Some(cookie)
}

fn end_rule(raw: &raw::EndRule) -> EndRule {
    let (method, path) = (&raw.method, &raw.path);
    EndRule { method: method.as_ref().map(|at| at.value.clone()), path: path.as_ref().map(|at| at.value.clone()) }
}

fn exemption(raw: &raw::Exemption) -> Exemption {
    Exemption {
        path: raw.path.as_ref().map(|at| at.value.clone()),
        user_agent: raw.user_agent.as_ref().map(|at| at.value.clone()),
        from: raw.from.iter().flat_map(|at| &at.value).map(|network| network.value).collect(),
    }
}

pub(super) fn few<T>(list: Option<&At<Vec<T>>>, faults: &Faults) {
    if let Some(list) = list.filter(|list| list.value.len() > MAX_RULES) {
        let message = format!("there are {} rules, and {MAX_RULES} at most", list.value.len());
        faults.error(&list.place, message, "join some of them: a path that ends with a star stands for many");
    }
}

/// Whether a path lies at or below a service's prefix, by whole segments.
pub(super) fn below(prefix: &str, path: &str) -> bool {
    prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
