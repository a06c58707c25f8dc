use proptest::prelude::*;

use super::*;
use crate::config::defaults;

fn key(byte: u8) -> SealingKey {
    SealingKey::from_bytes([byte; 32])
}

fn ring(first: u8, others: &[u8]) -> KeyRing {
    KeyRing::new(&SealingKeys { first: key(first), others: others.iter().copied().map(key).collect() })
}

fn ticket() -> Ticket {
    Ticket::new(GenerationNumber(7), mark(&BackendName::new("10.0.0.3:8808")), 1_000, Duration::from_secs(100))
}

#[test]
fn a_ring_is_shared_by_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<KeyRing>();
}

#[test]
fn the_first_key_seals_and_all_open() {
    let ticket = ticket();
    let value = ring(1, &[]).seal("app", &ticket);
    for ring in [ring(1, &[]), ring(1, &[2]), ring(2, &[1]), ring(3, &[2, 1])] {
        assert_eq!(ring.open("app", value.as_bytes()).as_ref(), Some(&ticket));
        assert_eq!(ring.seal("app", &ticket).len(), WRITTEN);
    }
    for ring in [ring(2, &[]), ring(2, &[3])] {
        assert_eq!(ring.open("app", value.as_bytes()), None);
    }
    let changed = ring(2, &[1]).seal("app", &ticket);
    assert_eq!(ring(1, &[]).open("app", changed.as_bytes()), None);
    assert_eq!(ring(2, &[]).open("app", changed.as_bytes()), Some(ticket));
}

#[test]
fn one_ticket_is_sealed_in_many_ways() {
    let (ring, ticket) = (ring(1, &[]), ticket());
    let values = [ring.seal("app", &ticket), ring.seal("app", &ticket)];
    assert_ne!(values[0], values[1]);
    // Of one key: what stands in front is its id.
    assert_eq!(values[0][..5], values[1][..5]);
}

#[test]
fn sealed_values_of_every_version_stay_readable() {
    // Written by another implementation of the format, with key 1; a change of the format has to go on reading it, or to say that sessions are lost by it.
    let value =
        "-1ZKVAABAgMEBQYHCAkKCxolixA-vntQIoVot-Q4eueZPKV2CFAVAMM0cdLQJdhhFLMLscox78sqA9YdrQseTnw4XRwTsPxvSg0UhDK5rrq_";
    let ticket = ring(1, &[]).open("app", value.as_bytes()).expect("the first version's value");
    assert_eq!((ticket.generation, ticket.issued, ticket.not_after), (GenerationNumber(7), 1_000, 1_100));
    assert_eq!((ticket.backend, ticket.id), (mark(&BackendName::new("10.0.0.3:8808")), *b"0123456789abcdef"));
}

#[test]
fn two_keys_of_one_id_are_both_tried() {
    let mut ring = ring(1, &[2]);
    let value = ring.seal("app", &ticket());
    ring.others[0].id = ring.first.id;
    std::mem::swap(&mut ring.first, &mut ring.others[0]);
    assert!(ring.open("app", value.as_bytes()).is_some());
}

#[test]
fn another_version_is_not_read_as_this_one() {
    let mut text = [0; PLAIN];
    let ticket = ticket();
    ticket.write(&mut text);
    assert_eq!(Ticket::read(&text), Some(ticket));
    text[0] = VERSION + 1;
    assert_eq!(Ticket::read(&text), None);
}

#[test]
fn a_ticket_is_renewed_at_half_life_and_stays_the_same_session() {
    let ticket = ticket();
    assert!(!ticket.wants_renewal(1_049) && ticket.wants_renewal(1_050));
    assert!(!ticket.is_expired(1_099) && ticket.is_expired(1_100));
    // A clock that goes back ends nothing.
    assert!(!ticket.wants_renewal(0) && !ticket.is_expired(0));
    let renewed = ticket.renewed(GenerationNumber(8), 1, 1_060, Duration::from_secs(100));
    assert_eq!((renewed.id, renewed.issued, renewed.not_after), (ticket.id, 1_060, 1_160));
    assert_eq!((renewed.generation, renewed.backend), (GenerationNumber(8), 1));
    let endless = Ticket::new(GenerationNumber(1), 0, 1, Duration::MAX);
    assert!(endless.not_after == u64::MAX && !endless.wants_renewal(1_000_000));
    assert_ne!(endless.id, ticket.id);
}

#[test]
fn nothing_secret_is_shown() {
    let ticket = Ticket { id: [0xab; 16], backend: 0xcdcd, ..ticket() };
    assert_eq!(
        format!("{ticket:?} {:?}", ring(1, &[2])),
        "Ticket { generation: GenerationNumber(7), issued: 1000, not_after: 1100, .. } KeyRing(2 keys)"
    );
}

#[test]
fn issued_cookies_as_the_file_wants_them() {
    let plain = defaults::issued("tidegate".to_owned());
    let field = |cookie: &IssuedCookie, tls| set_cookie(cookie, "AB_c-", tls).to_str().unwrap().to_owned();
    assert_eq!(field(&plain, false), "tidegate=AB_c-; Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(field(&plain, true), "tidegate=AB_c-; Path=/; HttpOnly; SameSite=Lax; Secure");
    let host = defaults::issued("__Host-t".to_owned());
    assert_eq!(field(&host, false), "__Host-t=AB_c-; Path=/; HttpOnly; SameSite=Lax; Secure");
    let never = IssuedCookie { secure: Secure::Never, same_site: SameSite::Strict, ..plain.clone() };
    assert_eq!(field(&never, true), "tidegate=AB_c-; Path=/; HttpOnly; SameSite=Strict");
    let always = IssuedCookie {
        secure: Secure::Always,
        same_site: SameSite::None,
        domain: Some("example.com".to_owned()),
        path: "/shop".to_owned(),
        ..plain
    };
    assert_eq!(
        field(&always, false),
        "tidegate=AB_c-; Path=/shop; HttpOnly; SameSite=None; Domain=example.com; Secure"
    );
}

fn tickets() -> impl Strategy<Value = Ticket> {
    any::<(u64, u64, u64, u64, [u8; 16])>().prop_map(|(generation, backend, issued, not_after, id)| Ticket {
        generation: GenerationNumber(generation),
        backend,
        issued,
        not_after,
        id,
    })
}

proptest! {
    #[test]
    fn what_is_sealed_is_what_is_opened(ticket in tickets(), space in ".{0,40}", other in ".{0,40}") {
        let ring = ring(1, &[]);
        let value = ring.seal(&space, &ticket);
        prop_assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        prop_assert_eq!(ring.open(&space, value.as_bytes()), Some(ticket.clone()));
        if space != other {
            prop_assert_eq!(ring.open(&other, value.as_bytes()), None);
        }
        ticket.wants_renewal(ticket.issued);
    }

    #[test]
    fn a_changed_value_opens_nothing(at in 0..WRITTEN, bit in 0..8, length in 0..WRITTEN, tail in "[A-Za-z0-9=_-]{1,4}") {
        let ring = ring(1, &[2]);
        let value = ring.seal("app", &ticket()).into_bytes();
        let mut flipped = value.clone();
        flipped[at] ^= 1_u8 << bit;
        prop_assert_eq!(ring.open("app", &flipped), None);
        prop_assert_eq!(ring.open("app", &value[..length]), None);
        prop_assert_eq!(ring.open("app", &value[WRITTEN - length..]), None);
        prop_assert_eq!(ring.open("app", &[&value, tail.as_bytes()].concat()), None);
    }

    #[test]
    fn every_bit_under_the_writing_counts(at in 0..SEALED, bit in 0..8) {
        let ring = ring(1, &[]);
        let mut sealed = URL_SAFE_NO_PAD.decode(ring.seal("app", &ticket())).unwrap();
        sealed[at] ^= 1_u8 << bit;
        prop_assert_eq!(ring.open("app", URL_SAFE_NO_PAD.encode(sealed).as_bytes()), None);
    }

    #[test]
    fn no_value_is_too_strange(value in prop::collection::vec(any::<u8>(), 0..200), written in "[A-Za-z0-9_-]{108}") {
        prop_assert_eq!(ring(1, &[2]).open("app", &value), None);
        prop_assert_eq!(ring(1, &[2]).open("app", written.as_bytes()), None);
    }
}
