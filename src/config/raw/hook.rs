//! `on_starting` and `on_retired` as typed.

use std::time::Duration;

use super::TABLES;
use crate::config::reader::{At, Kind, Node, Refusal};
use crate::config::values::*;

pub(super) const HOOK: &[&str] = &["command", "timeout"];

/// A command to run.
pub(in crate::config) struct Hook {
    pub(in crate::config) command: Option<At<Vec<At<String>>>>,
    pub(in crate::config) timeout: Option<At<Duration>>,
}

/// `["argv", …]`, `{ command = ["argv", …], timeout = "5m" }`, or `"none"`.
pub(super) fn hook(node: &Node<'_>) -> Option<Hook> {
    const EXAMPLE: &str = "[\"systemctl\", \"stop\", \"app@{generation}\"]";
    if node.as_text() == Some("none") {
        return None;
    }
    if node.is_table() {
        let mut table = node.table(HOOK, "`{ command = […] }`")?;
        if !table.has("command") {
            table.missing("command", EXAMPLE);
        }
        let hook = Hook {
            command: table.list("command", 1, EXAMPLE, |node| node.text(&ARGUMENT)),
            timeout: table.text("timeout", &PAUSE),
        };
        table.finish(TABLES);
        return Some(hook);
    }
    Some(Hook { command: Some(command(node, EXAMPLE, &ARGUMENT)?), timeout: None })
}

/// Program and arguments, each a text of a kind.
pub(super) fn command(node: &Node<'_>, example: &str, kind: &Kind<String>) -> Option<At<Vec<At<String>>>> {
    if let Some(text) = node.as_text() {
        let words: Vec<String> = text.split_whitespace().take(12).map(|word| format!("{word:?}")).collect();
        let help = format!("write the program and each argument apart, there is no shell: [{}]", words.join(", "));
        node.refuse(Refusal { message: "expected a list, found a text".to_owned(), help });
        return None;
    }
    node.list(1, example, |node| node.text(kind))
}
