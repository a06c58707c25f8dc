//! A source file, and the same without what does not count: comments, texts, tests.

/// One file of the house.
pub(crate) struct Source {
    /// From the package's folder, with `/`.
    pub(crate) path: String,
    /// As it stands.
    pub(crate) text: String,
    /// Without comments and without the insides of literals. Lines keep their numbers.
    pub(crate) code: String,
    /// [`Source::code`] without `#[cfg(test)]` modules; nothing at all for a file of tests.
    pub(crate) shipped: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = without_literals(text);
        let is_test = !path.starts_with("src/") || path.ends_with("/tests.rs") || path.contains("/tests/");
        let shipped = if is_test { blank(&code) } else { without_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, shipped }
    }

    /// The room to which a file under `src` belongs.
    pub(crate) fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        Some(inside.split_once('/').map_or_else(|| inside.trim_end_matches(".rs"), |(room, _)| room))
    }

    /// Whether it is the file with which its room opens.
    pub(crate) fn opens_room(&self) -> bool {
        self.path.strip_prefix("src/").is_some_and(|inside| match inside.split_once('/') {
            None => !matches!(inside, "main.rs" | "lib.rs"),
            Some((_, file)) => file == "mod.rs",
        })
    }

    /// The `//!` lines at its top, without these three characters.
    pub(crate) fn header(&self) -> Vec<&str> {
        self.text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect()
    }

    /// Line numbers, from 1, on which `word` stands in `code` with no name's character on either side of it.
    pub(crate) fn lines_with<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        code.lines().enumerate().filter(move |(_, line)| has_word(line, word)).map(|(index, _)| index + 1)
    }
}

fn is_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_name);
        let after = line[at + word.len()..].chars().next().is_some_and(is_name);
        !(before && word.starts_with(is_name) || after && word.ends_with(is_name))
    })
}

fn blank(code: &str) -> String {
    code.chars().map(|char| if char == '\n' { '\n' } else { ' ' }).collect()
}

/// Blanks every `#[cfg(test)]` (or `cfg(all(test, …))`) item that has a body; one without is a file of its own.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    for mark in ["#[cfg(test)]", "#[cfg(all(test"] {
        let mut from = 0;
        while let Some(found) = out[from..].find(mark) {
            let start = from + found;
            let end = item_end(&out, start + mark.len());
            let item = blank(&out[start..end]);
            out.replace_range(start..end, &item);
            from = end;
        }
    }
    out
}

/// The place behind the item that begins at `from`: its closing brace, or its semicolon if no brace comes first.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (at, char) in code[from..].char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth <= 1 => return from + at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Replaces comments and the insides of literals by spaces.
fn without_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if char == '"' {
            quoted(rest)
        } else if char == '\'' {
            character(rest)
        } else if char == 'r' && !out.ends_with(is_name_or_byte) {
            raw(rest)
        } else {
            0
        };
        if length == 0 {
            out.push(char);
            rest = &rest[char.len_utf8()..];
        } else {
            out.push_str(&blank(&rest[..length]));
            rest = &rest[length..];
        }
    }
    out
}

/// A name's character, but for the `b` of `br"…"`.
fn is_name_or_byte(char: char) -> bool {
    is_name(char) && char != 'b'
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn quoted(text: &str) -> usize {
    let mut escaped = true;
    for (at, char) in text.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; zero for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => chars.find(|(_, char)| *char == '\'').map_or(0, |(at, _)| at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// The length of `r"…"` or `r#"…"#`; zero for anything else that begins with an r.
fn raw(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|&byte| byte == b'#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let from = 2 + hashes;
    text[from..].find(&end).map_or(text.len(), |at| from + at + end.len())
}
