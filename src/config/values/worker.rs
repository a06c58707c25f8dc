//! Texts of `[service.worker]` to values.

use std::path::PathBuf;
use std::time::Duration;

use super::{DURATION, FILE, Parsed, SIZE, URL_PATH, clipped, duration, size};
use crate::config::model::worker::{RollOnReload, StopSignal};
use crate::config::reader::{Kind, refuse};
use crate::config::report::shown;
use crate::config::spelling::closest;

/// A word of a worker's command; its placeholders are looked at where all of them are known.
pub(in crate::config) const WORD: Kind<String> =
    Kind { noun: "a text", example: "\"--port={port}\"", unit: "", parse: word };
/// The value of a variable, of which no message shows anything.
pub(in crate::config) const VALUE: Kind<String> =
    Kind { noun: "a text", example: "\"-Xmx512m\"", unit: "", parse: value };
/// A unix socket.
pub(in crate::config) const SOCKET: Kind<String> =
    Kind { noun: "a path", example: "\"/run/app-{generation}-{instance}.sock\"", unit: "", parse: socket };
/// A working directory.
pub(in crate::config) const DIRECTORY: Kind<PathBuf> = Kind { example: "\"/srv/app/current\"", ..FILE };
/// A user or a group.
pub(in crate::config) const ACCOUNT: Kind<String> =
    Kind { noun: "a name or a number", example: "\"www-data\"", unit: "", parse: account };
/// A limit of memory: with less, no program starts.
pub(in crate::config) const MEMORY: Kind<u64> = Kind { example: "\"512MiB\"", parse: memory, ..SIZE };
/// A signal that asks a process to end.
pub(in crate::config) const SIGNAL: Kind<StopSignal> =
    Kind { noun: "a signal", example: "\"TERM\"", unit: "", parse: signal };
/// The first pause and the longest one.
pub(in crate::config) const BACKOFF: Kind<(Duration, Duration)> =
    Kind { noun: "two durations", example: "\"1s..1m\"", unit: "", parse: backoff };
/// When a reload rolls.
pub(in crate::config) const ROLL_ON_RELOAD: Kind<RollOnReload> =
    Kind { noun: "\"changed\" or \"always\"", example: "\"changed\"", unit: "", parse: roll_on_reload };
/// Where a process is asked for unfinished work.
pub(in crate::config) const WORK_PATH: Kind<String> = Kind { example: "\"/tidegate/work\"", ..URL_PATH };
/// Where a number stands in a document of JSON.
pub(in crate::config) const POINTER: Kind<String> =
    Kind { noun: "a JSON pointer", example: "\"/jobs/open\"", unit: "", parse: pointer };
/// Between two questions for unfinished work.
pub(in crate::config) const WORK_INTERVAL: Kind<Duration> =
    Kind { example: "\"1s\"", parse: work_interval, ..DURATION };
/// A file of what a process prints.
pub(in crate::config) const OUTPUT_SIZE: Kind<u64> = Kind { example: "\"10MiB\"", parse: output_size, ..SIZE };

fn word(text: &str) -> Parsed<String> {
    if text.contains('\0') {
        return refuse("a command cannot hold a zero byte", "remove it");
    }
    Ok(text.to_owned())
}

fn value(text: &str) -> Parsed<String> {
    if text.contains('\0') {
        return refuse("a variable cannot hold a zero byte", "remove it");
    }
    Ok(text.to_owned())
}

fn socket(text: &str) -> Parsed<String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return refuse(format!("{} has a scheme", shown(text)), format!("write the path alone: \"{}\"", clipped(path)));
    }
    if !text.starts_with('/') || text.ends_with('/') || text.contains('\0') {
        let help = "write an absolute path: \"/run/app-{generation}-{instance}.sock\"";
        return refuse(format!("{} is not an absolute path of a socket", shown(text)), help);
    }
    Ok(text.to_owned())
}

fn account(text: &str) -> Parsed<String> {
    if text.is_empty() || text.len() > 64 || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        return refuse(
            format!("{} is not a name of a user or a group", shown(text)),
            "write a name or a number: letters, digits, `_`, `.`, `-`",
        );
    }
    Ok(text.to_owned())
}

fn memory(text: &str) -> Parsed<u64> {
    match size(text)? {
        size if size >= 1 << 20 => Ok(size),
        _ => refuse(format!("{} is too little for any program", shown(text)), "write \"1MiB\" or more"),
    }
}

fn signal(text: &str) -> Parsed<StopSignal> {
    let named = |name: &str| StopSignal::ALL.into_iter().find(|signal| signal.as_str() == name);
    if let Some(signal) = named(text) {
        return Ok(signal);
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let words = StopSignal::ALL.map(|signal| signal.as_str().to_ascii_lowercase());
    let words = words.each_ref().map(String::as_str);
    let help = match named(bare).map(StopSignal::as_str) {
        Some(name) => format!("write \"{name}\""),
        None => match closest(bare, &words) {
            Some(word) => format!("write \"{}\"", word.to_ascii_uppercase()),
            None => format!("write one of: {}", StopSignal::ALL.map(StopSignal::as_str).join(", ")),
        },
    };
    refuse(format!("unknown signal {}", shown(text)), help)
}

fn backoff(text: &str) -> Parsed<(Duration, Duration)> {
    let Some((first, longest)) = text.split_once("..") else {
        let help = match duration(text) {
            Ok(_) => format!("write \"{text}..{text}\" for pauses that are all alike"),
            Err(_) => "write the first pause and the longest one: \"1s..1m\"".to_owned(),
        };
        return refuse(format!("{} is not two durations with `..` between them", shown(text)), help);
    };
    let (first, longest) = (first.trim(), longest.trim());
    let (shortest, most) = (duration(first)?, duration(longest)?);
    if shortest > most {
        return refuse(format!("{} ends before it begins", shown(text)), format!("write \"{longest}..{first}\""));
    }
    if shortest < Duration::from_millis(10) || most > Duration::from_secs(3_600) {
        return refuse(format!("{} is out of bounds", shown(text)), "write durations from \"10ms\" to \"1h\"");
    }
    Ok((shortest, most))
}

fn roll_on_reload(text: &str) -> Parsed<RollOnReload> {
    match text {
        "changed" => Ok(RollOnReload::Changed),
        "always" => Ok(RollOnReload::Always),
        _ => {
            let help = match closest(text, &["changed", "always"]) {
                Some(word) => format!("write \"{word}\""),
                None => "write \"changed\" or \"always\"".to_owned(),
            };
            refuse(format!("unknown word {}", shown(text)), help)
        }
    }
}

/// RFC 6901: each `~` is the beginning of `~0` or `~1`.
fn pointer(text: &str) -> Parsed<String> {
    if !text.is_empty() && !text.starts_with('/') {
        let help = format!("write \"/{}\", or \"\" for the whole answer", clipped(text));
        return refuse(format!("{} does not begin with `/`", shown(text)), help);
    }
    if text.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
        return refuse(format!("{} holds a bare `~`", shown(text)), "write `~0` for `~` and `~1` for `/` in a name");
    }
    Ok(text.to_owned())
}

fn work_interval(text: &str) -> Parsed<Duration> {
    match duration(text)? {
        time if (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&time) => Ok(time),
        _ => refuse(format!("{} is out of bounds", shown(text)), "write a duration from \"100ms\" to \"1h\""),
    }
}

fn output_size(text: &str) -> Parsed<u64> {
    match size(text)? {
        size @ 65_536..=1_073_741_824 => Ok(size),
        _ => refuse(format!("{} is out of bounds", shown(text)), "write a size from \"64KiB\" to \"1GiB\""),
    }
}
