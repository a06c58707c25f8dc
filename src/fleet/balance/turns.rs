//! Taking turns: each backend as often as its weight says, its turns spread over the round.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::Placement;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Turns of one round at most; beyond it weights are rounded, to one turn at least.
const MOST_TURNS: u64 = 65_536;

/// How many turns a generation has given. All threads count on it, so that the turns are fair over all of them; it is
/// written once for a new session, as the gate is.
#[derive(Clone, Debug, Default)]
pub struct Turn(Arc<AtomicU64>);

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    /// Places in their order. Empty where all weights are the same: then they follow one another.
    order: Vec<u32>,
    count: u64,
    turn: Turn,
}

impl Turns {
    pub(super) fn new(list: &[Placement], turn: &Turn) -> Self {
        let weights: Vec<u64> = list.iter().map(|placement| u64::from(placement.weight)).collect();
        let order = if weights.windows(2).all(|pair| pair[0] == pair[1]) { Vec::new() } else { order(&short(weights)) };
        let count = if order.is_empty() { list.len() } else { order.len() };
        Self { order, count: count.max(1) as u64, turn: turn.clone() }
    }

    /// Takes the next turn: a place. There has to be one.
    pub(super) fn next(&self) -> usize {
        let turn = (self.turn.0.fetch_add(1, Ordering::Relaxed) % self.count) as usize;
        self.order.get(turn).map_or(turn, |&place| place as usize)
    }
}

/// The same ratios in the shortest round.
fn short(mut weights: Vec<u64>) -> Vec<u64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let total: u64 = weights.iter().sum::<u64>() / divisor;
    for weight in &mut weights {
        *weight /= divisor;
        if total > MOST_TURNS {
            *weight = (*weight * MOST_TURNS / total).max(1);
        }
    }
    weights
}

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// One round. Each turn goes to the place whose next turn is due first among those that are not ahead of their share:
/// after any number of turns each has had its share of them, give or take less than one.
fn order(weights: &[u64]) -> Vec<u32> {
    let total: u64 = weights.iter().sum();
    // The turns of a place of weight w cut the round into w equal parts, and each has to be taken within its own.
    let mut opens: Vec<Vec<u32>> = vec![Vec::new(); total as usize];
    let mut taken = vec![0_u64; weights.len()];
    opens[0] = (0..weights.len()).filter_map(|place| u32::try_from(place).ok()).collect();
    let mut due: BinaryHeap<Reverse<(u64, u64, u32)>> = BinaryHeap::new();
    let mut order = Vec::with_capacity(total as usize);
    for turn in 0..total {
        for place in std::mem::take(&mut opens[turn as usize]) {
            let weight = weights[place as usize];
            // Rounded up: the last turn that begins before its part ends.
            let end = ((taken[place as usize] + 1) * total).div_ceil(weight);
            // Of two that are due at once, the one that waits for longer.
            due.push(Reverse((end, turn, place)));
        }
        let Some(Reverse((.., place))) = due.pop() else { continue };
        order.push(place);
        taken[place as usize] += 1;
        let next = (taken[place as usize] * total) / weights[place as usize];
        // Rounded down, and not before the turn that is over.
        if taken[place as usize] < weights[place as usize]
            && let Some(opened) = opens.get_mut(next.max(turn + 1) as usize)
        {
            opened.push(place);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn turns_are_spread_over_the_round() {
        assert_eq!(order(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(order(&[2, 1]), [0, 1, 0]);
        assert_eq!(order(&[5, 1, 1]).iter().filter(|place| **place == 0).count(), 5);
        assert_eq!(short(vec![4, 2, 6]), [2, 1, 3]);
        assert_eq!(short(vec![1_000_000, 1]), [65_535, 1]);
    }

    proptest! {
        #[test]
        fn nobody_is_a_whole_turn_ahead_or_behind(weights in prop::collection::vec(1_u64..40, 1..12)) {
            let total: u64 = weights.iter().sum();
            let order = order(&weights);
            prop_assert_eq!(order.len() as u64, total);
            let mut taken = vec![0_u64; weights.len()];
            for (turn, place) in order.iter().enumerate() {
                taken[*place as usize] += 1;
                for (taken, weight) in taken.iter().zip(&weights) {
                    let fair = weight * (turn as u64 + 1);
                    prop_assert!((taken * total).abs_diff(fair) < total, "{:?} after {} turns: {:?}", weights, turn + 1, order);
                }
            }
            prop_assert_eq!(taken, weights);
        }
    }
}
