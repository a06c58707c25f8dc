//! What session ids cost a request: finding them, sealing and opening the gateway's own cookie, learning from an answer.
//!
//! `cargo bench --bench identify`. Heads are as browsers send them, with ids where each kind of source looks for them.

use std::borrow::Cow;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use http::header::{COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate::config::defaults;
use tidegate::config::model::{IdPlace, PathTemplate, SessionRules, Source};
use tidegate::ids::{BackendName, GenerationNumber, ServiceName};
use tidegate::session::caching::caching;
use tidegate::session::hash::HashKey;
use tidegate::session::identify::{self, Target};
use tidegate::session::learn::{self, Asked};
use tidegate::session::seal::{self, KeyRing, Ticket};
use tidegate::store::keys::{SealingKey, SealingKeys};

const ID: &str = "D4F1A09C5B7E4C0C9A3B1F62E8D7C6B5";

const NOW: u64 = 1_795_237_800;

fn rules(places: &[IdPlace]) -> SessionRules {
    let sources = places.iter().cloned().map(Source::of).collect();
    SessionRules { sources, ..defaults::session(&ServiceName::new("app")) }
}

fn places() -> [(&'static str, IdPlace); 6] {
    let template = PathTemplate { before: ["api", "kernels"].map(|part| Some(part.to_owned())).to_vec() };
    [
        ("cookie", IdPlace::Cookie("JSESSIONID".to_owned())),
        ("header", IdPlace::Header(HeaderName::from_static("mcp-session-id"))),
        ("path parameter", IdPlace::PathParameter("jsessionid".to_owned())),
        ("path segment", IdPlace::PathSegment(template)),
        ("query", IdPlace::Query("sid".to_owned())),
        ("issued cookie", IdPlace::Issued(defaults::issued("tidegate".to_owned()))),
    ]
}

fn ring() -> KeyRing {
    let keys = [7, 8].map(|byte| SealingKey::from_bytes([byte; 32]));
    let [first, former] = keys;
    KeyRing::new(&SealingKeys { first, others: vec![former] })
}

fn ticket() -> Ticket {
    let backend = seal::mark(&BackendName::new("10.0.0.3:8808"));
    Ticket::new(GenerationNumber(8), backend, NOW, Duration::from_secs(1_800))
}

/// A browser's request for a page, with these cookies at the end of its line.
fn request(cookies: &str) -> HeaderMap {
    let cookies = format!("_ga=GA1.1.1735689600.1795237800; consent=v2.all; theme=dark{cookies}");
    let fields = [
        ("host", "shop.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "https://shop.example.com/catalogue/shoes?page=3"),
        ("connection", "keep-alive"),
        ("cookie", &cookies),
        ("upgrade-insecure-requests", "1"),
        ("sec-fetch-dest", "document"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-site", "same-origin"),
        ("priority", "u=0, i"),
    ];
    let field = |(name, value): (&str, &str)| {
        (HeaderName::try_from(name).expect("a name"), HeaderValue::try_from(value).expect("a value"))
    };
    HeaderMap::from_iter(fields.map(field))
}

fn answer(more: &[(HeaderName, &'static str)]) -> HeaderMap {
    let fields = [
        ("date", "Sat, 21 Nov 2026 09:00:00 GMT"),
        ("content-type", "text/html;charset=UTF-8"),
        ("content-length", "5120"),
        ("content-language", "en"),
        ("vary", "Accept-Encoding"),
        ("cache-control", "no-cache"),
        ("x-frame-options", "SAMEORIGIN"),
        ("x-content-type-options", "nosniff"),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, HeaderValue::from_static(value));
    }
    for (name, value) in more {
        headers.append(name, HeaderValue::from_static(value));
    }
    headers
}

/// How many ids are seen.
fn look(rules: &SessionRules, target: Target<'_>, headers: &HeaderMap) -> usize {
    let mut seen = 0;
    identify::candidates(rules, target, headers, &mut |candidate| {
        black_box(&candidate);
        seen += 1;
        ControlFlow::Continue(())
    });
    seen
}

fn identification(criterion: &mut Criterion) {
    let sealed = ring().seal("app", &ticket());
    let mut with = request(&format!("; JSESSIONID={ID}; tidegate={sealed}"));
    with.insert("mcp-session-id", HeaderValue::from_static(ID));
    let without = request("; lang=en; cart=3");
    let parameter = format!("/shop/cart;jsessionid={ID}/items");
    let segment = format!("/api/kernels/{ID}/channels");
    let query = format!("page=3&sort=price&sid={ID}");
    let encoded = query.replace('F', "%46");
    let plain = Target { path: "/shop/catalogue/shoes", query: Some("page=3&sort=price") };

    let mut group = criterion.benchmark_group("identify");
    for (name, place) in places() {
        let target = match name {
            "path parameter" => Target { path: &parameter, query: None },
            "path segment" => Target { path: &segment, query: None },
            "query" => Target { path: plain.path, query: Some(&query) },
            _ => plain,
        };
        let rules = rules(&[place]);
        assert_eq!((look(&rules, target, &with), look(&rules, plain, &without)), (1, 0), "{name}");
        group.bench_function(format!("{name}, there"), |bencher| {
            bencher.iter(|| look(black_box(&rules), black_box(target), black_box(&with)))
        });
        group.bench_function(format!("{name}, not there"), |bencher| {
            bencher.iter(|| look(black_box(&rules), black_box(plain), black_box(&without)))
        });
    }
    let query_rules = rules(&[IdPlace::Query("sid".to_owned())]);
    let target = Target { path: plain.path, query: Some(&encoded) };
    assert_eq!(look(&query_rules, target, &with), 1);
    group.bench_function("query, percent-encoded", |bencher| {
        bencher.iter(|| look(black_box(&query_rules), black_box(target), black_box(&with)))
    });
    let all = rules(&places().map(|(_, place)| place));
    group.bench_function("all six sources, none there", |bencher| {
        bencher.iter(|| look(black_box(&all), black_box(plain), black_box(&without)))
    });
    let key = HashKey::from_bytes([7; 16]);
    group.bench_function("(the hash of one id)", |bencher| {
        bencher.iter(|| key.hash(black_box("app"), black_box(ID.as_bytes())))
    });
    let line = with.get(COOKIE).expect("a line of cookies").as_bytes();
    group.bench_function("take the issued cookie out of the line", |bencher| {
        bencher.iter(|| identify::without_cookie(black_box(line), black_box("tidegate")))
    });
    group.finish();
}

fn sealing(criterion: &mut Criterion) {
    let (ring, ticket) = (ring(), ticket());
    let value = ring.seal("app", &ticket);
    let foreign = {
        let keys = SealingKeys { first: SealingKey::from_bytes([9; 32]), others: vec![] };
        KeyRing::new(&keys).seal("app", &ticket)
    };
    let mut forged = value.clone();
    forged.replace_range(60..61, if &forged[60..61] == "A" { "B" } else { "A" });
    assert!(ring.open("app", value.as_bytes()).is_some() && ring.open("app", forged.as_bytes()).is_none());

    let mut group = criterion.benchmark_group("seal");
    group.bench_function("a new ticket", |bencher| {
        bencher.iter(|| Ticket::new(GenerationNumber(8), black_box(1), NOW, Duration::from_secs(1_800)))
    });
    group.bench_function("seal", |bencher| bencher.iter(|| ring.seal(black_box("app"), black_box(&ticket))));
    for (name, value) in [("open", &value), ("refuse a changed one", &forged), ("refuse a foreign one", &foreign)] {
        group.bench_function(name, |bencher| bencher.iter(|| ring.open(black_box("app"), black_box(value.as_bytes()))));
    }
    let cookie = defaults::issued("tidegate".to_owned());
    group.bench_function("write the field", |bencher| {
        bencher.iter(|| seal::set_cookie(black_box(&cookie), black_box(&value), true))
    });
    let headers = answer(&[]);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    group.bench_function("ask whether an answer may take it", |bencher| {
        bencher.iter(|| caching(StatusCode::OK, black_box(&headers), now))
    });
    group.finish();
}

fn learning(criterion: &mut Criterion) {
    let rules = rules(&[places()[0].1.clone(), places()[2].1.clone()]);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let asked = Asked { target: Target { path: "/shop/login", query: None }, host: "shop.example.com" };
    let mut group = criterion.benchmark_group("learn");
    let cookie = "JSESSIONID=D4F1A09C5B7E4C0C9A3B1F62E8D7C6B5; Path=/shop; Secure; HttpOnly";
    let dated = "JSESSIONID=; Path=/shop; Max-Age=0; Expires=Thu, 01-Jan-1970 00:00:10 GMT";
    let redirect = "https://shop.example.com/shop/cart;jsessionid=D4F1A09C5B7E4C0C9A3B1F62E8D7C6B5";
    for (name, more, id) in [
        ("an answer without Set-Cookie", vec![], None),
        ("an answer that sets other cookies", vec![(SET_COOKIE, "theme=dark"), (SET_COOKIE, "lang=en")], None),
        ("an answer that sets the session", vec![(SET_COOKIE, cookie)], Some(ID)),
        ("an answer that deletes it", vec![(SET_COOKIE, dated)], None),
        ("a redirect with its id", vec![(LOCATION, redirect)], Some(ID)),
    ] {
        let headers = answer(&more);
        let opened = learn::learn(&rules, &asked, &headers, now).opened;
        assert_eq!(opened.map(|opened| opened.id), id.map(|id| Cow::Borrowed(id.as_bytes())), "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| learn::learn(black_box(&rules), black_box(&asked), black_box(&headers), now))
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).measurement_time(Duration::from_millis(1_500)).warm_up_time(Duration::from_millis(500));
    targets = identification, sealing, learning
}
criterion_main!(benches);
