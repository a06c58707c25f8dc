//! Session rules that work, but may not be meant.

use std::time::SystemTime;

use super::session::{Around, below, typed};
use super::{balance, raw};
use crate::config::model::{
    Gateway, HostPattern, IdPlace, IssuedCookie, PathPattern, PathTemplate, Plan, Respond, Service, SessionRules,
    StatePlace,
};
use crate::config::reader::At;
use crate::config::report::{Faults, Place, shown};

/// The session rules of one service, and what they are held against.
pub(super) struct Doubts<'c> {
    pub(super) around: Around<'c>,
    /// All that file and preset say.
    pub(super) session: &'c raw::Session,
    pub(super) rules: &'c SessionRules,
    /// Wall time, for moments that have passed.
    pub(super) now: SystemTime,
}

impl Doubts<'_> {
    /// Warns of everything doubtful in the rules.
    pub(super) fn tell(&self) {
        let forwards = self.around.service.answers.respond.as_ref().is_none_or(|at| at.value == Respond::Forward);
        if self.rules.sources.is_empty() && forwards {
            let place = &self.around.service.place;
            let place = Place { span: place.span.clone(), key: format!("{}.session", place.key) };
            let help = "name the application's cookie: `session = { cookie = \"JSESSIONID\" }`, or issue one: \
                        `session = { issue = \"tidegate\" }`";
            self.around.faults.warn(&place, "no session source: every request goes to the active generation", help);
        }
        self.endless_cookie();
        self.lonely_sources();
        self.adoption();
        self.issued();
        self.times();
        self.paths();
        if let Some(typed) = self.session.end_on_not_found.as_ref().filter(|typed| typed.value)
            && self.rules.sources.iter().any(|source| !matches!(source.place, IdPlace::Header(_)))
        {
            let message = "`end_on_not_found` ends a session at every 404, a missing picture's too, because all \
                           requests of a browser carry its cookies";
            self.around.faults.warn(
                &typed.place,
                message,
                "write `end_on_not_found = false`: it is for an API whose only source is a header",
            );
        }
    }

    fn has(&self, is: fn(&IdPlace) -> bool) -> bool {
        self.rules.sources.iter().any(|source| is(&source.place))
    }

    /// Where the first source of a kind stands.
    fn first(&self, is: fn(&IdPlace) -> bool) -> Option<&Place> {
        let given = |source: &&At<raw::Source>| matches!(&source.value, raw::Source::Given(place) if is(place));
        typed(self.session).find(given).map(|source| &source.place)
    }

    fn endless_cookie(&self) {
        let ends = !self.rules.end.is_empty()
            || self.rules.end_with_last_tunnel.is_some()
            || self.session.preset.as_ref().is_some_and(|preset| preset.value.deletes_its_cookie);
        if let Some(cookie) = self.first(|place| matches!(place, IdPlace::Cookie(_))).filter(|_| !ends) {
            let help = "add the application's logout: `end = [{ method = \"POST\", path = \"/logout\" }]`";
            let message = "a cookie without an `end` rule: an application that only invalidates its session leaves \
                           the cookie in the browser, and the session counts as open until its idle timeout";
            self.around.faults.warn(cookie, message, help);
        }
    }

    /// Sources that need another one beside them.
    fn lonely_sources(&self) {
        let spread = match self.around.plan {
            Some(Plan::Numbered(backends)) => backends.len() > 1,
            Some(Plan::Explicit(generations)) => generations.iter().any(|one| one.backends.len() > 1),
            Some(Plan::Worker(worker)) => worker.launch.instances > 1,
            None => false,
        };
        let taught = |place: &IdPlace| matches!(place, IdPlace::Cookie(_) | IdPlace::Header(_) | IdPlace::Issued(_));
        if let Some(place) = self.first(|place| matches!(place, IdPlace::PathSegment(_) | IdPlace::Query(_)))
            && spread
            && !self.has(taught)
            && !balance::balance(self.around.service).leads_clients()
        {
            let message = "an id that the body of a first answer carries is not seen there: the next request, the \
                           first one with the id, can go to another of the backends than the one that made it";
            self.around.faults.warn(place, message, "add `issue = \"tidegate\"` before it");
        }
        let parameter = |place: &IdPlace| matches!(place, IdPlace::PathParameter(_));
        if let Some(place) = self.first(parameter)
            && !self.has(|place| matches!(place, IdPlace::Cookie(_)))
            && !self.rules.sources.iter().any(|source| source.adopts && parameter(&source.place))
        {
            let message =
                "is learned from redirects alone: an id that stands only in the links of a page binds nothing";
            let help = "name the cookie that carries the same id, or add `unknown = \"adopt\"`";
            self.around.faults.warn(place, message, help);
        }
    }

    fn adoption(&self) {
        let raw = self.session;
        let until = raw.adopt_until.as_ref().and_then(|at| Some((at.value?, &at.place)));
        let idle = self.rules.sources.iter().all(|source| matches!(source.place, IdPlace::Issued(_)));
        let typed = raw.unknown.as_ref().filter(|typed| typed.value).map(|typed| &typed.place);
        if idle && !self.rules.sources.is_empty() {
            for place in typed.into_iter().chain(until.map(|(_, place)| place)) {
                let message = "has no effect: the ids of an issued cookie come from the gateway and are never adopted";
                self.around.faults.warn(place, message, "remove it, or name the application's own source");
            }
        } else if let Some((_, place)) = until.filter(|(until, _)| *until <= self.now) {
            self.around.faults.warn(place, "has passed: unknown ids are no longer adopted because of it", "remove it");
        } else if let Some((_, place)) = until.filter(|_| self.rules.sources.iter().all(|source| source.adopts)) {
            self.around.faults.warn(place, "has no effect: unknown ids are adopted anyhow", "remove it");
        }
    }

    fn issued(&self) {
        let Some((cookie, place)) = issued(self.session, self.rules) else { return };
        if self.around.gateway.state == StatePlace::Memory && self.around.gateway.keys.is_empty() {
            let message = "with state = \"memory\" the keys of issued cookies are new at every start, and no cookie \
                           from before it is understood";
            self.around.faults.warn(
                place,
                message,
                "add `keys = [\"/etc/tidegate/key-1\"]` to [gateway], or a state directory",
            );
        }
        let prefix = self.around.prefix();
        if !covers(&cookie.path, prefix) {
            let message = format!(
                "browsers send the cookie with the path {} only, but the service takes {}: every other request opens \
                 a session of its own",
                shown(&cookie.path),
                shown(prefix)
            );
            self.around.faults.warn(place, message, format!("write `path = {prefix:?}`, or \"/\""));
        }
        if let Some(domain) = &cookie.domain {
            let hosts = self.around.service.hosts.iter().flat_map(|hosts| &hosts.value);
            for host in hosts.filter(|host| !within(&host.value, domain)) {
                let message = format!("browsers refuse a cookie for {domain} from this host");
                let help = "leave the cookie's `domain` out, or give the host a service of its own";
                self.around.faults.warn(&host.place, message, help);
            }
        }
    }

    fn times(&self) {
        let (raw, rules) = (self.session, self.rules);
        if let (Some(age), Some(typed)) = (rules.max_age, &raw.max_age)
            && age < rules.idle_timeout
        {
            let help = "write a `max_age` above `idle_timeout`, or a shorter `idle_timeout`";
            self.around.faults.warn(
                &typed.place,
                "is shorter than `idle_timeout`, which therefore never takes effect",
                help,
            );
        }
        let unconfirmed = raw.unconfirmed_timeout.as_ref().map(|at| (at.value, &at.place));
        let application = raw.application_timeout.as_ref().map(|at| (at.value, &at.place));
        let tunnel = raw.end_with_last_tunnel.as_ref().and_then(|at| Some((at.value?, &at.place)));
        for (time, place) in [unconfirmed, application, tunnel].into_iter().flatten() {
            if time > rules.idle_timeout {
                let help = "write a shorter one, or a longer `idle_timeout`";
                self.around.faults.warn(place, "never takes effect, because it is longer than `idle_timeout`", help);
            }
        }
    }

    /// Paths that never come to this service.
    fn paths(&self) {
        let (raw, prefix) = (self.session, self.around.prefix());
        let warn = |place: &Place, path: &str| {
            let message = format!("{path} lies outside of the service's path {prefix}, and matches no request");
            self.around.faults.warn(place, message, format!("write {}", shown(&format!("{prefix}{path}"))));
        };
        for path in raw.end.iter().flat_map(|at| &at.value).filter_map(|rule| rule.path.as_ref()) {
            if !below(prefix, &path.value) {
                warn(&path.place, &path.value);
            }
        }
        let exempt = raw.no_session.iter().flat_map(|at| &at.value).filter_map(|rule| rule.value.path.as_ref());
        for pattern in exempt.chain(raw.no_touch.iter().flat_map(|at| &at.value)) {
            let reachable = match &pattern.value {
                PathPattern::Exact(path) => below(prefix, path),
                PathPattern::Below(start) => below(prefix, start) || prefix.starts_with(start.as_str()),
            };
            if !reachable {
                warn(&pattern.place, &pattern.value.to_string());
            }
        }
        for source in typed(raw) {
            if let raw::Source::Given(IdPlace::PathSegment(template)) = &source.value
                && !reachable(prefix, template)
            {
                warn(&source.place, &template.to_string());
            }
        }
    }
}

/// The cookie that a service issues, and where the file says so.
fn issued<'c>(raw: &'c raw::Session, rules: &'c SessionRules) -> Option<(&'c IssuedCookie, &'c Place)> {
    let cookie = rules.sources.iter().find_map(|source| match &source.place {
        IdPlace::Issued(cookie) => Some(cookie),
        _ => None,
    })?;
    let place = typed(raw).find(|source| matches!(source.value, raw::Source::Issued(_)))?;
    Some((cookie, &place.place))
}

/// Whether browsers send a cookie of this path along with every request below a prefix (RFC 6265 section 5.1.4).
fn covers(cookie: &str, prefix: &str) -> bool {
    let rest = prefix.strip_prefix(cookie);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || cookie.ends_with('/'))
}

/// Whether hosts of a pattern may set a cookie for a domain (RFC 6265 section 5.1.3).
fn within(host: &HostPattern, domain: &str) -> bool {
    let (HostPattern::Exact(name) | HostPattern::Below(name)) = host;
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a request below a prefix can have the id where a template says.
fn reachable(prefix: &str, template: &PathTemplate) -> bool {
    let given = prefix.split('/').filter(|segment| !segment.is_empty());
    let wanted = template.before.iter().map(Option::as_deref);
    // Where the template ends, the id begins, and behind it all is free.
    given.zip(wanted).all(|(given, wanted)| wanted.is_none_or(|wanted| wanted == given))
}

/// Cookies of several services that overwrite each other in the browser, and keys for no cookie at all.
pub(super) fn across(
    file: &raw::File,
    sessions: &[raw::Session],
    gateway: &Gateway,
    services: &[Option<Service>],
    faults: &Faults,
) {
    let issuers: Vec<_> = sessions
        .iter()
        .zip(services)
        .filter_map(|(raw, service)| {
            let service = service.as_ref()?;
            let (cookie, place) = issued(raw, &service.session)?;
            Some((service, cookie, place))
        })
        .collect();
    for (at, (service, cookie, place)) in issuers.iter().enumerate() {
        let clash = |(other, theirs, _): &&(&Service, &IssuedCookie, &Place)| {
            cookie.name == theirs.name
                && cookie.path == theirs.path
                && cookie.domain == theirs.domain
                && service.session.space != other.session.space
                && (cookie.domain.is_some() || meet(service, other))
        };
        if let Some((other, _, first)) = issuers[..at].iter().find(clash) {
            let message = format!(
                "{} ({}) issues a cookie of this name, host and path, too: in a browser that uses both, \
                 each overwrites the other's",
                faults.owner(first, place),
                shown(other.name.as_str())
            );
            faults.warn(place, message, "give it another name, or both services one `space`");
        }
    }
    if let Some(keys) = file.gateway.keys.as_ref().filter(|keys| !keys.value.is_empty())
        && gateway.keys.len() == keys.value.len()
        && services.iter().all(Option::is_some)
        && issuers.is_empty()
    {
        faults.warn(&keys.place, "is not read, because no service issues a cookie", "remove it");
    }
}

/// Whether one host can lead to both services.
fn meet(one: &Service, other: &Service) -> bool {
    let any = one.hosts.is_empty() || other.hosts.is_empty();
    any || one.hosts.iter().any(|host| other.hosts.contains(host))
}
