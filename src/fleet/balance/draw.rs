//! Drawing by weight at the same cost for any number of backends: Walker's alias method, as Vose builds it.

use super::Placement;

/// Places by weight. Empty where all weights are the same.
#[derive(Debug)]
pub(super) struct Draw {
    columns: Vec<Column>,
    count: usize,
}

/// One of as many equal columns as there are places: below the threshold it stands for its own place, above for another.
#[derive(Clone, Copy, Debug)]
struct Column {
    threshold: u32,
    other: u32,
}

impl Draw {
    pub(super) fn new(list: &[Placement]) -> Self {
        let count = list.len();
        let is_even = list.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        Self { columns: if is_even { Vec::new() } else { columns(list) }, count }
    }

    /// A place, by 64 random bits. There has to be one.
    pub(super) fn place(&self, random: u64) -> usize {
        let place = below(random, self.count);
        match self.columns.get(place) {
            // The low half: the high one has chosen the column.
            Some(column) if random as u32 >= column.threshold => column.other as usize,
            _ => place,
        }
    }
}

/// A number below `count`, which is less than four billion, by the high half of 64 random bits.
pub(super) fn below(random: u64, count: usize) -> usize {
    (((random >> 32) * count as u64) >> 32) as usize
}

fn columns(list: &[Placement]) -> Vec<Column> {
    let total: u64 = list.iter().map(|placement| u64::from(placement.weight)).sum();
    let count = list.len() as u64;
    // Each column holds `total`; what a place has of it is its weight times the number of columns.
    let mut left: Vec<u64> = list.iter().map(|placement| u64::from(placement.weight) * count).collect();
    let mut columns: Vec<Column> =
        (0..list.len()).map(|place| Column { threshold: u32::MAX, other: index(place) }).collect();
    let (mut short, mut tall): (Vec<usize>, Vec<usize>) = (0..list.len()).partition(|&place| left[place] < total);
    while let (Some(low), Some(&high)) = (short.pop(), tall.last()) {
        let part = u128::from(left[low]) << 32;
        columns[low] = Column { threshold: (part / u128::from(total)) as u32, other: index(high) };
        left[high] -= total - left[low];
        if left[high] < total {
            tall.pop();
            short.push(high);
        }
    }
    columns
}

fn index(place: usize) -> u32 {
    u32::try_from(place).expect("fewer than four billion backends")
}
