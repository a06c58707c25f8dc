//! Shares by weight, what a change moves, who is passed over: over backends that exist as counters only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::model::{Address, HashMethod, Hashing, KeyPlace};
use crate::fleet::backend::Ties;
use crate::fleet::gate::Gate;
use crate::ids::{BackendName, GenerationId, GenerationNumber, ServiceName};

const ALL: [Balance; 4] = [Balance::RandomTwo, Balance::RoundRobin, Balance::LeastSessions, Balance::LeastRequests];

fn backend(index: u32, address: Address) -> Backend {
    let service = ServiceName::new("app");
    let gate = Arc::new(Gate::new(Arc::new(|| {})));
    let ties = Ties::alone(gate, &crate::config::defaults::session(&service));
    let (generation, name) =
        (GenerationId { service, number: GenerationNumber(1) }, BackendName::new(&address.to_string()));
    Backend::new(Slot(index), generation, name, address, ties, 1)
}

fn placement(index: u32, weight: u32, sessions: u64) -> Placement {
    let backend = backend(index, Address::Tcp { host: format!("10.0.0.{index}"), port: 80 });
    backend.sessions.store(sessions, Ordering::Relaxed);
    Placement::new(Arc::new(backend), weight, None)
}

fn by_weights(weights: &[u32]) -> Vec<Placement> {
    weights.iter().zip(0..).map(|(&weight, index)| placement(index, weight, 0)).collect()
}

fn placements(list: Vec<Placement>, balance: &Balance) -> Placements {
    Placements::new(list, balance, None, &Turn::default())
}

fn random() -> impl FnMut() -> u64 {
    let mut rng = fastrand::Rng::with_seed(7);
    move || rng.u64(..)
}

/// How often each was chosen, by slot, when each choice opens a session that is used.
fn chosen(placements: &Placements, times: usize, now: u64) -> Vec<usize> {
    let mut random = random();
    let mut counts = vec![0; placements.list().len()];
    for _ in 0..times {
        let one = placements.choose(Wish::None, &[], now, &mut random).expect("a backend");
        one.backend.sessions.fetch_add(1, Ordering::Relaxed);
        counts[one.backend.slot.index()] += 1;
    }
    counts
}

fn names(list: &[Placement], hashes: &[[u64; 2]]) -> Vec<BackendName> {
    let placements = placements(list.to_vec(), &Balance::RandomTwo);
    let choose = |hash: &[u64; 2]| placements.choose(Wish::Hash(SessionHash(*hash)), &[], 0, &mut || 0);
    hashes.iter().map(|hash| choose(hash).expect("a backend").backend.name.clone()).collect()
}

proptest! {
    #[test]
    fn rendezvous_moves_only_the_hashes_of_a_lost_backend(
        weights in prop::collection::vec(1_u32..5, 2..12), lost in any::<prop::sample::Index>(),
        hashes in prop::collection::vec(any::<[u64; 2]>(), 1..64)
    ) {
        let all = by_weights(&weights);
        let mut rest = all.clone();
        let gone = rest.remove(lost.index(rest.len())).backend.name.clone();
        for (before, after) in names(&all, &hashes).into_iter().zip(names(&rest, &hashes)) {
            prop_assert!(before == after || before == gone);
        }
    }

    #[test]
    fn a_lost_backend_moves_its_share_of_the_hashes(count in 2_u32..20) {
        let all = by_weights(&vec![1; count as usize]);
        let mut next = random();
        let hashes: Vec<[u64; 2]> = (0..4_000).map(|_| [next(), next()]).collect();
        let (before, after) = (names(&all, &hashes), names(&all[1..], &hashes));
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count() as f64 / 4_000.0;
        prop_assert!((moved * f64::from(count) - 1.0).abs() < 0.3, "{moved} of the hashes moved, of {count} backends");
    }

    #[test]
    fn what_was_tried_is_not_chosen_again(
        weights in prop::collection::vec(1_u32..1_000, 1..9), kind in 0_usize..4, wish in 0..3, bits in any::<u64>()
    ) {
        let all = placements(by_weights(&weights), &ALL[kind]);
        let wish = [Wish::None, Wish::Hash(SessionHash([bits, !bits])), Wish::Crc32(bits as u32)][wish as usize];
        let mut random = random();
        let mut tried = Vec::new();
        while let Some(one) = all.choose(wish, &tried, 0, &mut random) {
            prop_assert!(!tried.contains(&one.backend.slot));
            tried.push(one.backend.slot);
        }
        prop_assert_eq!(tried.len(), weights.len());
    }

    #[test]
    fn every_rule_spreads_sessions_by_weight(weights in prop::collection::vec(1_u32..10, 2..8), kind in 0_usize..4) {
        let all = placements(by_weights(&weights), &ALL[kind]);
        let total: u32 = weights.iter().sum();
        for (count, weight) in chosen(&all, 20_000, 0).into_iter().zip(&weights) {
            let fair = 20_000.0 * f64::from(*weight) / f64::from(total);
            let ratio = count as f64 / fair;
            prop_assert!((0.85..1.15).contains(&ratio), "{ratio} of its share: {weights:?} by {}", ALL[kind]);
        }
    }
}

#[test]
fn random_two_goes_by_confirmed_sessions_and_requests_for_their_weight() {
    let choose = |list: &[Placement]| {
        let all = placements(list.to_vec(), &Balance::RandomTwo);
        let mut random = random();
        let slots: Vec<_> =
            (0..64).map(|_| all.choose(Wish::None, &[], 0, &mut random).expect("a backend").backend.slot.0).collect();
        if slots.iter().all(|slot| *slot == slots[0]) { Some(slots[0]) } else { None }
    };
    let list = [placement(0, 1, 10), placement(1, 1, 9)];
    assert_eq!(choose(&list), Some(1), "two draws of two are both of them");
    list[0].backend.unconfirmed.store(5, Ordering::Relaxed);
    assert_eq!(choose(&list), Some(0), "sessions that were seen once do not count");
    (0..6).for_each(|_| list[0].backend.load.request_began(0));
    assert_eq!(choose(&list), Some(1), "requests do");
    assert_eq!(choose(&[placement(0, 2, 19), placement(1, 1, 10)]), Some(0), "19 of weight 2 are less than 10 of 1");
    assert_eq!(choose(&[placement(0, 1, 3), placement(1, 1, 3)]), None, "equals take turns by chance");
}

#[test]
fn the_least_are_least_for_their_weight() {
    let list = vec![placement(0, 1, 5), placement(1, 3, 12), placement(2, 1, 6)];
    (0..2).for_each(|_| list[1].backend.load.request_began(0));
    list[2].backend.load.request_began(0);
    let choose = |balance| {
        let all = placements(list.clone(), &balance);
        all.choose(Wish::None, &[], 0, &mut random()).expect("a backend").backend.slot.0
    };
    assert_eq!(choose(Balance::LeastSessions), 1, "12 of weight 3");
    assert_eq!(choose(Balance::LeastRequests), 0, "none");
}

#[test]
fn many_backends_are_balanced_by_some_of_them() {
    let list: Vec<_> = (0..1_000).map(|index| placement(index, 1, u64::from(index >= 500))).collect();
    let all = placements(list, &Balance::LeastSessions);
    let busy: usize = chosen(&all, 300, 0)[500..].iter().sum();
    assert_eq!(busy, 0, "64 draws of which all are busy are as good as impossible");
}

#[test]
fn turns_follow_the_file_and_go_on_over_a_reload() {
    let turn = Turn::default();
    let round = |weights: &[u32]| {
        let all = Placements::new(by_weights(weights), &Balance::RoundRobin, None, &turn);
        let mut random = random();
        move |_| all.choose(Wish::None, &[], 0, &mut random).expect("a backend").backend.slot.0
    };
    assert_eq!((0..4).map(round(&[1, 1, 1])).collect::<Vec<_>>(), [0, 1, 2, 0]);
    assert_eq!((0..2).map(round(&[1, 1, 1])).collect::<Vec<_>>(), [1, 2], "not from the first again");
    assert_eq!((0..6).map(round(&[2, 1])).collect::<Vec<_>>(), [0, 1, 0, 0, 1, 0]);
}

#[test]
fn a_share_grows_with_time_and_moves_each_hash_once() {
    let list = || {
        let mut list = by_weights(&[1, 1]);
        list[1].grows_since = Some(1_000);
        list
    };
    let slow = Some(Duration::from_secs(100));
    for balance in ALL {
        let share = |now: u64| {
            let all = Placements::new(list(), &balance, slow, &Turn::default());
            // Without load, so that the rule itself would take either.
            let mut random = random();
            let new = (0..10_000)
                .filter(|_| all.choose(Wish::None, &[], now, &mut random).expect("a backend").backend.slot.0 == 1);
            new.count() as f64 / 10_000.0
        };
        let shares: Vec<f64> = [1_000, 26_000, 51_000, 101_000].into_iter().map(share).collect();
        assert!(shares[0] > 0.0 && shares[0] < 0.02, "{balance}: {shares:?}");
        assert!(shares.is_sorted() && (0.1..0.27).contains(&shares[1]), "{balance}: {shares:?}");
        assert!((0.2..0.52).contains(&shares[2]) && (0.45..0.55).contains(&shares[3]), "{balance}: {shares:?}");
    }
    let all = Placements::new(list(), &Balance::RandomTwo, slow, &Turn::default());
    let mut next = random();
    for _ in 0..200 {
        let wish = Wish::Hash(SessionHash([next(), next()]));
        let seen = |now: u64| all.choose(wish, &[], now, &mut || 0).expect("a backend").backend.slot.0;
        let way: Vec<u32> = (1_000..=101_000).step_by(5_000).map(seen).collect();
        assert!(way.is_sorted(), "it went to the new one and came back: {way:?}");
    }
    // Nobody could take what they would leave.
    let mut both = by_weights(&[1, 1]);
    both.iter_mut().for_each(|one| one.grows_since = Some(1_000));
    let all = Placements::new(both, &Balance::RoundRobin, slow, &Turn::default());
    assert_eq!(chosen(&all, 10, 1_000), [5, 5]);
}

#[test]
fn whoever_has_few_sessions_because_it_is_new_gets_no_more_than_its_share() {
    for balance in [Balance::RandomTwo, Balance::LeastSessions] {
        let mut list = vec![placement(0, 1, 100_000), placement(1, 1, 0)];
        list[1].grows_since = Some(0);
        let all = Placements::new(list, &balance, Some(Duration::from_secs(100)), &Turn::default());
        let new = chosen(&all, 10_000, 20_000)[1];
        assert!((1_700..2_300).contains(&new), "{balance}: {new} of 10,000 at a fifth of the time");
    }
}

#[test]
fn crc32_modulo_is_that_of_pomelo() {
    // What node prints for `crc.crc32(key)` of crc 0.2.0, whose results are signed, and for `Math.abs` of it.
    for (key, crc, absolute) in [
        ("1", -2_082_672_713_i32, 2_082_672_713_u32),
        ("42", 841_265_288, 841_265_288),
        ("10001", 12_275_155, 12_275_155),
        ("pomelo", 848_769_673, 848_769_673),
        ("room1", -462_210_518, 462_210_518),
    ] {
        assert_eq!(
            (crc32(key.as_bytes()).cast_signed(), crc32(key.as_bytes()).cast_signed().unsigned_abs()),
            (crc, absolute),
            "{key}"
        );
    }
    assert_eq!(crc32("é".as_bytes()), crc32fast::hash(&[0xe9]), "the low byte of a UTF-16 code unit");
    assert_eq!(crc32("中".as_bytes()), crc32fast::hash(&[0x2d]));
    assert_eq!(crc32(&[0xff, 0xfe]), crc32fast::hash(&[0xff, 0xfe]));
    let all = placements(by_weights(&[5, 1, 1]), &Balance::RandomTwo);
    let choose = |key: &str, tried: &[Slot]| {
        all.choose(Wish::Crc32(crc32(key.as_bytes())), tried, 0, &mut || 0).expect("a backend").backend.slot.0
    };
    let counts = (0..3_000).map(|uid| choose(&uid.to_string(), &[])).fold([0; 3], |mut counts, slot| {
        counts[slot as usize] += 1;
        counts
    });
    assert!(counts.iter().all(|count| (900..1_100).contains(count)), "weights count for nothing: {counts:?}");
    for (key, place) in [("4", 0), ("5", 0), ("9", 1), ("user1", 0), ("user4", 1)] {
        assert_eq!(choose(key, &[]), place, "{key}: not where it would be without the sign");
    }
    let first = choose("1", &[]);
    assert_eq!(choose("1", &[Slot(first)]), (first + 1) % 3, "the next in the file, if it cannot be reached");
}

#[test]
fn a_hash_without_its_key_is_balanced_like_random_two() {
    let balance = Balance::Hash(Hashing { key: KeyPlace::Client, method: HashMethod::Rendezvous });
    let all = placements(vec![placement(0, 1, 10), placement(1, 1, 0)], &balance);
    assert_eq!(chosen(&all, 5, 0), [0, 5]);
}

#[test]
fn rendezvous_follows_weights() {
    let list = by_weights(&[1, 3]);
    let mut next = random();
    let hashes: Vec<[u64; 2]> = (0..20_000).map(|_| [next(), next()]).collect();
    let mut counts: HashMap<BackendName, u32> = HashMap::new();
    for name in names(&list, &hashes) {
        *counts.entry(name).or_default() += 1;
    }
    let share = f64::from(counts[&list[1].backend.name]) / 20_000.0;
    assert!((0.72..0.78).contains(&share), "three of four expected, {share} found");
}

#[test]
fn unix_sockets_are_backends_like_others() {
    let unix = |index: u32| Address::Unix(format!("/run/app/{index}.sock").into());
    let list: Vec<_> = (0..3).map(|index| Placement::new(Arc::new(backend(index, unix(index))), 1, None)).collect();
    let mut next = random();
    let hashes: Vec<[u64; 2]> = (0..3_000).map(|_| [next(), next()]).collect();
    let seen = names(&list, &hashes);
    for one in &list {
        let share = seen.iter().filter(|name| **name == one.backend.name).count();
        assert!((850..1_150).contains(&share), "{share} of 3,000 to {}", one.backend.name);
    }
}

#[test]
fn nobody_to_choose_from() {
    for balance in ALL {
        let none = placements(Vec::new(), &balance);
        for wish in [Wish::None, Wish::Hash(SessionHash([1, 2])), Wish::Crc32(3)] {
            assert!(none.choose(wish, &[], 0, &mut || 0).is_none());
        }
    }
}
