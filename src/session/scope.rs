//! Cookie scopes by number: which cookie of a name it was.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderValue;

use crate::config::model::IssuedCookie;
use crate::record::binding::Fact;
use crate::store::journal::Journal;
use crate::sync::RwLock;

/// Where a cookie applies (RFC 6265 section 5.3): only a deletion of the same scope deletes it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Scope {
    /// Its Domain attribute in lower case, without a leading dot; empty for "this host only".
    pub domain: String,
    /// Its Path attribute, or the default path where it had none (RFC 6265 section 5.1.4).
    pub path: String,
}

impl Scope {
    /// That of the gateway's own cookie.
    pub fn of(cookie: &IssuedCookie) -> Self {
        let domain = cookie.domain.as_deref().unwrap_or_default();
        Self { domain: domain.trim_start_matches('.').to_ascii_lowercase(), path: cookie.path.clone() }
    }
}

/// Scopes that were seen, numbered from 1. Number 0 is a scope that is not known.
#[derive(Debug)]
pub struct Scopes {
    seen: RwLock<Seen>,
    journal: Option<Arc<Journal>>,
}

#[derive(Debug, Default)]
struct Seen {
    numbers: HashMap<Arc<Scope>, u16>,
    /// In the order of their numbers.
    scopes: Vec<Arc<Scope>>,
}

/// The number of an unknown scope: that of a header, which has none, or of one beyond the room for scopes.
pub const UNKNOWN: u16 = 0;

/// Scopes that are remembered. An application has a handful of them, but where it names no path, the path that a client
/// asked for makes one, and none is ever forgotten: this bounds what clients can fill.
const MOST_SCOPES: usize = 4_096;

/// Bytes of a scope that is remembered.
const LONGEST_SCOPE: usize = 1_024;

impl Default for Scopes {
    fn default() -> Self {
        Self::new()
    }
}

impl Scopes {
    /// No scopes yet.
    pub fn new() -> Self {
        Self { seen: RwLock::new(Seen::default()), journal: None }
    }

    /// Has every new one written down, before its number is used.
    #[must_use]
    pub fn recorded_in(mut self, journal: Arc<Journal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// The number of a scope; [`UNKNOWN`] without one, for one of more than 1,024 bytes, and for a new one when 4,096
    /// others have been seen.
    pub fn intern(&self, scope: Option<&Scope>) -> u16 {
        let Some(scope) = scope else { return UNKNOWN };
        if let Some(&number) = self.seen.read().numbers.get(scope) {
            return number;
        }
        if scope.domain.len() + scope.path.len() > LONGEST_SCOPE {
            return UNKNOWN;
        }
        let mut seen = self.seen.write();
        // Another thread may have been here in between.
        if let Some(&number) = seen.numbers.get(scope) {
            return number;
        }
        if seen.scopes.len() >= MOST_SCOPES {
            return UNKNOWN;
        }
        let Ok(number) = u16::try_from(seen.scopes.len() + 1) else { return UNKNOWN };
        if let Some(journal) = &self.journal {
            let Scope { domain, path } = scope.clone();
            journal.append(&[Fact::ScopeNamed { scope: number.into(), domain, path }]);
        }
        let scope = Arc::new(scope.clone());
        seen.scopes.push(Arc::clone(&scope));
        seen.numbers.insert(scope, number);
        number
    }

    /// The scope of a number; `None` for [`UNKNOWN`].
    pub fn scope(&self, number: u16) -> Option<Arc<Scope>> {
        self.seen.read().scopes.get(usize::from(number).checked_sub(1)?).cloned()
    }

    /// Whether deleting `deleted` deletes the cookie that was learned with the scope `number`. A deletion of another
    /// path or domain does not: it is no logout. An unknown scope goes by the name alone.
    pub fn matches(&self, number: u16, deleted: &Scope) -> bool {
        number == UNKNOWN || self.seen.read().numbers.get(deleted) == Some(&number)
    }
}

/// The Set-Cookie field that deletes exactly the cookie of this name and scope.
///
/// A default path can hold a `;`, which no attribute can: such a cookie is deleted at the default path of the request
/// that is answered, which is the same folder when the client asks for the page again.
pub fn deletion(name: &str, scope: &Scope) -> HeaderValue {
    let mut line = format!("{name}=");
    if !scope.path.is_empty() && !scope.path.contains(';') {
        line.push_str("; Path=");
        line.push_str(&scope.path);
    }
    if !scope.domain.is_empty() {
        line.push_str("; Domain=");
        line.push_str(&scope.domain);
    }
    line.push_str("; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
    if needs_secure(name) {
        line.push_str("; Secure");
    }
    field(line)
}

/// Whether browsers take a cookie of this name with the attribute Secure only.
pub(crate) fn needs_secure(name: &str) -> bool {
    let starts_with = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    starts_with("__Secure-") || starts_with("__Host-")
}

/// A line as a field's value. What names, domains and paths cannot hold is left out, rather than a line broken by it.
pub(crate) fn field(mut line: String) -> HeaderValue {
    line.retain(|char| !char.is_ascii_control());
    HeaderValue::try_from(line.into_bytes()).expect("bytes that are no control characters make a value")
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use crate::config::defaults;
    use crate::session::cookie::SetCookie;

    fn scope(domain: &str, path: &str) -> Scope {
        Scope { domain: domain.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn a_deletion_elsewhere_is_no_logout() {
        let scopes = Scopes::new();
        let shop = scopes.intern(Some(&scope("", "/shop")));
        assert_eq!(shop, scopes.intern(Some(&scope("", "/shop"))));
        assert!(scopes.matches(shop, &scope("", "/shop")));
        assert!(!scopes.matches(shop, &scope("", "/")));
        assert!(!scopes.matches(shop, &scope("example.com", "/shop")));
        assert!(scopes.matches(UNKNOWN, &scope("", "/")));
    }

    #[test]
    fn a_number_leads_back_to_its_scope() {
        let scopes = Scopes::new();
        let numbers = ["/a", "/b", "/a"].map(|path| scopes.intern(Some(&scope("", path))));
        assert_eq!(numbers.map(|number| scopes.scope(number).unwrap().path.clone()), ["/a", "/b", "/a"]);
        assert!(scopes.scope(UNKNOWN).is_none() && scopes.scope(3).is_none() && scopes.scope(u16::MAX).is_none());
    }

    #[test]
    fn clients_cannot_fill_the_memory_with_scopes() {
        let scopes = Scopes::new();
        assert_eq!(scopes.intern(Some(&scope("", &"/".repeat(LONGEST_SCOPE + 1)))), UNKNOWN);
        let first = scopes.intern(Some(&scope("", "/0")));
        let numbers: Vec<_> = (1..=MOST_SCOPES).map(|n| scopes.intern(Some(&scope("", &format!("/{n}"))))).collect();
        assert_eq!(numbers.iter().filter(|number| **number == UNKNOWN).count(), 1);
        assert_eq!(*numbers.last().unwrap(), UNKNOWN);
        assert_eq!(scopes.intern(Some(&scope("", "/0"))), first);
    }

    #[test]
    fn deletions_as_browsers_want_them() {
        let end = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        for (name, scope, expected) in [
            ("s", scope("", "/"), format!("s=; Path=/{end}")),
            ("s", scope("example.com", "/a"), format!("s=; Path=/a; Domain=example.com{end}")),
            ("s", scope("", "/a;v=1"), format!("s={end}")),
            ("__Host-s", scope("", "/"), format!("__Host-s=; Path=/{end}; Secure")),
            ("__secure-s", scope("", "/a"), format!("__secure-s=; Path=/a{end}; Secure")),
            ("__Hos\u{fc}", scope("", "/a\r\nX: y"), format!("__Hos\u{fc}=; Path=/aX: y{end}")),
        ] {
            assert_eq!(deletion(name, &scope).as_bytes(), expected.as_bytes());
        }
        let mut cookie = defaults::issued("t".to_owned());
        assert_eq!(Scope::of(&cookie), scope("", "/"));
        cookie.domain = Some(".Example.com".to_owned());
        assert_eq!(deletion("t", &Scope::of(&cookie)), format!("t=; Path=/; Domain=example.com{end}"));
    }

    proptest! {
        #[test]
        fn what_was_learned_is_what_is_deleted(path in "(/[a-zA-Z0-9=%._~-]{0,9}){1,3}", domain in "(a|b\\.a)?") {
            let line = format!("s=1; Path={path}; Domain={domain}");
            let learned = SetCookie::parse(line.as_bytes(), "s").unwrap().scope("/x/y", "c.b.a").unwrap();
            let line = deletion("s", &learned);
            let read = SetCookie::parse(line.as_bytes(), "s").unwrap();
            prop_assert!(read.is_over(SystemTime::UNIX_EPOCH) && read.value.is_empty());
            prop_assert_eq!(read.scope("/other", "c.b.a"), Some(learned));
        }
    }
}
