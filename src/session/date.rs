//! Dates of cookies and of answers, as leniently as browsers read them.

use std::time::SystemTime;

/// Seconds since 1970 of a moment; negative before it.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

/// Reads a date by RFC 6265 section 5.1.1, in seconds since 1970. The three forms of HTTP's own dates (RFC 9110 section
/// 5.6.7) are among those that it takes, as are the dashes, short years and missing zones of old frameworks.
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(|byte| is_delimiter(*byte)).filter(|token| !token.is_empty()) {
        if time.is_none()
            && let Some(found) = time_of_day(token)
        {
            time = Some(found);
        } else if day.is_none()
            && let Some((found, _)) = number(token, 1..=2, true)
        {
            day = Some(found);
        } else if month.is_none()
            && let Some(found) = month_of(token)
        {
            month = Some(found);
        } else if year.is_none()
            && let Some((found, _)) = number(token, 2..=4, true)
        {
            year = Some(found);
        }
    }
    let (time, day, month) = (time?, day?, month?);
    let year = match year? {
        year @ 0..=69 => year + 2_000,
        year @ 70..=99 => year + 1_900,
        year => year,
    };
    if !(1..=31).contains(&day) || year < 1_601 {
        return None;
    }
    Some(days(year, month, day) * 86_400 + time)
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'/' | b';'..=b'@' | b'['..=b'`' | b'{'..=b'~')
}

/// `hh:mm:ss` in seconds, with anything but a digit behind it.
fn time_of_day(token: &[u8]) -> Option<i64> {
    let (hour, rest) = number(token, 1..=2, false)?;
    let (minute, rest) = number(rest.strip_prefix(b":")?, 1..=2, false)?;
    let (second, _) = number(rest.strip_prefix(b":")?, 1..=2, true)?;
    (hour <= 23 && minute <= 59 && second <= 59).then_some(hour * 3_600 + minute * 60 + second)
}

/// A number of so many digits and what stands behind it, which is no digit; a colon only where it is `last`.
fn number(token: &[u8], digits: std::ops::RangeInclusive<usize>, last: bool) -> Option<(i64, &[u8])> {
    let count = token.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (found, rest) = token.split_at(count);
    let is_part = digits.contains(&count) && (last || rest.starts_with(b":"));
    is_part.then(|| (found.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')), rest))
}

fn month_of(token: &[u8]) -> Option<i64> {
    const MONTHS: [&[u8; 3]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let start = token.get(..3)?;
    MONTHS.iter().position(|month| start.eq_ignore_ascii_case(*month)).map(|month| month as i64 + 1)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar: years begin in March, so that a leap day ends one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_as_servers_write_them() {
        for (text, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
            ("Sun, 6-nov-1994 8:49:37", 784_111_777),
            ("Thu, 01 Jan 1970 00:00:00 -0000", 0),
            ("Thu, 01-Jan-1970 00:00:10 GMT", 10),
            ("Thu, 29 Feb 2024 23:59:59 GMT", 1_709_251_199),
            ("Fri, 31-Dec-1999 23:59:59 GMT", 946_684_799),
            ("Mon, 01 Jan 1601 00:00:00 GMT", -11_644_473_600),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "0",
            "-1",
            "soon",
            "Thu, 01 Jan 1970",
            "Thu, 00 Jan 1970 00:00:00 GMT",
            "Thu, 01 Foo 1970 00:00:00 GMT",
            "Thu, 01 Jan 1970 24:00:00 GMT",
            "Thu, 01 Jan 1970 00:60:00 GMT",
            "Thu, 01 Jan 1600 00:00:00 GMT",
            "Thu, 01 Jan 19700 00:00:00 GMT",
            "Thu, 01 Jan 1970 000:00:00 GMT",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn days_follow_one_another(year in 1_601_i64..9_999, month in 1_i64..12) {
            let length = days(year, month + 1, 1) - days(year, month, 1);
            prop_assert!((28..=31).contains(&length));
            prop_assert_eq!(days(year + 1, 1, 1) - days(year, 12, 31), 1);
        }

        #[test]
        fn agrees_with_another_reader(seconds in 0_i64..4_000_000_000) {
            let written = jiff::Timestamp::from_second(seconds).expect("in range").strftime("%a, %d %b %Y %H:%M:%S GMT");
            prop_assert_eq!(parse(written.to_string().as_bytes()), Some(seconds));
        }

        #[test]
        fn no_text_is_too_strange(text in prop::collection::vec(any::<u8>(), 0..60), offset in any::<u32>()) {
            parse(&text);
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(offset.into());
            prop_assert_eq!(super::seconds(time), i64::from(offset));
        }
    }
}
