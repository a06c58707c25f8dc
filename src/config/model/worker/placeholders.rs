//! Placeholders in texts: `{port}`, `{port.debug}`, `{generation}`. Who checks texts and who fills them take them apart by
//! the same function.

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Piece<'t> {
    /// Stands for itself, be it a brace with no placeholder behind it.
    Text(&'t str),
    /// `{{` or `}}`, and the brace for which it stands.
    Brace(&'t str),
    /// The name within the braces.
    Placeholder(&'t str),
}

/// Takes a text apart: a placeholder is a small letter and then small letters, digits, `_` and `.` within braces.
pub(in crate::config) fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, length) = first(rest)?;
        rest = &rest[length..];
        Some(piece)
    })
}

/// The piece with which a text begins, and its length; `None` at the end.
fn first(text: &str) -> Option<(Piece<'_>, usize)> {
    let brace = match text.find(['{', '}']) {
        _ if text.is_empty() => return None,
        None => return Some((Piece::Text(text), text.len())),
        Some(0) => &text[..1],
        Some(at) => return Some((Piece::Text(&text[..at]), at)),
    };
    let behind = &text[1..];
    if behind.starts_with(brace) {
        return Some((Piece::Brace(brace), 2));
    }
    let name = if brace == "{" { behind.split_once('}').map(|(name, _)| name) } else { None };
    match name.filter(|name| is_name(name)) {
        Some(name) => Some((Piece::Placeholder(name), name.len() + 2)),
        None => Some((Piece::Text(brace), 1)),
    }
}

fn is_name(text: &str) -> bool {
    let of_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.';
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(of_name)
}

/// Replaces each placeholder by its value. One that has none stays as it is; `{{` and `}}` become single braces; text that
/// a value brings in is not looked at again.
pub fn fill(text: &str, value: &dyn Fn(&str) -> Option<String>) -> String {
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) | Piece::Brace(text) => filled.push_str(text),
            Piece::Placeholder(name) => match value(name) {
                Some(value) => filled.push_str(&value),
                None => filled.extend(["{", name, "}"]),
            },
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(text: &str) -> String {
        fill(text, &|name| match name {
            "port" => Some("8801".to_owned()),
            "port.debug_2" => Some("{port}}}".to_owned()),
            "empty" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn texts_are_filled_once() {
        for (text, expected) in [
            ("", ""),
            ("--port={port}", "--port=8801"),
            ("{port}{port}-{empty}-", "88018801--"),
            ("{port.debug_2}", "{port}}}"),
            ("{{port}}", "{port}"),
            ("{{{port}}}", "{8801}"),
            ("{{{{port}}}}", "{{port}}"),
            ("{unknown}", "{unknown}"),
            ("{Port} {} { port } {1} {.a} {ä} {port", "{Port} {} { port } {1} {.a} {ä} {port"),
            ("{a{port}", "{a8801"),
            ("}{port}{", "}8801{"),
            ("{\"a\": [\"{port}\"]}", "{\"a\": [\"8801\"]}"),
            ("{\"a\":{\"b\":{port}}}", "{\"a\":{\"b\":8801}"),
        ] {
            assert_eq!(filled(text), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_text_without_braces_stays_as_it_is(text in "[^{}]{0,40}") {
            prop_assert_eq!(filled(&text), text);
        }

        #[test]
        fn doubled_braces_are_single_ones(text in "([{}a.ä\"]|port){0,20}") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(filled(&doubled), text);
        }

        /// Nothing of a text is lost, and nothing of it is taken twice.
        #[test]
        fn pieces_are_the_text(text in "([{}a.ä\"]|port){0,20}") {
            let whole: String = pieces(&text)
                .map(|piece| match piece {
                    Piece::Text(text) => text.to_owned(),
                    Piece::Brace(brace) => brace.repeat(2),
                    Piece::Placeholder(name) => format!("{{{name}}}"),
                })
                .collect();
            prop_assert_eq!(whole, text);
        }
    }
}
