//! Bytes of strangers, made harmless for a line of a log.

use std::ops::Range;

/// Stands for what was left out.
pub(super) const ELLIPSIS: &str = "…";

/// The text on one line: with blanks for control characters, by which it could write lines of its own into a log and speak
/// to terminals.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Appends `text` as the inside of a JSON string. Bytes that are no UTF-8 become U+FFFD.
pub(super) fn json(out: &mut Vec<u8>, text: &[u8]) {
    if all(text, is_clean) {
        out.extend_from_slice(text);
    } else {
        json_slowly(out, text);
    }
}

#[cold]
fn json_slowly(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                // C0, DEL and C1: a terminal that shows the log must not obey them. All are below U+0100.
                control if control.is_control() => {
                    out.extend_from_slice(b"\\u00");
                    hex(out, control as u8);
                }
                other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Appends `text` as the inside of a quoted field of the combined format: quotes, backslashes and whatever is not
/// printable ASCII become `\xHH`, as nginx writes them.
pub(super) fn combined(out: &mut Vec<u8>, text: &[u8]) {
    if all(text, is_clean) {
        out.extend_from_slice(text);
    } else {
        escape_where(out, text, |byte| !is_clean(byte));
    }
}

/// Like [`combined`], for a field without quotes around it: a space is escaped as well.
pub(super) fn combined_word(out: &mut Vec<u8>, text: &[u8]) {
    escape_where(out, text, |byte| !is_clean(byte) || byte == b' ');
}

fn escape_where(out: &mut Vec<u8>, text: &[u8], needed: impl Fn(u8) -> bool) {
    for &byte in text {
        if needed(byte) {
            hex_escape(out, byte);
        } else {
            out.push(byte);
        }
    }
}

fn hex_escape(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(b"\\x");
    hex(out, byte);
}

fn hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

/// Appends a number in decimal.
#[inline]
pub(super) fn decimal(out: &mut Vec<u8>, value: u64) {
    let length = value.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut digits = [0; 20];
    let mut rest = value;
    for digit in digits[..length].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // Twenty bytes are copied inline, a number of them known only at run time would be a call.
    out.extend_from_slice(&digits);
    out.truncate(out.len() - (digits.len() - length));
}

/// Appends a number below 256 in decimal.
#[inline]
pub(super) fn octet(out: &mut Vec<u8>, value: u8) {
    if value >= 100 {
        out.extend_from_slice(&[b'0' + value / 100, b'0' + value / 10 % 10, b'0' + value % 10]);
    } else if value >= 10 {
        out.extend_from_slice(&[b'0' + value / 10, b'0' + value % 10]);
    } else {
        out.push(b'0' + value);
    }
}

/// Printable ASCII but for quote and backslash. Written without branches, so that sixteen bytes are looked at together.
#[inline(always)]
fn is_clean(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\')
}

/// Whether `text` needs neither escaping nor masking; an answer of no means only that it has to be looked at closely.
#[inline]
pub(super) fn is_plain(text: &[u8]) -> bool {
    all(text, |byte| is_clean(byte) & (byte != b';') & (byte != b'%'))
}

/// Whether every byte satisfies `test`. The last block overlaps the one before rather than being walked byte by byte.
#[inline(always)]
fn all(text: &[u8], test: impl Fn(u8) -> bool + Copy) -> bool {
    if let Some(last) = text.last_chunk::<16>() {
        let (blocks, _) = text.as_chunks::<16>();
        return blocks.iter().all(|block| holds(block, test)) && holds(last, test);
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        return holds(first, test) & holds(last, test);
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        return holds(first, test) & holds(last, test);
    }
    text.iter().all(|&byte| test(byte))
}

/// One block; the sum without a way out in the middle is what the compiler turns into vector instructions.
#[inline(always)]
fn holds<const N: usize>(block: &[u8; N], test: impl Fn(u8) -> bool) -> bool {
    let mut failed = [0; N];
    for index in 0..N {
        failed[index] = u8::from(!test(block[index]));
    }
    failed == [0; N]
}

/// A part of a target or of a referrer, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// To be shown.
    Plain(&'a [u8]),
    /// A value that may be a session id.
    Masked,
}

/// Which query parameters may carry session ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters<'a> {
    /// Those of these names.
    Named(&'a [&'a str]),
    /// Whichever: nobody knows whose request it is.
    All,
}

impl Parameters<'_> {
    /// Whether there are any.
    pub(super) fn is_some(self) -> bool {
        self != Parameters::Named(&[])
    }

    fn hides(self, name: &[u8]) -> bool {
        match self {
            // A name can be percent-encoded itself; those who do so have something to hide.
            Parameters::Named(names) => name.contains(&b'%') || names.iter().any(|hidden| hidden.as_bytes() == name),
            Parameters::All => true,
        }
    }
}

/// Splits a target (or a whole URL) into what may be shown and values that may be session ids: that of every path
/// parameter (`;jsessionid=…`, its `;` and `=` percent-encoded or not, also when a URL is itself a query's value),
/// those of the query parameters that are `hidden`, and the `segment` of the path, given by its place. It hides too
/// much rather than too little.
pub(super) fn masked<'a>(
    text: &'a [u8],
    hidden: Parameters<'_>,
    segment: Option<&Range<usize>>,
    mut piece: impl FnMut(Piece<'a>),
) {
    let may_hide = hidden.is_some() && memchr::memchr(b'?', text).is_some();
    if segment.is_none() && !may_hide && memchr::memchr2(b';', b'%', text).is_none() {
        piece(Piece::Plain(text));
        return;
    }
    let mut shown = 0;
    let mut at = 0;
    while at < text.len() {
        if let Some(segment) = segment.filter(|segment| segment.start == at && segment.end > at) {
            piece(Piece::Plain(&text[shown..at]));
            piece(Piece::Masked);
            at = segment.end.min(text.len());
            shown = at;
            continue;
        }
        let (name_starts, is_parameter) = match text[at] {
            b'%' => (at + encoded(&text[at..], b'b').unwrap_or(1), encoded(&text[at..], b'b').is_some()),
            b';' => (at + 1, true),
            b'?' | b'&' => (at + 1, false),
            _ => {
                at += 1;
                continue;
            }
        };
        at = name_starts;
        let Some((name, value_starts)) = name(text, name_starts) else { continue };
        if is_parameter || hidden.hides(name) {
            piece(Piece::Plain(&text[shown..value_starts]));
            piece(Piece::Masked);
            shown = value_ends(text, value_starts);
            at = shown;
        }
    }
    if shown < text.len() {
        piece(Piece::Plain(&text[shown..]));
    }
}

/// The name that starts at `from` and the place behind its equals sign; `None` when it has no value.
fn name(text: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let mut at = from;
    loop {
        match *text.get(at)? {
            b'=' => return Some((&text[from..at], at + 1)),
            b'%' if encoded(&text[at..], b'd').is_some() => return Some((&text[from..at], at + 3)),
            b'%' if encoded(&text[at..], b'b').is_some() => return None,
            byte if ends_value(byte) => return None,
            _ => at += 1,
        }
    }
}

fn value_ends(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < text.len() {
        if ends_value(text[at]) || encoded(&text[at..], b'b').is_some() {
            break;
        }
        at += 1;
    }
    at
}

fn ends_value(byte: u8) -> bool {
    matches!(byte, b';' | b'/' | b'?' | b'&' | b'#')
}

/// The length of `%3x` at the start of `text`, `digit` being the second digit in lower case (`%3B` is `;`, `%3D` is `=`).
fn encoded(text: &[u8], digit: u8) -> Option<usize> {
    matches!(text, [b'%', b'3', found, ..] if found.to_ascii_lowercase() == digit).then_some(3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str, names: &[&str]) -> String {
        let mut out = String::new();
        masked(text.as_bytes(), Parameters::Named(names), None, |piece| match piece {
            Piece::Plain(bytes) => out.push_str(std::str::from_utf8(bytes).unwrap()),
            Piece::Masked => out.push_str(ELLIPSIS),
        });
        out
    }

    #[test]
    fn masks_what_may_be_a_session_id() {
        for (text, expected) in [
            ("/", "/"),
            ("", ""),
            ("/cart;jsessionid=ABC", "/cart;jsessionid=…"),
            ("/cart;jsessionid=ABC/items;v=2?x=1", "/cart;jsessionid=…/items;v=…?x=1"),
            ("/cart%3Bjsessionid%3dABC?x=1", "/cart%3Bjsessionid%3d…?x=1"),
            ("/a?next=%2Fcart%3bjsessionid=ABC&y=2", "/a?next=%2Fcart%3bjsessionid=…&y=2"),
            ("/a;b;c=1", "/a;b;c=…"),
            ("/a;b/c=1", "/a;b/c=1"),
            ("/a;=;b=", "/a;=…;b=…"),
            ("/100%;", "/100%;"),
            ("/%3", "/%3"),
            ("http://h/x;s=ABC#f", "http://h/x;s=…#f"),
        ] {
            assert_eq!(shown(text, &[]), expected, "{text}");
        }
    }

    #[test]
    fn masks_named_query_parameters() {
        assert_eq!(shown("/a?sid=1&b=2&sid=3", &["sid"]), "/a?sid=…&b=2&sid=…");
        assert_eq!(shown("/a?sid=1", &[]), "/a?sid=1");
        assert_eq!(shown("/a?side=1&b", &["sid"]), "/a?side=1&b");
        assert_eq!(shown("/sid=1", &["sid"]), "/sid=1");
    }

    #[test]
    fn masks_every_parameter_of_a_stranger_and_the_segment_of_an_id() {
        let shown = |text: &str, segment: Option<Range<usize>>| {
            let mut out = String::new();
            masked(text.as_bytes(), Parameters::All, segment.as_ref(), |piece| match piece {
                Piece::Plain(bytes) => out.push_str(std::str::from_utf8(bytes).unwrap()),
                Piece::Masked => out.push_str(ELLIPSIS),
            });
            out
        };
        assert_eq!(shown("/a?sid=1&b=2", None), "/a?sid=…&b=…");
        assert_eq!(shown("/kernels/abc/channels", Some(9..12)), "/kernels/…/channels");
        assert_eq!(shown("/kernels/abc", Some(9..99)), "/kernels/…");
    }

    proptest! {
        #[test]
        fn no_path_parameter_survives(prefix in "[a-z/%;=?&]{0,12}", name in "[a-zA-Z]{1,8}", secret in "[A-Z0-9]{8,40}", suffix in "[a-z/%;=?&#]{0,12}") {
            for (semicolon, equals) in [(";", "="), ("%3B", "="), ("%3b", "%3D"), (";", "%3d")] {
                let text = format!("{prefix}{semicolon}{name}{equals}{secret}{suffix}");
                prop_assert!(!shown(&text, &[]).contains(&secret), "{}", text);
            }
        }

        #[test]
        fn json_parses_back(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = vec![b'"'];
            json(&mut out, &bytes);
            out.push(b'"');
            let back: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes));
            prop_assert!(!out.iter().any(u8::is_ascii_control));
        }

        #[test]
        fn combined_is_printable_and_reversible(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for escape in [combined, combined_word] {
                let mut out = Vec::new();
                escape(&mut out, &bytes);
                prop_assert!(out.iter().all(|&byte| (0x20..0x7f).contains(&byte) && byte != b'"'));
                let text = std::str::from_utf8(&out).unwrap();
                let mut parts = text.split("\\x");
                let mut back = parts.next().unwrap().as_bytes().to_vec();
                for part in parts {
                    back.push(u8::from_str_radix(&part[..2], 16).unwrap());
                    back.extend_from_slice(&part.as_bytes()[2..]);
                }
                prop_assert_eq!(&back, &bytes);
            }
        }

        #[test]
        fn decimal_is_the_number(value: u64) {
            let mut out = Vec::new();
            decimal(&mut out, value);
            octet(&mut out, value as u8);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{value}{}", value as u8));
        }

        #[test]
        fn every_byte_is_looked_at(length in 1usize..70, place: prop::sample::Index, dirty in prop::sample::select(vec![0u8, 0x1f, b'"', b'\\', 0x7f, 0x80, 0xff])) {
            let mut text = vec![b'a'; length];
            prop_assert!(all(&text, is_clean) && is_plain(&text));
            text[place.index(length)] = dirty;
            prop_assert!(!all(&text, is_clean) && !is_plain(&text));
            text[place.index(length)] = b';';
            prop_assert!(all(&text, is_clean) && !is_plain(&text));
        }
    }
}
