use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;

use super::*;
use crate::config::defaults;
use crate::config::model::Source;
use crate::ids::ServiceName;

const NAME: &str = "JSESSIONID";
const HOST: &str = "shop.example.com";

/// Cookie, header, path parameter, the gateway's own cookie.
fn rules() -> SessionRules {
    let places = [
        IdPlace::Cookie(NAME.to_owned()),
        IdPlace::Header(HeaderName::from_static("x-session")),
        IdPlace::PathParameter("jsessionid".to_owned()),
        IdPlace::Issued(defaults::issued("tidegate".to_owned())),
    ];
    SessionRules { sources: places.map(Source::of).to_vec(), ..defaults::session(&ServiceName::new("app")) }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_237_800)
}

fn asked(path: &str) -> Asked<'_> {
    Asked { target: Target { path, query: None }, host: HOST }
}

fn answer(lines: &[&str]) -> HeaderMap {
    lines.iter().map(|line| (SET_COOKIE, HeaderValue::from_str(line).unwrap())).collect()
}

fn scope(domain: &str, path: &str) -> Scope {
    Scope { domain: domain.to_owned(), path: path.to_owned() }
}

/// Id and scope of the cookie that these Set-Cookie lines open, and the scopes that they delete.
fn taught(lines: &[&str]) -> (Option<(String, Scope)>, Vec<Scope>) {
    let headers = answer(lines);
    let lesson = learn(&rules(), &asked("/app/page"), &headers, now());
    assert!(lesson.opened.iter().all(|opened| opened.source == 0));
    assert!(lesson.deleted.iter().all(|deleted| deleted.source == 0));
    let text = |id: Cow<'_, [u8]>| String::from_utf8(id.into_owned()).unwrap();
    (
        lesson.opened.map(|opened| (text(opened.id), opened.scope.unwrap())),
        lesson.deleted.into_iter().map(|deleted| deleted.scope).collect(),
    )
}

#[test]
fn cookies_that_open() {
    for (line, id, scope) in [
        ("JSESSIONID=1A; Path=/app; HttpOnly", "1A", scope("", "/app")),
        ("JSESSIONID=1A", "1A", scope("", "/app")),
        ("JSESSIONID=\"1A\"; path=/", "1A", scope("", "/")),
        ("JSESSIONID=1A; Path=/; Domain=.Example.com", "1A", scope("example.com", "/")),
        ("JSESSIONID=1A; Path=/; Domain=shop.example.com", "1A", scope("shop.example.com", "/")),
        ("JSESSIONID=1A; Expires=Thu, 01-Jan-2099 00:00:10 GMT", "1A", scope("", "/app")),
        ("JSESSIONID=1A; Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:10 GMT", "1A", scope("", "/app")),
        ("JSESSIONID=1A; Max-Age=soon; Path=", "1A", scope("", "/app")),
    ] {
        assert_eq!(taught(&[line]), (Some((id.to_owned(), scope)), vec![]), "{line}");
    }
}

#[test]
fn cookies_that_end() {
    for line in [
        "JSESSIONID=; Path=/app",
        "JSESSIONID=",
        "JSESSIONID=1A; Max-Age=0; Path=/app",
        "JSESSIONID=1A; Max-Age=-5; Path=/app",
        "JSESSIONID=\"\"; Path=/app",
        "JSESSIONID=1A; Path=/app; Expires=Thu, 01-Jan-1970 00:00:10 GMT",
        "JSESSIONID=1A; Path=/app; Expires=Thu, 01 Jan 1970 00:00:00 -0000",
    ] {
        assert_eq!(taught(&[line]), (None, vec![scope("", "/app")]), "{line}");
    }
}

#[test]
fn scopes_are_judged_one_by_one() {
    let new = |path: &str| Some(("new".to_owned(), scope("", path)));
    let lines = ["JSESSIONID=; Path=/", "JSESSIONID=new; Path=/", "JSESSIONID=; Path=/old"];
    assert_eq!(taught(&lines), (new("/"), vec![scope("", "/old")]));
    // The default path is the one of the first line.
    assert_eq!(taught(&["JSESSIONID=old; Path=/app", "JSESSIONID=new"]), (new("/app"), vec![]));
    assert_eq!(taught(&["JSESSIONID=old; Path=/app", "JSESSIONID="]), (None, vec![scope("", "/app")]));
    assert_eq!(taught(&["JSESSIONID=new", "JSESSIONID=new"]), (new("/app"), vec![]));
    // Browsers tell a cookie of the host alone from one of the domain of that name.
    let lines = ["JSESSIONID=new; Path=/", "JSESSIONID=; Path=/; Domain=shop.example.com"];
    assert_eq!(taught(&lines), (new("/"), vec![scope(HOST, "/")]));
    let lines = ["JSESSIONID=; Path=/; Domain=example.com", "JSESSIONID=new; Path=/"];
    assert_eq!(taught(&lines), (new("/"), vec![scope("example.com", "/")]));
    let lines = ["JSESSIONID=old; Path=/; Domain=example.com", "JSESSIONID=new; Path=/; Domain=.EXAMPLE.com"];
    assert_eq!(taught(&lines), (Some(("new".to_owned(), scope("example.com", "/"))), vec![]));
}

#[test]
fn other_cookies_teach_nothing() {
    let long = format!("JSESSIONID={}; Path=/app", "x".repeat(8 * 1_024));
    for line in [
        &long,
        "theme=dark",
        "jsessionid=1A",
        "XJSESSIONID=1A",
        "JSESSIONID",
        "JSESSIONID=1A; Domain=other.example",
        "JSESSIONID=; Domain=other.example",
        "tidegate=forged; Path=/",
        "tidegate=; Path=/",
    ] {
        assert_eq!(taught(&[line]), (None, vec![]), "{line}");
    }
}

#[test]
fn an_id_that_is_no_text_opens() {
    let mut headers = HeaderMap::new();
    headers.insert(SET_COOKIE, HeaderValue::from_bytes(b"JSESSIONID=\xc3\x28; x=\xff; Max-Age=0; Path=/").unwrap());
    headers.append(SET_COOKIE, HeaderValue::from_bytes(b"JSESSIONID=\xc3\x29; x=\xff; Path=/app").unwrap());
    let lesson = learn(&rules(), &asked("/"), &headers, now());
    assert_eq!(*lesson.opened.unwrap().id, *b"\xc3\x29");
    assert_eq!(lesson.deleted, [Deleted { source: 0, scope: scope("", "/") }]);
}

#[test]
fn headers_and_verdicts() {
    let mut headers = HeaderMap::new();
    headers.insert("x-session", HeaderValue::from_static("h0"));
    headers.append("x-session", HeaderValue::from_static(" h1 "));
    headers.insert(SESSION_FIELD, HeaderValue::from_static("New"));
    let lesson = learn(&rules(), &asked("/"), &headers, now());
    assert_eq!(lesson.opened, Some(Opened { source: 1, id: Cow::Borrowed(b"h1"), scope: None }));
    assert_eq!(lesson.verdict, Some(Verdict::New));
    headers.insert(SESSION_FIELD, HeaderValue::from_static("perhaps"));
    assert_eq!(learn(&rules(), &asked("/"), &headers, now()).verdict, None);
    for value in [String::new(), "x".repeat(LONGEST_ID + 1)] {
        headers.insert("x-session", HeaderValue::from_str(&value).unwrap());
        assert_eq!(learn(&rules(), &asked("/"), &headers, now()).opened, None);
    }
}

fn located(location: &str, asked: &Asked<'_>) -> Option<String> {
    let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(location).unwrap())]);
    let lesson = learn(&rules(), asked, &headers, now());
    assert!(lesson.deleted.is_empty());
    let opened = lesson.opened?;
    assert_eq!((opened.source, opened.scope), (2, None));
    Some(String::from_utf8(opened.id.into_owned()).unwrap())
}

#[test]
fn redirects_that_open() {
    for location in [
        "/cart;jsessionid=1A",
        "cart;jsessionid=1A?x=1",
        ";jsessionid=1A",
        "/cart;jsessionid=1A/more;x=y#top",
        "/cart;jsessionid=%31A",
        "/cart;jsessionid=00;jsessionid=1A;jsessionid=",
        "http://shop.example.com/;jsessionid=1A",
        "https://Shop.Example.com:8443/a:b;jsessionid=1A",
        "http://user:secret@shop.example.com./a;jsessionid=1A",
        "//shop.example.com/a;jsessionid=1A",
    ] {
        assert_eq!(located(location, &asked("/")).as_deref(), Some("1A"), "{location}");
    }
    let six = Asked { target: Target { path: "/", query: None }, host: "[::1]" };
    assert_eq!(located("http://[::1]:8080/;jsessionid=1A", &six).as_deref(), Some("1A"));
    assert_eq!(located("http://[::1]/;jsessionid=1A", &six).as_deref(), Some("1A"));
}

#[test]
fn redirects_that_teach_nothing() {
    let long = format!("/cart;jsessionid={}", "x".repeat(8 * 1_024));
    for location in [
        "/cart",
        "/cart?a;jsessionid=1A",
        "/cart#;jsessionid=1A",
        "/cart;JSESSIONID=1A",
        "/cart;jsessionid=",
        "http://other.example/;jsessionid=1A",
        "//other.example/;jsessionid=1A",
        "http://shop.example.com.other.example/;jsessionid=1A",
        "http://evil-shop.example.com/;jsessionid=1A",
        "http://shop.example.com.other.example/;jsessionid=1A",
        "http://evil-shop.example.com/;jsessionid=1A",
        "http://shop.example.com:x/;jsessionid=1A",
        "http://shop.example.com;jsessionid=1A",
        "http:/cart;jsessionid=1A",
        "ftp://shop.example.com/;jsessionid=1A",
        "javascript:go(';jsessionid=1A')",
        "",
        &long,
    ] {
        assert_eq!(located(location, &asked("/")), None, "{location}");
    }
    let nowhere = Asked { target: Target { path: "/", query: None }, host: "" };
    assert_eq!(located("http:///;jsessionid=1A", &nowhere), None);
}

#[test]
fn a_redirect_teaches_no_id_that_the_client_wrote() {
    let target = |path, query| Asked { target: Target { path, query }, host: HOST };
    for asked in [
        target("/cart;jsessionid=F0RGED", None),
        target("/cart;jsessionid=F%30RGED", None),
        target("/login", Some("to=/cart;jsessionid=F0RGED")),
        target("/login", Some("to=%2Fcart%3Bjsessionid%3DF0RG%45D")),
    ] {
        assert_eq!(located("/cart/;jsessionid=F0RGED", &asked), None, "{asked:?}");
        assert_eq!(located("/cart/;jsessionid=1A2B", &asked).as_deref(), Some("1A2B"), "{asked:?}");
    }
}

#[test]
fn a_redirect_teaches_only_where_nothing_else_does() {
    let mut headers = HeaderMap::new();
    headers.insert(LOCATION, HeaderValue::from_static("/cart;jsessionid=path"));
    headers.insert(SET_COOKIE, HeaderValue::from_static("JSESSIONID=cookie; Path=/"));
    let rules = SessionRules { sources: rules().sources.into_iter().rev().collect(), ..rules() };
    assert_eq!(*learn(&rules, &asked("/"), &headers, now()).opened.unwrap().id, *b"cookie");
    // A deleted cookie opens nothing.
    headers.insert(SET_COOKIE, HeaderValue::from_static("JSESSIONID=; Path=/"));
    let lesson = learn(&rules, &asked("/"), &headers, now());
    assert_eq!(*lesson.opened.unwrap().id, *b"path");
    assert_eq!(lesson.deleted, [Deleted { source: 3, scope: scope("", "/") }]);
}

#[test]
fn nothing_of_an_id_is_shown() {
    let headers = answer(&["JSESSIONID=5ecret; Path=/"]);
    let shown = format!("{:?}", learn(&rules(), &asked("/"), &headers, now()));
    assert!(shown.contains("opened") && !shown.contains("5ecret"), "{shown}");
    identify::candidates(&rules(), Target { path: "/;jsessionid=5ecret", query: None }, &headers, &mut |candidate| {
        assert_eq!(format!("{candidate:?}"), "Candidate { source: 2, .. }");
        ControlFlow::Continue(())
    });
}

fn comes_back(rules: &SessionRules, target: Target<'_>, request: &HeaderMap) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    identify::candidates(rules, target, request, &mut |candidate| {
        seen.push(candidate.id.into_owned());
        ControlFlow::Continue(())
    });
    seen
}

proptest! {
    #[test]
    fn what_a_cookie_teaches_comes_back(id in "[!#-+\\--:<-~]{1,60}", attributes in "(; ?[ -:<-~]{0,20}){0,4}") {
        let line = format!("JSESSIONID={id}{attributes}");
        let headers = answer(&[&line]);
        if let Some(opened) = learn(&rules(), &asked("/"), &headers, now()).opened {
            let mut request = HeaderMap::new();
            request.insert(COOKIE, HeaderValue::from_str(&format!("a=b; JSESSIONID={id}")).unwrap());
            prop_assert_eq!(comes_back(&rules(), Target { path: "/", query: None }, &request), vec![opened.id.to_vec()]);
        }
    }

    #[test]
    fn what_a_redirect_teaches_comes_back(id in prop::collection::vec(any::<u8>(), 1..60), folder in "(/[a-z]{1,4}){0,3}") {
        let location = format!("{folder}/x;jsessionid={}/y", percent_encode(&id, NON_ALPHANUMERIC));
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(&location).unwrap())]);
        let lesson = learn(&rules(), &asked("*"), &headers, now());
        // One letter can stand in what the client wrote by chance.
        if let Some(opened) = lesson.opened {
            prop_assert_eq!(opened.id.as_ref(), id.as_slice());
            let request = HeaderMap::new();
            prop_assert_eq!(comes_back(&rules(), Target { path: &location, query: None }, &request), vec![id]);
        } else {
            prop_assert_eq!(id, b"*".to_vec());
        }
    }

    #[test]
    fn no_head_is_too_strange(line in prop::collection::vec(32_u8..=255, 0..120), path in ".{0,30}", host in ".{0,30}") {
        prop_assume!(!line.contains(&127));
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_bytes(&line).unwrap());
        headers.insert(SET_COOKIE, HeaderValue::from_bytes(&[b"JSESSIONID=".as_slice(), &line].concat()).unwrap());
        let asked = Asked { target: Target { path: &path, query: Some(&host) }, host: &host };
        learn(&rules(), &asked, &headers, now());
        headers.remove(SET_COOKIE);
        learn(&rules(), &asked, &headers, now());
    }
}
