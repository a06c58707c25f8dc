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
