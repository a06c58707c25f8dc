use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;

use super::*;
use crate::config::defaults;
use crate::config::model::Source;
use crate::ids::ServiceName;

fn rules(places: Vec<IdPlace>) -> SessionRules {
    SessionRules {
        sources: places.into_iter().map(Source::of).collect(),
        ..defaults::session(&ServiceName::new("app"))
    }
}

fn cookie(name: &str) -> IdPlace {
    IdPlace::Cookie(name.to_owned())
}

fn template(before: &[Option<&str>]) -> IdPlace {
    IdPlace::PathSegment(PathTemplate { before: before.iter().map(|part| part.map(str::to_owned)).collect() })
}

fn all(rules: &SessionRules, target: &str, headers: &HeaderMap) -> Vec<(usize, Vec<u8>)> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut seen = Vec::new();
    candidates(rules, Target { path, query }, headers, &mut |candidate| {
        seen.push((candidate.source, candidate.id.into_owned()));
        ControlFlow::Continue(())
    });
    seen
}

fn seen(place: IdPlace, target: &str, headers: &HeaderMap) -> Vec<String> {
    let seen = all(&rules(vec![place]), target, headers);
    seen.into_iter().map(|(_, id)| String::from_utf8(id).unwrap()).collect()
}

fn line(cookies: &str) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(cookies).unwrap())])
}

#[test]
fn cookie_lines_as_browsers_and_others_write_them() {
    let cases: [(&str, &[&str]); 12] = [
        ("sid=a", &["a"]),
        ("theme=dark; sid=a", &["a"]),
        ("sid=a; sid=b", &["a", "b"]),
        ("sid=a; sid=a", &["a", "a"]),
        (" sid = a ;x=1", &["a"]),
        ("sid=\"a\"", &["a"]),
        ("sid=; sid=b", &["b"]),
        ("sid=\"\"", &[]),
        ("SID=a; sidx=b; xsid=c", &[]),
        ("sid", &[]),
        ("sid=a=b", &["a=b"]),
        (";;;sid=a%20b;;", &["a%20b"]),
    ];
    for (cookies, expected) in cases {
        assert_eq!(seen(cookie("sid"), "/", &line(cookies)), expected, "{cookies}");
    }
    let issued = IdPlace::Issued(defaults::issued("tidegate".to_owned()));
    assert_eq!(seen(issued, "/", &line("sid=a; tidegate=AB_c-")), ["AB_c-"]);
}

#[test]
fn path_parameters_on_any_segment() {
    let cases: [(&str, &[&str]); 14] = [
        ("/cart;jsessionid=A", &["A"]),
        ("/cart;jsessionid=A/more;x=y", &["A"]),
        ("/cart;x=y;jsessionid=A;z", &["A"]),
        ("/;jsessionid=A", &["A"]),
        ("/a;jsessionid=A/b;jsessionid=B", &["A", "B"]),
        ("/a;jsessionid=A;jsessionid=A", &["A", "A"]),
        ("/a;jsessionid=A%2Enode%31", &["A.node1"]),
        ("/a;jsessionid=A%3B%2Fb%zz%", &["A;/b%zz%"]),
        ("/a;jsessionid=A=B", &["A=B"]),
        ("/a;JSESSIONID=A;xjsessionid=B;jsessionidx=C;jsessionid", &[]),
        ("/a;jsessionid=;jsessionid=/b", &[]),
        ("/jsessionid=A", &[]),
        ("/a?x;jsessionid=A", &[]),
        ("*", &[]),
    ];
    for (target, expected) in cases {
        let place = IdPlace::PathParameter("jsessionid".to_owned());
        assert_eq!(seen(place, target, &HeaderMap::new()), expected, "{target}");
    }
}

#[test]
fn segments_where_the_template_says() {
    let kernels: &[_] = &[Some("api"), Some("kernels")];
    for (before, target, expected) in [
        (kernels, "/api/kernels/k1", Some("k1")),
        (kernels, "/api/kernels/k1/channels?x=1", Some("k1")),
        (kernels, "/api/kernels/k%31", Some("k1")),
        (kernels, "/api/kernels", None),
        (kernels, "/api/kernels/", None),
        (kernels, "/api/Kernels/k1", None),
        (kernels, "/x/api/kernels/k1", None),
        (&[None, Some("s")], "/any/s/k1", Some("k1")),
        (&[], "/k1/x", Some("k1")),
        (&[], "*", None),
    ] {
        let seen = seen(template(before), target, &HeaderMap::new());
        assert_eq!(seen, Vec::from_iter(expected), "{before:?} {target}");
    }
}

#[test]
fn keys_of_the_query() {
    let cases: [(&str, &[&str]); 12] = [
        ("/?sid=A", &["A"]),
        ("/?a=b&sid=A&c", &["A"]),
        ("/?sid=A&sid=B", &["A", "B"]),
        ("/?sid=A+B%2B%20C", &["A+B+ C"]),
        ("/?s%69d=A", &["A"]),
        ("/?sid=A=B", &["A=B"]),
        ("/?sid=%41%", &["A%"]),
        ("/?SID=A&xsid=B&sidx=C&sid", &[]),
        ("/?sid=&&sid=", &[]),
        ("/?", &[]),
        ("/sid=A", &[]),
        ("/?x=1;sid=A", &[]),
    ];
    for (target, expected) in cases {
        assert_eq!(seen(IdPlace::Query("sid".to_owned()), target, &HeaderMap::new()), expected, "{target}");
    }
    assert_eq!(seen(IdPlace::Query("id[]".to_owned()), "/?id%5B%5d=A&id[]=B", &HeaderMap::new()), ["A", "B"]);
}

#[test]
fn sources_come_in_the_order_of_the_file() {
    let header = HeaderName::from_static("x-session");
    let mut headers = line("sid=c");
    headers.insert(&header, HeaderValue::from_static(" h "));
    let places = [
        (cookie("sid"), "c"),
        (IdPlace::Header(header), "h"),
        (IdPlace::PathParameter("p".to_owned()), "p1"),
        (template(&[]), "a;p=p1"),
        (IdPlace::Query("q".to_owned()), "q1"),
    ];
    for first in 0..places.len() {
        let mut places = places.to_vec();
        places.rotate_left(first);
        let expected: Vec<_> = places.iter().map(|(_, id)| id.as_bytes().to_vec()).enumerate().collect();
        let rules = rules(places.into_iter().map(|(place, _)| place).collect());
        assert_eq!(all(&rules, "/a;p=p1?q=q1", &headers), expected);
    }
}

#[test]
fn overlong_ids_are_nobodys() {
    for length in [LONGEST_ID + 1, 8 * 1_024] {
        let long = "x".repeat(length);
        assert_eq!(seen(cookie("s"), "/", &line(&format!("s={long}; s=b"))), ["b"]);
        let place = IdPlace::PathParameter("s".to_owned());
        assert_eq!(seen(place, &format!("/;s={long};s=b"), &HeaderMap::new()), ["b"]);
        assert_eq!(seen(IdPlace::Query("s".to_owned()), &format!("/?s={long}&s=b"), &HeaderMap::new()), ["b"]);
    }
    // What counts is the id, not how long a client makes it by encoding.
    let longest = "%78".repeat(LONGEST_ID);
    assert_eq!(seen(IdPlace::Query("s".to_owned()), &format!("/?s={longest}"), &HeaderMap::new()).len(), 1);
}

#[test]
fn a_client_cannot_order_a_thousand_lookups() {
    let many = rules(vec![cookie("s"), IdPlace::Query("s".to_owned())]);
    let headers = line(&["s=a"; 10].join("; "));
    let ids = all(&many, &format!("/?{}", vec!["s=b"; 1_000].join("&")), &headers);
    assert_eq!(ids.len(), MOST_CANDIDATES);
    assert_eq!(ids.iter().filter(|(source, _)| *source == 0).count(), 10);
}

#[test]
fn what_is_no_text_is_an_id_all_the_same() {
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::from_bytes(b"x=\xff; s=\xc3\x28; y").unwrap());
    assert_eq!(all(&rules(vec![cookie("s")]), "/", &headers), [(0, b"\xc3\x28".to_vec())]);
    let query = rules(vec![IdPlace::Query("s".to_owned())]);
    assert_eq!(all(&query, "/?s=%C3%28", &HeaderMap::new()), [(0, b"\xc3\x28".to_vec())]);
}

#[test]
fn the_gateways_own_cookie_is_taken_out_and_nothing_else() {
    for (cookies, expected) in [
        ("a=1; b=2", None),
        ("", None),
        ("xown=1; ownx=2; own; OWN=3", None),
        ("own=1", Some("")),
        ("own=1; own=2", Some("")),
        (" ; own=1 ;; ", Some("")),
        ("own=1; a=1", Some("a=1")),
        ("a=1; own=1", Some("a=1")),
        ("a=1; own=1; b=2", Some("a=1; b=2")),
        ("a=1;own=1;b=\"x y\";  c", Some("a=1;b=\"x y\";  c")),
        ("a=1; own = 1 ; b=2;", Some("a=1; b=2;")),
        ("own=1; a=1; own=2; b=2; own=3", Some("a=1; b=2")),
    ] {
        let rest = without_cookie(cookies.as_bytes(), "own");
        assert_eq!(rest.as_deref(), expected.map(str::as_bytes), "{cookies}");
    }
}

/// Characters that some client leaves as they are in a path or a query, though others encode them.
const LENIENT: AsciiSet =
    NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'!').remove(b'=').remove(b'+');

proptest! {
    #[test]
    fn whatever_a_client_sends_is_read_within_its_line(line in prop::collection::vec(32_u8..=255, 0..200)) {
        prop_assume!(!line.contains(&127));
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_bytes(&line).unwrap());
        for (_, id) in all(&rules(vec![cookie("a")]), "/", &headers) {
            prop_assert!(!id.is_empty() && !id.contains(&b';'));
            prop_assert!(line.windows(id.len()).any(|window| window == id));
        }
    }

    #[test]
    fn an_id_is_the_same_however_it_is_encoded(id in prop::collection::vec(any::<u8>(), 1..60), before in "[a-z;=/]{0,9}") {
        let places = vec![IdPlace::PathParameter("s".to_owned()), IdPlace::Query("s".to_owned())];
        for set in [NON_ALPHANUMERIC, &LENIENT] {
            let written = percent_encode(&id, set).to_string();
            let target = format!("/{before}/x;s={written}/y?z&s={written}");
            let found = all(&rules(places.clone()), &target, &HeaderMap::new());
            prop_assert!(found.contains(&(0, id.clone())) && found.contains(&(1, id.clone())));
        }
    }

    #[test]
    fn no_target_is_too_strange(path in ".{0,60}", query in proptest::option::of(".{0,60}")) {
        let places = vec![
            IdPlace::PathParameter("s".to_owned()),
            template(&[None]),
            IdPlace::Query("s".to_owned()),
        ];
        let target = Target { path: &path, query: query.as_deref() };
        candidates(&rules(places), target, &HeaderMap::new(), &mut |_| ControlFlow::Continue(()));
        names(target, path.as_bytes());
    }

    #[test]
    fn without_a_cookie_the_others_are_as_they_were(pairs in prop::collection::vec("(own|ow|b)?[ =]?[a-z\"=]{0,3}", 0..8)) {
        let line = pairs.join("; ");
        let others: Vec<&[u8]> = parts(line.as_bytes(), b';').filter(|pair| value_of(pair, "own").is_none()).collect();
        match without_cookie(line.as_bytes(), "own") {
            None => prop_assert_eq!(others.len(), pairs.len().max(1)),
            Some(rest) => {
                prop_assert!(rest.len() < line.len());
                prop_assert_eq!(without_cookie(&rest, "own"), None);
                let words = |pairs: Vec<&[u8]>| -> Vec<Vec<u8>> {
                    let pairs = pairs.into_iter().map(|pair| pair.trim_ascii().to_vec());
                    pairs.filter(|pair| !pair.is_empty()).collect()
                };
                prop_assert_eq!(words(parts(&rest, b';').collect()), words(others));
            }
        }
    }
}
