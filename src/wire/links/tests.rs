use http::header::{self, HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;

fn authority(text: &str) -> Authority {
    Authority::parse(text.as_bytes()).unwrap()
}

/// `https://shop.example:8443/public` before `127.0.0.1:8807` with a prefix of its own.
fn links(public: &str, backend: &str) -> Links {
    Links {
        public: public.to_owned(),
        backend: backend.to_owned(),
        own: vec![authority("127.0.0.1:8807"), authority("app.internal")],
        known: vec![authority("shop.example:8443"), authority("gateway.test")],
        by_tls: true,
        told: Some(authority("app.internal")),
    }
}

fn reference(links: &Links, link: &str) -> String {
    links.reference(link.as_bytes()).map_or_else(|| link.to_owned(), |link| String::from_utf8(link).unwrap())
}

fn field(links: &Links, name: HeaderName, line: &str) -> String {
    let mut headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_str(line).unwrap())]);
    links.rewrite(&mut headers);
    headers[name].to_str().unwrap().to_owned()
}

#[test]
fn only_links_of_the_application_itself_are_rewritten() {
    let links = links("/app", "/app-8");
    for (link, expected) in [
        ("/app-8/cart", "/app/cart"),
        ("/app-8", "/app"),
        ("/app-8?x=/app-8", "/app?x=/app-8"),
        ("/app-8#top", "/app#top"),
        ("/app-8;jsessionid=A1?x", "/app;jsessionid=A1?x"),
        ("/app-8/cart;jsessionid=A1", "/app/cart;jsessionid=A1"),
        ("/app-80/cart", "/app-80/cart"),
        ("/app/cart", "/app/cart"),
        ("/", "/"),
        ("/other", "/other"),
        ("cart", "cart"),
        ("../cart", "../cart"),
        ("?page=2", "?page=2"),
        ("", ""),
        ("http://127.0.0.1:8807/app-8/cart?x", "/app/cart?x"),
        ("HTTP://App.Internal./app-8/", "/app/"),
        ("//app.internal/app-8/", "/app/"),
        ("http://127.0.0.1:8807", "/"),
        ("http://127.0.0.1:8807/other", "/other"),
        ("http://127.0.0.1:8808/app-8/", "http://127.0.0.1:8808/app-8/"),
        ("http://user@127.0.0.1:8807/app-8/", "http://user@127.0.0.1:8807/app-8/"),
        ("https://shop.example:8443/app-8/cart", "https://shop.example:8443/app/cart"),
        ("http://gateway.test:80/app-8/cart", "http://gateway.test:80/app/cart"),
        ("https://shop.example:8443/app/cart", "https://shop.example:8443/app/cart"),
        ("https://shop.example/app-8/cart", "https://shop.example/app-8/cart"),
        ("https://elsewhere.example/app-8/", "https://elsewhere.example/app-8/"),
        ("//elsewhere.example/app-8/", "//elsewhere.example/app-8/"),
        ("https://app.internal.elsewhere.example/app-8/", "https://app.internal.elsewhere.example/app-8/"),
        ("mailto:shop@app.internal", "mailto:shop@app.internal"),
        ("http:/app-8/cart", "http:/app-8/cart"),
    ] {
        assert_eq!(reference(&links, link), expected, "{link}");
    }
}

#[test]
fn a_stripped_prefix_comes_back_unless_it_is_there() {
    let links = links("/app", "");
    for (link, expected) in [
        ("/cart", "/app/cart"),
        ("/", "/app/"),
        ("/app/cart", "/app/cart"),
        ("/app", "/app"),
        ("/app?x", "/app?x"),
        ("/apple", "/app/apple"),
        ("http://127.0.0.1:8807", "/app/"),
        ("http://127.0.0.1:8807?x", "/app/?x"),
        ("https://shop.example:8443/cart", "https://shop.example:8443/app/cart"),
        ("//elsewhere.example/", "//elsewhere.example/"),
    ] {
        assert_eq!(reference(&links, link), expected, "{link}");
    }
}

#[test]
fn the_longer_of_two_prefixes_counts() {
    for (public, backend, link, expected) in [
        ("/app", "/app/v8", "/app/v8/x", "/app/x"),
        ("/app", "/app/v8", "/app/x", "/app/x"),
        ("/x/app", "/x", "/x/app/y", "/x/app/y"),
        ("/x/app", "/x", "/x/y", "/x/app/y"),
        ("/app", "/app", "/app/x", "/app/x"),
    ] {
        assert_eq!(reference(&links(public, backend), link), expected, "{link} from {backend} to {public}");
    }
}

#[test]
fn no_link_becomes_one_to_another_host() {
    let links = links("", "/app-8");
    for (link, expected) in [
        ("/app-8//evil.example/x", "/.//evil.example/x"),
        ("/app-8/\\evil.example", "/./\\evil.example"),
        ("/app-8/\t/evil.example", "/./\t/evil.example"),
        ("http://127.0.0.1:8807//evil.example", "/.//evil.example"),
        ("/app-8/x", "/x"),
        ("/app-8", "/"),
    ] {
        assert_eq!(reference(&links, link), expected, "{link}");
    }
}

#[test]
fn a_move_to_tls_stays_one() {
    let plain = Links { by_tls: false, ..links("/app", "") };
    assert_eq!(reference(&plain, "https://app.internal/cart"), "https://shop.example/app/cart");
    assert_eq!(reference(&plain, "http://app.internal/cart"), "/app/cart");
    assert_eq!(reference(&links("/app", ""), "https://app.internal/cart"), "/app/cart");
}

#[test]
fn who_asks_by_the_backends_address_gets_a_path() {
    let direct = Links { known: vec![authority("127.0.0.1:8807")], ..links("/app", "") };
    assert_eq!(reference(&direct, "http://127.0.0.1:8807/cart"), "/app/cart");
}

#[test]
fn cookies_get_the_public_path_and_host() {
    let (moved, stripped) = (links("/app", "/app-8"), links("/app", ""));
    for (links, line, expected) in [
        (&moved, "s=1; Path=/app-8; HttpOnly", "s=1; Path=/app; HttpOnly"),
        (&moved, "s=1;path=/app-8/", "s=1;path=/app/"),
        (&moved, "s=1; Path=/app-8/cart; Max-Age=0", "s=1; Path=/app/cart; Max-Age=0"),
        (&moved, "s=1; Path=/", "s=1; Path=/"),
        (&moved, "s=1; Path=/app-80", "s=1; Path=/app-80"),
        (&moved, "s=/app-8; HttpOnly", "s=/app-8; HttpOnly"),
        (&stripped, "s=1; Path=/", "s=1; Path=/app"),
        (&stripped, "s=1; Path=/cart", "s=1; Path=/app/cart"),
        (&stripped, "s=1; Path=/app", "s=1; Path=/app"),
        (&stripped, "s=1; Path=", "s=1; Path="),
        (&stripped, "s=1", "s=1"),
        (&stripped, "__Host-s=1; Secure; Path=/", "__Host-s=1; Secure; Path=/"),
        (&stripped, "__Secure-s=1; Secure; Path=/", "__Secure-s=1; Secure; Path=/app"),
        (&stripped, "s=1; Domain=app.internal; Path=/app", "s=1; Path=/app"),
        (&stripped, "s=1; Domain=.Internal", "s=1"),
        (&stripped, "s=1; Domain=example", "s=1; Domain=example"),
        (&stripped, "s=1; Domain=elsewhere.example", "s=1; Domain=elsewhere.example"),
    ] {
        assert_eq!(field(links, header::SET_COOKIE, line), expected, "{line}");
    }
    let root = links("", "/app-8");
    assert_eq!(field(&root, header::SET_COOKIE, "s=1; Path=/app-8"), "s=1; Path=/");
    let passed = Links { told: None, ..stripped };
    assert_eq!(field(&passed, header::SET_COOKIE, "s=1; Domain=app.internal"), "s=1; Domain=app.internal");
}

#[test]
fn refresh_is_read_as_browsers_do() {
    let links = links("/app", "");
    for (line, expected) in [
        ("5; url=/next", "5; url=/app/next"),
        ("0,URL = '/next' ", "0,URL = '/app/next' "),
        ("5;url=\"/next\"x", "5;url=\"/app/next\"x"),
        ("5; /next", "5; /app/next"),
        ("5", "5"),
        ("5; url=next", "5; url=next"),
        ("soon; url=/next", "soon; url=/next"),
        ("5; url=https://elsewhere.example/", "5; url=https://elsewhere.example/"),
    ] {
        assert_eq!(field(&links, header::REFRESH, line), expected, "{line}");
    }
}

#[test]
fn links_are_read_by_their_grammar() {
    let links = links("/app", "");
    for (line, expected) in [
        ("</a.css>; rel=preload", "</app/a.css>; rel=preload"),
        (
            "</a>; rel=next; title=\"</b>, \\\"c\", <https://cdn.example/x>;rel=y , </d>",
            "</app/a>; rel=next; title=\"</b>, \\\"c\", <https://cdn.example/x>;rel=y , </app/d>",
        ),
        ("<x>; anchor=\"/a\"; rel=up", "<x>; anchor=\"/app/a\"; rel=up"),
        ("<x>;Anchor = \"/a\"", "<x>;Anchor = \"/app/a\""),
        ("</a>, broken", "</a>, broken"),
        ("</a>; title=\"open", "</a>; title=\"open"),
        ("</a> x", "</a> x"),
        ("</a", "</a"),
        ("", ""),
    ] {
        assert_eq!(field(&links, header::LINK, line), expected, "{line}");
    }
}

#[test]
fn all_lines_are_rewritten_and_nothing_else() {
    let links = links("/app", "");
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("set-cookie", "a=1; Path=/"),
        ("set-cookie", "b=1; Path=/b"),
        ("location", "/x"),
        ("content-location", "/x.html"),
        ("x-location", "/x"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    links.rewrite(&mut headers);
    let cookies: Vec<_> = headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect();
    assert_eq!(cookies, ["a=1; Path=/app", "b=1; Path=/app/b"]);
    assert_eq!(
        ["location", "content-location", "x-location"].map(|name| headers[name].to_str().unwrap()),
        ["/app/x", "/app/x.html", "/x"]
    );
}

fn prefixes() -> impl Strategy<Value = (String, String)> {
    ("(/[a-c]{1,2}){0,2}", "(/[a-c]{1,2}){0,2}")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A path that clients ask for moves to the backend, which sends them to the very same place: they come back to where
    /// they were, unless the path repeats the public prefix and so looks like a public one, or the backend's would be
    /// read as a host.
    #[test]
    fn there_and_back_is_the_same((public, backend) in prefixes(), below in "(/[a-c;.]{0,3}){1,4}", query in "(\\?[a/]{0,3})?") {
        let links = links(&public, &backend);
        let there = format!("{backend}{below}{query}");
        let is_public = public.len() >= backend.len() && prefix::rest(format!("{backend}{below}").as_bytes(), public.as_bytes()).is_some();
        prop_assume!(!is_public && !there.starts_with("//"));
        let back = reference(&links, &there);
        let path = format!("{public}{below}{query}");
        prop_assert_eq!(back.strip_prefix("/.").filter(|_| path.starts_with("//")).unwrap_or(&back), path);
    }

    /// What has become public stays so, whoever looks at it next.
    #[test]
    fn rewriting_is_done_once((public, backend) in prefixes(), link in "(https?:)?(//(127.0.0.1:8807|app.internal|gateway.test|x.example))?(/[a-c;.]{0,3}){0,4}") {
        prop_assume!(public.len() >= backend.len());
        let links = links(&public, &backend);
        let once = reference(&links, &link);
        prop_assert_eq!(reference(&links, &once), once);
    }

    #[test]
    fn no_value_is_too_strange(line in prop::collection::vec(any::<u8>(), 0..60), (public, backend) in prefixes()) {
        let Ok(value) = HeaderValue::from_bytes(&line) else { return Ok(()) };
        let names = [header::LOCATION, header::CONTENT_LOCATION, header::REFRESH, header::LINK, header::SET_COOKIE];
        let mut headers = HeaderMap::from_iter(names.map(|name| (name, value.clone())));
        links(&public, &backend).rewrite(&mut headers);
        prop_assert_eq!(headers.len(), 5);
    }
}
