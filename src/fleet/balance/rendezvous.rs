//! One backend for one hash: highest random weight. A change of the backends moves the hashes of those alone that
//! changed.

use super::Placement;
use crate::ids::SessionHash;

/// The placement with the highest weight / -ln(u), with u uniform in (0, 1) by hash and name. `weight` gives none for a
/// placement that may not be taken.
pub(super) fn choose(
    list: &[Placement],
    hash: SessionHash,
    weight: impl Fn(&Placement) -> Option<f64>,
) -> Option<&Placement> {
    let mut best: Option<&Placement> = None;
    let mut highest = 0.0;
    for placement in list {
        let Some(weight) = weight(placement) else { continue };
        let uniform = ((mix(hash, placement.seed) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        // -ln(u) is at least 1 - u: most are known to be lower without a logarithm.
        if best.is_some() && highest * (1.0 - uniform) >= weight {
            continue;
        }
        let score = -weight / uniform.ln();
        if best.is_none() || score > highest {
            (best, highest) = (Some(placement), score);
        }
    }
    best
}

/// FNV-1a of a name, finished.
pub(super) fn seed(name: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325;
    finish(name.bytes().fold(start, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The hash is keyed already; this has to spread, not to hide.
fn mix(hash: SessionHash, seed: u64) -> u64 {
    finish((hash.0[0] ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(hash.0[1]))
}

/// The finaliser of splitmix64.
fn finish(mut mixed: u64) -> u64 {
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
