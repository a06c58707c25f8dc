//! Cookie scopes by number: which cookie of a name it was.

use std::collections::HashMap;

use crate::sync::RwLock;

/// Where a cookie applies (RFC 6265 section 5.3): only a deletion of the same scope deletes it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Scope {
    /// Its Domain attribute in lower case, without a leading dot; empty for "this host only".
    pub domain: String,
    /// Its Path attribute; empty for the default path.
    pub path: String,
}

/// Scopes that were seen, numbered from 1. Number 0 is a scope that is not known.
#[derive(Debug)]
pub struct Scopes(RwLock<HashMap<Scope, u16>>);

/// The number of an unknown scope: that of a header, which has none, or of one beyond the table's room.
pub const UNKNOWN: u16 = 0;

impl Default for Scopes {
    fn default() -> Self {
        Self::new()
    }
}

impl Scopes {
    /// No scopes yet.
    pub fn new() -> Self {
        Self(RwLock::new(HashMap::new()))
    }

    /// The number of a scope; [`UNKNOWN`] without one, or when 65,535 others have been seen. An application has a
    /// handful of them.
    pub fn intern(&self, scope: Option<&Scope>) -> u16 {
        let Some(scope) = scope else { return UNKNOWN };
        if let Some(&number) = self.0.read().get(scope) {
            return number;
        }
        let mut scopes = self.0.write();
        let Ok(next) = u16::try_from(scopes.len() + 1) else { return UNKNOWN };
        *scopes.entry(scope.clone()).or_insert(next)
    }

    /// Whether deleting `deleted` deletes the cookie that was learned with the scope `number`. A deletion of another
    /// path or domain does not: it is no logout. An unknown scope goes by the name alone.
    pub fn matches(&self, number: u16, deleted: Option<&Scope>) -> bool {
        match deleted {
            Some(deleted) if number != UNKNOWN => self.0.read().get(deleted) == Some(&number),
            _ => true,
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_elsewhere_is_no_logout() {
        let scopes = Scopes::new();
        let scope = |path: &str| Scope { domain: String::new(), path: path.to_owned() };
        let shop = scopes.intern(Some(&scope("/shop")));
        assert_eq!(shop, scopes.intern(Some(&scope("/shop"))));
        assert!(scopes.matches(shop, Some(&scope("/shop"))));
        assert!(!scopes.matches(shop, Some(&scope("/"))));
        assert!(scopes.matches(UNKNOWN, Some(&scope("/"))));
        assert!(scopes.matches(shop, None));
    }
}
