//! Time in a line: formatted once a second, copied for every line of that second.

use jiff::Timestamp;
use jiff::tz::Offset;

/// The last formatted second.
#[derive(Debug)]
pub(super) struct Stamp {
    /// The second of wall time that the texts show; `u64::MAX` before the first.
    second: u64,
    /// `2026-11-21T05:10:00.000Z`
    rfc3339: [u8; 24],
    /// `21/Nov/2026:05:10:00 +0000`
    common: [u8; 26],
}

impl Stamp {
    pub(super) fn new() -> Self {
        Self { second: u64::MAX, rfc3339: [0; 24], common: [0; 26] }
    }

    /// Appends milliseconds of wall time as RFC 3339 in UTC, with three digits behind the point.
    pub(super) fn rfc3339(&mut self, out: &mut Vec<u8>, wall_ms: u64) {
        self.turn_to(wall_ms / 1_000);
        let millis = (wall_ms % 1_000) as u16;
        for (digit, divisor) in self.rfc3339[20..23].iter_mut().zip([100, 10, 1]) {
            *digit = b'0' + (millis / divisor % 10) as u8;
        }
        out.extend_from_slice(&self.rfc3339);
    }

    /// Appends wall time in the form of the common log format, without brackets.
    pub(super) fn common(&mut self, out: &mut Vec<u8>, wall_ms: u64) {
        self.turn_to(wall_ms / 1_000);
        out.extend_from_slice(&self.common);
    }

    fn turn_to(&mut self, second: u64) {
        if self.second != second {
            self.format(second);
        }
    }

    #[cold]
    fn format(&mut self, second: u64) {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let time = i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
        let time = Offset::UTC.to_datetime(time.unwrap_or(Timestamp::MAX));
        let (year, month, day) = (time.year(), time.month(), time.day());
        let (hour, minute, seconds) = (time.hour(), time.minute(), time.second());
        let name = MONTHS[(month - 1) as usize];
        let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{seconds:02}.000Z");
        self.rfc3339.copy_from_slice(text.as_bytes());
        let text = format!("{day:02}/{name}/{year:04}:{hour:02}:{minute:02}:{seconds:02} +0000");
        self.common.copy_from_slice(text.as_bytes());
        self.second = second;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms() {
        let mut stamp = Stamp::new();
        let mut out = Vec::new();
        stamp.rfc3339(&mut out, 1_795_237_800_007);
        out.push(b'|');
        stamp.common(&mut out, 1_795_237_801_000);
        out.push(b'|');
        stamp.rfc3339(&mut out, 0);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2026-11-21T05:10:00.007Z|21/Nov/2026:05:10:01 +0000|1970-01-01T00:00:00.000Z"
        );
    }

    proptest! {
        #[test]
        fn any_moment_parses_back(seconds in prop::collection::vec(0u64..253_402_207_200, 1..4), millis in 0u64..1_000) {
            let mut stamp = Stamp::new();
            for second in seconds {
                let mut out = Vec::new();
                stamp.rfc3339(&mut out, second * 1_000 + millis);
                let back: Timestamp = String::from_utf8(out).unwrap().parse().unwrap();
                prop_assert_eq!(back.as_millisecond() as u64, second * 1_000 + millis);
            }
        }

        #[test]
        fn no_moment_panics(wall_ms: u64) {
            Stamp::new().rfc3339(&mut Vec::new(), wall_ms);
        }
    }
}
