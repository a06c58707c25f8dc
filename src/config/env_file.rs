//! A file of variables: the part of systemd's `EnvironmentFile` on which Docker Compose agrees. Where the two read the
//! same line differently, it is refused.

use std::ops::Range;

use super::variables::is_name;

/// One line that sets a variable.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
    /// Counted from 1.
    pub(super) line: usize,
    /// Where the name stands.
    pub(super) span: Range<usize>,
}

/// A line that sets nothing. Neither text holds any of the value, which may be a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// Reads all lines. Blank ones and those that begin with `#` or `;` say nothing.
pub(super) fn read(text: &str) -> Vec<Result<Setting, BadLine>> {
    let (mut lines, mut offset) = (Vec::new(), 0);
    for (index, line) in text.split('\n').enumerate() {
        let content = line.trim();
        let start = offset + (line.len() - line.trim_start().len());
        offset += line.len() + 1;
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        let name = content.split('=').next().unwrap_or_default();
        let span = start..start + name.len();
        let setting = setting(content, name);
        lines.push(match setting {
            Ok(value) => Ok(Setting { name: name.to_owned(), value, line: index + 1, span }),
            Err((message, help)) => Err(BadLine { span, message, help }),
        });
    }
    lines
}

type Refused = (String, &'static str);

fn setting(content: &str, name: &str) -> Result<String, Refused> {
    let refused = |message: &str, help| Err((message.to_owned(), help));
    let Some(value) = content[name.len()..].strip_prefix('=') else {
        return refused("a line without `=`", "write `NAME=value`, or begin the line with `#` if it is a comment");
    };
    if name.starts_with("export ") {
        return refused("`export` belongs to a shell", "write `NAME=value` alone");
    }
    if name.ends_with(char::is_whitespace) || value.starts_with(char::is_whitespace) {
        return refused("blanks around the `=`", "write `NAME=value` without them");
    }
    if !is_name(name) {
        // Not shown: it may be the second line of a value.
        return refused(
            "what stands before the `=` names no variable",
            "write letters, digits and `_`, no digit first",
        );
    }
    let value = match value.chars().next() {
        Some('\'') => match value[1..].split_once('\'') {
            Some((inside, "")) => inside.to_owned(),
            Some(_) => {
                return refused("something stands behind the closing quote", "remove it, or quote all of the value");
            }
            None => return refused("the quote is not closed on its line", "close it; a value has one line"),
        },
        Some('"') => double_quoted(&value[1..])?,
        _ => plain(value)?.to_owned(),
    };
    if value.contains('\0') {
        return refused("the value holds a zero byte", "remove it");
    }
    Ok(value)
}

/// Without quotes, a value is what stands there, to the end of the line.
fn plain(value: &str) -> Result<&str, Refused> {
    let why = "systemd and Docker Compose read it differently";
    if value.contains(" #") || value.contains("\t#") {
        return Err((
            format!("a `#` behind a blank: {why}"),
            "put the value into single quotes, a comment on its own line",
        ));
    }
    if value.contains('\\') {
        return Err((format!("a backslash without quotes: {why}"), "put the value into single quotes"));
    }
    if value.contains(['\'', '"']) {
        return Err((format!("a quote within a value: {why}"), "put all of the value into the other kind of quotes"));
    }
    Ok(value)
}

/// Between double quotes a backslash takes the meaning from `"`, `\`, `$` and `` ` ``, and stands before nothing else.
fn double_quoted(rest: &str) -> Result<String, Refused> {
    let (mut value, mut letters) = (String::new(), rest.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '"' if letters.as_str().is_empty() => return Ok(value),
            '"' => {
                let message = "something stands behind the closing quote".to_owned();
                return Err((message, "remove it, or quote all of the value"));
            }
            '\\' => match letters.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => value.push(escaped),
                _ => {
                    let message = "a backslash before something that it does not escape".to_owned();
                    return Err((message, "write `\\\\`, or put the value into single quotes"));
                }
            },
            letter => value.push(letter),
        }
    }
    Err(("the quote is not closed on its line".to_owned(), "close it; a value has one line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_both_read_them() {
        let text = "# all\r\n\n; of this\nA=1\n  B=two words  \nC='it # is \\ \"so\"'\nD=\"a \\\"b\\\" \\\\ \\$X\"\nE=\nF=a#b=c\r\n";
        let read: Vec<_> = read(text).into_iter().map(|line| line.unwrap()).collect();
        let told: Vec<_> = read.iter().map(|one| (one.line, one.name.as_str(), one.value.as_str())).collect();
        let expected = [
            (4, "A", "1"),
            (5, "B", "two words"),
            (6, "C", "it # is \\ \"so\""),
            (7, "D", "a \"b\" \\ $X"),
            (8, "E", ""),
            (9, "F", "a#b=c"),
        ];
        assert_eq!(told, expected);
        assert!(read.iter().all(|one| text[one.span.clone()] == one.name));
    }

    #[test]
    fn what_can_be_misread_is_refused_without_its_value() {
        for line in [
            "secret",
            "export A=secret",
            "A = secret",
            "A =secret",
            "A= secret",
            "1A=secret",
            "=secret",
            "A-B=secret",
            "secret/+==",
            "A=secret # really",
            "A=secret\\",
            "A=sec'ret'",
            "A='secret",
            "A='secret' x",
            "A=\"secret",
            "A=\"secret\" x",
            "A=\"sec\\ret\"",
            "A=secret\0",
        ] {
            let [Err(BadLine { message, help, .. })] = &read(line)[..] else { panic!("{line} is no fault") };
            assert!(!message.contains("secret") && !help.contains("secret") && !help.is_empty(), "{line}: {message}");
        }
    }
}
