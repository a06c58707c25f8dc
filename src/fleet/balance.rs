//! Which backend of a generation takes a new session.

use crate::fleet::view::Placement;
use crate::ids::SessionHash;
use crate::sync::atomic::Ordering;

/// The less loaded of two backends drawn at random, by (open sessions + requests in flight) / weight.
///
/// Two draws avoid both the herd that "the least loaded" attracts and the unevenness of one draw. `None` without
/// backends. `draw(n)` gives a random number below `n`.
pub fn random_two(placements: &[Placement], mut draw: impl FnMut(usize) -> usize) -> Option<&Placement> {
    match placements {
        [] => None,
        [only] => Some(only),
        several => {
            let first = draw(several.len());
            let mut second = draw(several.len() - 1);
            if second >= first {
                second += 1;
            }
            let (one, other) = (&several[first], &several[second]);
            // Cross-multiplied, so that no division is needed; ties go to the first of the two draws.
            let heavier = load(one) * u128::from(other.weight) > load(other) * u128::from(one.weight);
            Some(if heavier { other } else { one })
        }
    }
}

fn load(placement: &Placement) -> u128 {
    let backend = &placement.backend;
    // One more than there is, so that weights count among idle backends as well.
    u128::from(backend.sessions.load(Ordering::Relaxed) + backend.load.requests() + 1)
}

/// The backend that an unknown id leads to: highest random weight over the keyed hash of the id, so that the id
/// stays at one backend without an entry and no client can choose which. `None` without backends.
pub fn rendezvous(placements: &[Placement], hash: SessionHash) -> Option<&Placement> {
    if let [only] = placements {
        return Some(only);
    }
    placements.iter().max_by(|one, other| score(one, hash).total_cmp(&score(other, hash)))
}

/// Weighted rendezvous: -weight / ln(u) with u uniform in (0, 1).
fn score(placement: &Placement, hash: SessionHash) -> f64 {
    let mixed = mix(hash, placement.backend.name.as_str());
    let uniform = ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(placement.weight) / uniform.ln()
}

/// FNV-1a over the name, started from the hash, finished by the splitmix64 finaliser. The hash is keyed already;
/// this has to spread, not to hide.
fn mix(hash: SessionHash, name: &str) -> u64 {
    let start = hash.0[0] ^ hash.0[1].rotate_left(32);
    let mut mixed = name.bytes().fold(start, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::config::model::{Address, SessionRules};
    use crate::fleet::backend::{Backend, Lifetimes, Load};
    use crate::fleet::ending::Ending;
    use crate::fleet::gate::Gate;
    use crate::ids::{BackendName, GenerationId, GenerationNumber, ServiceName, Slot};
    use crate::sync::atomic::AtomicU64;

    fn placement(index: u32, weight: u32, sessions: u64) -> Placement {
        let rules = SessionRules {
            sources: Vec::new(),
            idle_timeout: std::time::Duration::from_secs(1),
            max_age: None,
            rename_grace: std::time::Duration::from_secs(1),
            ..crate::config::defaults::session(&ServiceName::new("app"))
        };
        let backend = Backend {
            slot: Slot(index),
            generation: GenerationId { service: ServiceName::new("app"), number: GenerationNumber(1) },
            name: BackendName::new(&format!("10.0.0.{index}:80")),
            address: Address::Tcp { host: format!("10.0.0.{index}"), port: 80 },
            gate: Arc::new(Gate::new(Arc::new(|| {}))),
            ending: Arc::new(Ending::default()),
            lifetimes: Arc::new(Lifetimes::new(&rules)),
            sessions: AtomicU64::new(sessions),
            unconfirmed: AtomicU64::new(0),
            entries: AtomicU64::new(sessions),
            load: Load::new(1),
        };
        Placement { backend: Arc::new(backend), weight }
    }

    fn names(placements: &[Placement], hashes: &[[u64; 2]]) -> Vec<String> {
        let choose = |hash: &[u64; 2]| rendezvous(placements, SessionHash(*hash)).expect("a backend");
        hashes.iter().map(|hash| choose(hash).backend.name.to_string()).collect()
    }

    proptest! {
        #[test]
        fn rendezvous_moves_only_the_ids_of_a_lost_backend(
            count in 2_u32..12, lost in 0_usize..12, hashes in prop::collection::vec(any::<[u64; 2]>(), 1..64)
        ) {
            let all: Vec<Placement> = (0..count).map(|index| placement(index, 1, 0)).collect();
            let mut rest = all.clone();
            let gone = rest.remove(lost % rest.len()).backend.name.to_string();
            for (before, after) in names(&all, &hashes).into_iter().zip(names(&rest, &hashes)) {
                prop_assert!(before == after || before == gone);
            }
        }

        #[test]
        fn random_two_never_takes_the_heavier_of_its_two_draws(
            loads in prop::collection::vec((1_u32..8, 0_u64..1_000), 2..10), draws in any::<(usize, usize)>()
        ) {
            let placements: Vec<Placement> = loads
                .iter()
                .enumerate()
                .map(|(index, &(weight, sessions))| placement(index as u32, weight, sessions))
                .collect();
            let mut drawn = [draws.0, draws.1].into_iter();
            let mut seen = Vec::new();
            let chosen = random_two(&placements, |below| {
                let draw = drawn.next().expect("two draws") % below;
                seen.push(draw);
                draw
            });
            let second = if seen[1] >= seen[0] { seen[1] + 1 } else { seen[1] };
            let chosen = chosen.expect("a backend").backend.slot.index();
            prop_assert!(chosen == seen[0] || chosen == second);
            let other = if chosen == seen[0] { second } else { seen[0] };
            let ratio = |index: usize| (loads[index].1 + 1) as f64 / f64::from(loads[index].0);
            prop_assert!(ratio(chosen) <= ratio(other) + 1e-9);
        }
    }

    #[test]
    fn rendezvous_follows_weights() {
        let placements = [placement(0, 1, 0), placement(1, 3, 0)];
        let mut counts: HashMap<u32, u32> = HashMap::new();
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let hash = SessionHash([seed.rotate_left(17), seed ^ 0x9e37_79b9_7f4a_7c15]);
            *counts.entry(rendezvous(&placements, hash).expect("a backend").backend.slot.0).or_default() += 1;
        }
        let share = f64::from(counts[&1]) / 20_000.0;
        assert!((0.72..0.78).contains(&share), "three of four expected, {share} found");
    }

    #[test]
    fn nobody_to_choose_from() {
        assert!(random_two(&[], |_| 0).is_none());
        assert!(rendezvous(&[], SessionHash([1, 2])).is_none());
    }
}
