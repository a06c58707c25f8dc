//! The two loops that touch every byte of a head, eight or sixteen bytes at a time.
//!
//! They only find what is plainly in order; whatever else they meet is left to the exact checks of `lines`.

const WORD: usize = 8;
const BLOCK: usize = 2 * WORD;

/// A word with this byte at every place.
const fn every(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; WORD])
}

/// The length of the line that begins `bytes`, if it ends in CR LF and consists of visible ASCII and spaces before that.
#[inline]
pub(super) fn plain_line(bytes: &[u8]) -> Option<usize> {
    let end = first_unplain(bytes)?;
    (bytes[end] == b'\r' && bytes.get(end + 1) == Some(&b'\n')).then_some(end)
}

/// The index of the first byte that is neither visible ASCII nor a space.
#[inline]
fn first_unplain(bytes: &[u8]) -> Option<usize> {
    let (blocks, tail) = bytes.as_chunks::<BLOCK>();
    let mut at = 0;
    for block in blocks {
        // Without a way out, so that it compiles to vector instructions; as a signed number, a byte beyond ASCII is less
        // than a space too.
        if block.iter().fold(false, |found, &byte| found | ((byte as i8) < 0x20) | (byte == 0x7f)) {
            let bits = u128::from_le_bytes(*block);
            let (low, high) = (unplain_bits(bits as u64), unplain_bits((bits >> 64) as u64));
            let index = if low != 0 { low.trailing_zeros() } else { 64 + high.trailing_zeros() };
            return Some(at + index as usize / 8);
        }
        at += BLOCK;
    }
    tail.iter().position(|byte| !(0x20..0x7f).contains(byte)).map(|index| at + index)
}

/// The lowest bit that is set stands in the first unplain byte of a word; those above it mean nothing, for the subtractions
/// borrow from the bytes behind.
#[inline]
fn unplain_bits(word: u64) -> u64 {
    let below_space = word.wrapping_sub(every(0x20));
    let delete = (word ^ every(0x7f)).wrapping_sub(every(1));
    (below_space | delete | word) & every(0x80)
}

/// How many letters and hyphens `bytes` begins with, or fewer.
#[inline]
pub(super) fn leading_name(bytes: &[u8]) -> usize {
    let (words, _) = bytes.as_chunks::<WORD>();
    let mut length = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        // Sums of two 7-bit numbers: the eighth bit says whether the byte is at least something, and nothing is carried.
        let low = word & every(0x7f);
        let lower_case = low | every(0x20);
        let letter = (lower_case + every(0x80 - b'a')) & !(lower_case + every(0x7f - b'z'));
        let hyphen = !((low ^ every(b'-')) + every(0x7f));
        let other = !((letter | hyphen) & !word) & every(0x80);
        if other != 0 {
            return length + other.trailing_zeros() as usize / 8;
        }
        length += WORD;
    }
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mostly_plain() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![40 => 0x20u8..0x7f, 1 => any::<u8>(), 1 => Just(b'\r'), 1 => Just(b'\n')];
        prop::collection::vec(byte, 0..80)
    }

    #[test]
    fn every_byte_is_told_apart() {
        for byte in 0..=255 {
            for place in 0..40 {
                let mut bytes = [b'a'; 40];
                bytes[place] = byte;
                let is_plain = (0x20..0x7f).contains(&byte);
                assert_eq!(first_unplain(&bytes), (!is_plain).then_some(place), "{byte}");
                let is_name = byte.is_ascii_alphabetic() || byte == b'-';
                assert_eq!(leading_name(&bytes), if is_name { 40 } else { place }, "{byte}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_plain_line_ends_at_the_first_line_end(bytes in mostly_plain(), at in any::<prop::sample::Index>()) {
            let mut bytes = bytes;
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, *b"\r\n");
            let first = bytes.iter().position(|byte| !(0x20..0x7f).contains(byte));
            let expected = first.filter(|&first| bytes[first..].starts_with(b"\r\n"));
            prop_assert_eq!(plain_line(&bytes), expected);
        }
    }
}
