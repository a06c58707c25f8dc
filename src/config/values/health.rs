//! Texts of `[service.health]` and `[service.ejection]` to values.

use super::{HOST_RULE, Parsed};
use crate::config::model::{HostRule, StatusRange};
use crate::config::reader::{Kind, Refusal, refuse};
use crate::config::report::shown;

/// Statuses of answers.
pub(in crate::config) const STATUSES: Kind<StatusRange> =
    Kind { noun: "a status or a range of them", example: "\"200-299\"", unit: "", parse: statuses };
/// A name in place of the Host that clients' requests have.
pub(in crate::config) const CHECK_HOST: Kind<String> =
    Kind { noun: "a host", example: "\"app.internal\"", unit: "", parse: check_host };
/// A part of an answer.
pub(in crate::config) const BODY_PART: Kind<String> =
    Kind { noun: "a text", example: "\"ok\"", unit: "", parse: body_part };

/// The longest text that is looked for.
const LONGEST_PART: usize = 1_024;

fn statuses(text: &str) -> Parsed<StatusRange> {
    let help = "write a number, such as 401, or a range, such as \"200-299\"";
    let number = |part: &str| part.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(StatusRange { first, last }),
        (Some(first), Some(last)) => {
            refuse(format!("{} ends before it begins", shown(text)), format!("write \"{last}-{first}\""))
        }
        _ => refuse(format!("{} is no status from 100 to 599 and no range of them", shown(text)), help),
    }
}

fn check_host(text: &str) -> Parsed<String> {
    let help = "write a name such as \"app.internal\", or leave it out for the one that clients' requests have";
    match (HOST_RULE.parse)(text) {
        Ok(HostRule::Named(host)) => Ok(host),
        Ok(HostRule::Pass | HostRule::Backend) => refuse(format!("{} is not a host", shown(text)), help),
        Err(Refusal { message, .. }) => refuse(message, help),
    }
}

fn body_part(text: &str) -> Parsed<String> {
    match text.len() {
        0 => refuse("the text is empty, and every answer holds it", "write what a good answer says, such as \"ok\""),
        1..=LONGEST_PART => Ok(text.to_owned()),
        _ => refuse(format!("the text is longer than {LONGEST_PART} bytes"), "write a shorter part of the answer"),
    }
}
