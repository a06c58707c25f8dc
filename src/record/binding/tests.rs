use proptest::prelude::*;

use super::*;

fn hash() -> impl Strategy<Value = SessionHash> {
    // Few, so that facts meet.
    (0..12u64).prop_map(|id| SessionHash([id.wrapping_mul(0x9e37_79b9_7f4a_7c15), id]))
}

/// Any fact that a gateway appends about sessions on the slots 0 to 3 and the scopes 0 to 2.
pub(crate) fn session_fact() -> impl Strategy<Value = Fact> {
    let times = || (0..50u32, 0..50u32).prop_map(|(one, other)| (Seconds(one.min(other)), Seconds(one.max(other))));
    prop_oneof![
        4 => (hash(), 0..4u32, 0..3u32, times(), any::<bool>()).prop_map(
            |(hash, slot, scope, (opened, seen), confirmed)| Fact::Bound { hash, slot, scope, opened, seen, confirmed }
        ),
        1 => (hash(), 0..4u32, 0..3u32, times())
            .prop_map(|(hash, slot, scope, (at, _))| Fact::Former { hash, slot, scope, at }),
        1 => (hash(), hash(), 0..4u32, 0..3u32, times(), any::<bool>()).prop_map(
            |(former, hash, slot, scope, (opened, at), confirmed)| Fact::Renamed {
                former, hash, slot, scope, opened, at, confirmed
            }
        ),
        2 => hash().prop_map(|hash| Fact::Closed { hash }),
        2 => (hash(), times(), any::<bool>())
            .prop_map(|(hash, (_, seen), confirmed)| Fact::Touched { hash, seen, confirmed }),
        1 => (0..60u32).prop_map(|now| Fact::Time { now: Seconds(now) }),
    ]
}

fn any_fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        4 => session_fact(),
        1 => (any::<u32>(), "[a-z]{1,9}", any::<u64>(), ".{0,40}").prop_map(|(slot, service, number, backend)| {
            Fact::SlotNamed {
                slot,
                service: ServiceName::new(&service),
                generation: GenerationNumber(number),
                backend: BackendName::new(&backend),
            }
        }),
        1 => (any::<u32>(), ".{0,20}", ".{0,40}")
            .prop_map(|(scope, domain, path)| Fact::ScopeNamed { scope, domain, path }),
        1 => any::<u64>().prop_map(|records| Fact::End { records }),
        1 => any::<u32>().prop_map(|until| Fact::Unsure { until: Seconds(until) }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reads_back_what_was_written(fact in any_fact(), salt: u32) {
        let mut bytes = vec![0xaa];
        prop_assert!(encode(&fact, salt, &mut bytes));
        prop_assert_eq!(decode(&bytes[1..], salt), Frame::Whole(fact, bytes.len() - 1));
        prop_assert_eq!(decode(&bytes[1..], salt ^ 1), Frame::Damaged);
        for cut in 1..bytes.len() {
            prop_assert_eq!(decode(&bytes[1..cut], salt), Frame::Short);
        }
    }

    #[test]
    fn no_flipped_bit_goes_unseen(fact in any_fact(), salt: u32, place in any::<prop::sample::Index>(), bit in 0..8u32) {
        let mut bytes = Vec::new();
        prop_assert!(encode(&fact, salt, &mut bytes));
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        prop_assert!(matches!(decode(&bytes, salt), Frame::Damaged | Frame::Short));
    }
}

#[test]
fn unknown_kinds_are_passed_over_and_long_texts_are_not_written() {
    let mut bytes = Vec::new();
    assert!(encode(&Fact::Time { now: Seconds(4) }, 5, &mut bytes));
    bytes[6] = 77;
    let checksum = checksum(5, &bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(decode(&bytes, 5), Frame::Unknown(77, bytes.len()));
    for length in [PAYLOAD_LIMIT, usize::from(u16::MAX), 1 << 20] {
        let before = bytes.clone();
        let long = Fact::ScopeNamed { scope: 1, domain: "d".repeat(length), path: String::new() };
        assert!(!encode(&long, 5, &mut bytes));
        assert_eq!(bytes, before);
    }
}

#[test]
fn zeros_are_no_frames() {
    assert_eq!(decode(&[0; 64], 0), Frame::Damaged);
}
