//! Which service a host and a path lead to.
//!
//! Compared are the path's bytes as they were sent: nothing is decoded, merged or resolved, and letters count as they
//! are. So is what a service has behind its prefix; it alone knows what `%2F`, `//` or `..` mean to it.

use std::collections::HashMap;

use crate::config::model::HostPattern;

/// Host first (exact, then the longest wildcard, then none), longest path prefix second. A host whose services do
/// not match the path falls through to the next wider one.
///
/// A look-up hashes the host once, each of its parents that is no longer than the longest wildcard, and each segment of
/// the path that some prefix has in its place: as much work for a thousand services as for ten, and no more than the
/// file's own names and paths are long, whatever a client asks for.
#[derive(Debug, Default)]
pub(super) struct Routes {
    exact: HashMap<String, Node>,
    below: HashMap<String, Node>,
    /// Bytes of the longest wildcard.
    longest_below: usize,
    any: Node,
}

/// A place in the tree of path segments; the root is `/`.
#[derive(Debug, Default)]
struct Node {
    /// Those whose prefix ends here, in the order in which they came.
    services: Vec<usize>,
    children: HashMap<String, Node>,
}

impl Routes {
    /// Adds a service by its place in some list; of several at one place, the first one to come stands first.
    pub(super) fn insert(&mut self, hosts: &[HostPattern], path: &str, service: usize) {
        if hosts.is_empty() {
            self.any.insert(path, service);
        }
        for host in hosts {
            match host {
                HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default().insert(path, service),
                HostPattern::Below(name) => {
                    self.longest_below = self.longest_below.max(name.len());
                    self.below.entry(name.clone()).or_default().insert(path, service);
                }
            }
        }
    }

    /// The services at the place to which a host (in lower case, without port and final dot) and a path lead.
    pub(super) fn find(&self, host: &str, path: &str) -> &[usize] {
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(host).and_then(|root| root.find(path))
        {
            return found;
        }
        if !self.below.is_empty() {
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                if parent.len() <= self.longest_below
                    && let Some(found) = self.below.get(parent).and_then(|root| root.find(path))
                {
                    return found;
                }
                rest = parent;
            }
        }
        self.any.find(path).unwrap_or(&[])
    }
}

impl Node {
    fn insert(&mut self, path: &str, service: usize) {
        let mut node = self;
        for segment in path.split('/').skip(1).filter(|segment| !segment.is_empty()) {
            node = node.children.entry(segment.to_owned()).or_default();
        }
        node.services.push(service);
    }

    /// The services at the longest prefix of a path. A prefix ends where a segment does, or at its parameters: `/shop`
    /// covers `/shop`, `/shop/cart` and `/shop;v=1`, not `/shopping`.
    fn find(&self, path: &str) -> Option<&[usize]> {
        let mut node = self;
        let mut found = self.services.as_slice();
        let mut rest = path.strip_prefix('/').unwrap_or_default();
        while !node.children.is_empty() {
            let (segment, after) = match rest.split_once('/') {
                Some((segment, after)) => (segment, Some(after)),
                None => (rest, None),
            };
            let (next, after) = match node.children.get(segment) {
                Some(next) => (next, after),
                // Behind parameters no prefix goes on.
                None => match segment.split_once(';').and_then(|(name, _)| node.children.get(name)) {
                    Some(next) => (next, None),
                    None => break,
                },
            };
            if !next.services.is_empty() {
                found = &next.services;
            }
            let Some(after) = after else { break };
            (node, rest) = (next, after);
        }
        (!found.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> HostPattern {
        match text.strip_prefix("*.") {
            Some(below) => HostPattern::Below(below.to_owned()),
            None => HostPattern::Exact(text.to_owned()),
        }
    }

    /// Services as `hosts path`, in the order of the file.
    fn routes(services: &[&str]) -> Routes {
        let mut routes = Routes::default();
        for (index, service) in services.iter().enumerate() {
            let (hosts, path) = service.split_once(' ').unwrap();
            let hosts: Vec<_> = hosts.split(',').filter(|host| !host.is_empty()).map(host).collect();
            routes.insert(&hosts, path, index);
        }
        routes
    }

    #[test]
    fn the_nearest_host_and_the_longest_path_win() {
        let services = [
            " /",
            " /app",
            " /app/admin",
            "shop.example /",
            "shop.example /app",
            "*.example /",
            "*.eu.example /",
            "only.example /only",
            " /a;b",
        ];
        let routes = routes(&services);
        for (host, path, expected) in [
            ("", "/", Some(0)),
            ("x", "/app", Some(1)),
            ("x", "/app/", Some(1)),
            ("x", "/app/x", Some(1)),
            ("x", "/app;jsessionid=A", Some(1)),
            ("x", "/app;v=1/admin", Some(1)),
            ("x", "/app/admin;v=1/x", Some(2)),
            ("x", "/app/administrator", Some(1)),
            ("x", "/apple", Some(0)),
            ("x", "/App", Some(0)),
            ("x", "/%61pp", Some(0)),
            ("x", "/app%2Fadmin", Some(0)),
            ("x", "//app", Some(0)),
            ("x", "/app//admin", Some(1)),
            ("x", "/app/../x", Some(1)),
            ("x", "/x/../app", Some(0)),
            ("x", "/a;b/c", Some(8)),
            ("x", "/a", Some(0)),
            ("x", "*", Some(0)),
            ("x", "", Some(0)),
            ("shop.example", "/x", Some(3)),
            ("shop.example", "/app/admin", Some(4)),
            ("www.shop.example", "/app", Some(5)),
            ("a.eu.example", "/", Some(6)),
            ("eu.example", "/", Some(5)),
            ("example", "/", Some(0)),
            ("xexample", "/", Some(0)),
            ("only.example", "/only/x", Some(7)),
            // Nothing of its own there: the next wider host.
            ("only.example", "/else", Some(5)),
        ] {
            assert_eq!(routes.find(host, path).first().copied(), expected, "{host} {path}");
        }
        let narrow = self::routes(&["shop.example /app"]);
        for (host, path) in [("shop.example", "/"), ("shop.example", "*"), ("else.example", "/app")] {
            assert_eq!(narrow.find(host, path), [] as [usize; 0], "{host} {path}");
        }
    }

    #[test]
    fn those_at_one_place_are_found_together() {
        assert_eq!(routes(&[" /a", " /b", " /a"]).find("x", "/a/b"), [0, 2]);
    }

    /// What a long host or path asks for is bounded by the file, not by the client.
    #[test]
    fn no_request_is_too_long() {
        let routes = routes(&["*.example /a/a/a", " /"]);
        let (host, path) = (format!("{}example", "a.".repeat(100_000)), "/a".repeat(100_000));
        assert_eq!(routes.find(&host, &path), [0]);
        assert_eq!(routes.find(&host, "/a/a"), [1]);
    }

    fn is_below(path: &str, prefix: &str) -> bool {
        let rest = path.strip_prefix(prefix);
        prefix == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest.starts_with(';'))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_tree_finds_what_a_list_would(
            prefixes in prop::collection::vec("(/[ab]{1,2}){0,3}", 1..12),
            path in "(/[ab;.]{0,3}){1,4}",
        ) {
            let prefixes: Vec<_> = prefixes.iter().map(|prefix| if prefix.is_empty() { "/" } else { prefix }).collect();
            let mut routes = Routes::default();
            for (index, prefix) in prefixes.iter().enumerate() {
                routes.insert(&[], prefix, index);
            }
            let longest = prefixes.iter().filter(|prefix| is_below(&path, prefix)).max_by_key(|prefix| prefix.len());
            let expected: Vec<_> =
                (0..prefixes.len()).filter(|index| longest == Some(&prefixes[*index])).collect();
            prop_assert_eq!(routes.find("x", &path), expected);
        }
    }
}
