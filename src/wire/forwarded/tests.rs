//! What reaches the next hop, by who the peer is and what it reports.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"];

fn trusted() -> Vec<IpNet> {
    vec!["10.0.0.0/8".parse().expect("a network"), "2001:db8:1::/48".parse().expect("a network")]
}

fn peer(address: &str, is_tls: bool) -> Peer {
    let local = SocketAddr::from(([192, 0, 2, 80], 8080));
    Peer::new(SocketAddr::new(address.parse().expect("an address"), 4711), local, is_tls, &trusted())
}

/// Applies and returns the client and the five fields, absent ones as "-".
fn applied(peer: &Peer, host: Option<&str>, lines: &[(&str, &str)]) -> (String, [String; 5]) {
    let mut headers = HeaderMap::new();
    for (name, text) in lines {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a name"),
            HeaderValue::from_str(text).expect("a value"),
        );
    }
    let host = host.map(|host| HeaderValue::from_str(host).expect("a value"));
    let client = peer.apply(&mut headers, host.as_ref(), &trusted());
    let fields = NAMES.map(|name| {
        let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.to_str().expect("text")).collect();
        assert!(lines.len() <= 1, "{name} stands on one line");
        lines.first().map_or("-".to_owned(), |line| (*line).to_owned())
    });
    (client.to_string(), fields)
}

fn fields(fields: [&str; 5]) -> [String; 5] {
    fields.map(str::to_owned)
}

#[test]
fn what_a_stranger_says_is_overwritten() {
    let lies = [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-for", "10.0.0.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "1"),
        ("forwarded", "for=10.0.0.1"),
    ];
    let (client, written) = applied(&peer("192.0.2.7", false), Some("example.com"), &lies);
    assert_eq!(client, "192.0.2.7");
    assert_eq!(
        written,
        fields(["for=192.0.2.7;host=example.com;proto=http", "192.0.2.7", "http", "example.com", "80"])
    );
    let (_, written) = applied(&peer("192.0.2.7", false), None, &lies);
    assert_eq!(written, fields(["for=192.0.2.7;proto=http", "192.0.2.7", "http", "-", "8080"]));

    let mut headers = HeaderMap::new();
    headers.insert("x-forwarded-prefix", HeaderValue::from_static("/evil"));
    headers.insert("x-real-ip", HeaderValue::from_static("10.0.0.1"));
    peer("192.0.2.7", false).apply(&mut headers, None, &trusted());
    assert!(!headers.contains_key("x-forwarded-prefix") && !headers.contains_key("x-real-ip"));
}

#[test]
fn ipv6_is_quoted_and_mapped_ipv4_is_unmapped() {
    let (client, written) = applied(&peer("2001:db8::7", true), Some("[2001:db8::1]:8443"), &[]);
    assert_eq!(client, "2001:db8::7");
    assert_eq!(
        written,
        fields([
            "for=\"[2001:db8::7]\";host=\"[2001:db8::1]:8443\";proto=https",
            "2001:db8::7",
            "https",
            "[2001:db8::1]:8443",
            "8443"
        ])
    );
    assert_eq!(applied(&peer("::ffff:192.0.2.7", true), Some("[::1]"), &[]).1[1], "192.0.2.7");
    assert_eq!(applied(&peer("::ffff:192.0.2.7", true), Some("[::1]"), &[]).1[4], "443");
    let (client, _) = applied(&peer("::ffff:10.0.0.1", false), None, &[("x-forwarded-for", "192.0.2.7")]);
    assert_eq!(client, "192.0.2.7", "a mapped address is in its IPv4 network");
}

#[test]
fn a_trusted_peer_is_appended_to_x_forwarded_for() {
    let lines = [
        ("x-forwarded-for", "198.51.100.1, 192.0.2.7"),
        ("x-forwarded-for", "10.0.0.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example.com"),
    ];
    let (client, written) = applied(&peer("10.0.0.1", false), Some("inner:8080"), &lines);
    assert_eq!(client, "192.0.2.7", "the last hop that is not trusted, not the first of the list");
    assert_eq!(
        written,
        fields([
            "for=198.51.100.1;host=shop.example.com;proto=https, for=192.0.2.7, for=10.0.0.9, for=10.0.0.1",
            "198.51.100.1, 192.0.2.7, 10.0.0.9, 10.0.0.1",
            "https",
            "shop.example.com",
            "443"
        ])
    );
}

#[test]
fn a_trusted_peer_is_appended_to_forwarded() {
    let forwarded = "For=\"[2001:db8::7]:4711\";Proto=https;host=\"shop.example.com:8443\";by=_x, for=_hidden";
    let (client, written) = applied(&peer("10.0.0.1", false), Some("inner"), &[("forwarded", forwarded)]);
    assert_eq!(client, "10.0.0.1", "an obfuscated hop ends the walk");
    assert_eq!(
        written,
        fields([
            &format!("{forwarded}, for=10.0.0.1;host=inner;proto=http"),
            "2001:db8::7, unknown, 10.0.0.1",
            "https",
            "shop.example.com:8443",
            "8443"
        ])
    );
    let agreeing = [("forwarded", "for=192.0.2.7;secret=\"a,b;c\""), ("x-forwarded-for", "192.0.2.7:1234")];
    let (client, written) = applied(&peer("10.0.0.1", false), None, &agreeing);
    assert_eq!(client, "192.0.2.7");
    assert_eq!(written[0], "for=192.0.2.7;secret=\"a,b;c\", for=10.0.0.1;proto=http");
    assert_eq!(written[1], "192.0.2.7:1234, 10.0.0.1");
}

#[test]
fn where_the_dialects_differ_x_forwarded_for_counts() {
    let lines = [("forwarded", "for=10.9.9.9;proto=https;host=evil"), ("x-forwarded-for", "192.0.2.7")];
    let (client, written) = applied(&peer("10.0.0.1", false), Some("a"), &lines);
    assert_eq!(client, "192.0.2.7");
    assert_eq!(
        written,
        fields(["for=192.0.2.7;host=a;proto=http, for=10.0.0.1", "192.0.2.7, 10.0.0.1", "http", "a", "80"])
    );
}

#[test]
fn what_a_trusted_peer_says_wrongly_is_overwritten() {
    let lines = [
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "a, b"),
        ("x-forwarded-port", "0"),
        ("forwarded", "for=\"192.0.2.7"),
    ];
    let (client, written) = applied(&peer("10.0.0.1", false), Some("a:81"), &lines);
    assert_eq!(client, "10.0.0.1");
    assert_eq!(written, fields(["for=10.0.0.1;host=\"a:81\";proto=http", "10.0.0.1", "http", "a:81", "81"]));
    let twice = [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http"), ("x-forwarded-for", "garbage")];
    let (client, written) = applied(&peer("10.0.0.1", true), Some("a"), &twice);
    assert_eq!(client, "10.0.0.1");
    assert_eq!(
        written,
        fields(["for=unknown;host=a;proto=https, for=10.0.0.1", "garbage, 10.0.0.1", "https", "a", "443"])
    );
}

#[test]
fn a_host_is_remembered_but_not_mistaken() {
    let peer = peer("192.0.2.7", false);
    for host in ["a", "b:81", "a", "a"] {
        assert_eq!(applied(&peer, Some(host), &[]).1[3], host);
    }
    assert_eq!(applied(&peer, None, &[]).1[4], "8080");
    assert_eq!(applied(&peer, Some("b:81"), &[]).1[4], "81");
}

proptest! {
    /// A chain that was written in one dialect is read back from both, whoever wrote it.
    #[test]
    fn chains_are_read_back(hops in prop::collection::vec(any::<IpAddr>(), 1..6)) {
        let list = hops.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
        let mut headers = HeaderMap::new();
        headers.insert(FOR, HeaderValue::from_str(&list).expect("a value"));
        peer("10.0.0.1", false).apply(&mut headers, None, &trusted());
        let expected: Vec<_> = hops.iter().map(|hop| Some(hop.to_canonical())).chain([Some("10.0.0.1".parse().expect("an address"))]).collect();
        prop_assert_eq!(chain::of_x_forwarded_for(&headers), Some(expected.clone()));
        let forwarded = chain::of_forwarded(&headers).expect("readable");
        prop_assert_eq!(forwarded.iter().map(|hop| hop.node).collect::<Vec<_>>(), expected);
    }

    /// Whatever stands in the fields, a stranger's address is the client's, and nothing panics for a trusted peer.
    #[test]
    fn no_field_makes_a_stranger_another(text in "[ -~]{0,40}", proto in "[ -~]{0,8}", forwarded in "(for|host|proto|=|;|,|\"|\\\\|1\\.2\\.3\\.4|x| ){0,12}") {
        let lines = [("x-forwarded-for", &*text), ("x-forwarded-proto", &*proto), ("forwarded", &*forwarded)];
        prop_assert_eq!(applied(&peer("192.0.2.7", false), None, &lines).0, "192.0.2.7");
        let (_, written) = applied(&peer("10.0.0.1", false), None, &lines);
        prop_assert!(written[1].ends_with("10.0.0.1") && written[0].contains("for=10.0.0.1"));
        prop_assert!(is_proto(written[2].as_bytes()));
    }
}
