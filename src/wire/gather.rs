//! Several buffers to one small write.

use std::io::IoSlice;

/// Bytes up to which buffers are copied together: a head and a small body. The copy costs less than what the kernel
/// does for a second buffer; above it, it is the other way round.
pub const SMALL: usize = 2_048;

/// Calls `write` with the only buffer there is, or with all of them copied into one if they are small together;
/// `None` if they are neither, so that they are worth a vectored write.
pub fn small<T>(bufs: &[IoSlice<'_>], write: impl FnOnce(&[u8]) -> T) -> Option<T> {
    if let [only] = bufs {
        return Some(write(only));
    }
    let mut together = [0_u8; SMALL];
    let mut length = 0;
    for buf in bufs {
        together.get_mut(length..length + buf.len())?.copy_from_slice(buf);
        length += buf.len();
    }
    Some(write(&together[..length]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_was_given(bufs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900), 0..5)) {
            let slices: Vec<_> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
            let all = bufs.concat();
            let written = small(&slices, <[u8]>::to_vec);
            if bufs.len() == 1 || all.len() <= SMALL {
                prop_assert_eq!(written, Some(all));
            } else {
                prop_assert_eq!(written, None);
            }
        }
    }
}
