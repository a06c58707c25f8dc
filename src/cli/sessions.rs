//! `tidegate sessions`: how many there are, and one of them by its id.

use std::fmt::Write;
use std::io::{self, IsTerminal, Read};

use jiff::Timestamp;

use crate::admin::api::{Bucket, Done, GenerationSessions, SessionCounts, SessionFound, SessionId};
use crate::cli::arguments::{SessionVerb, SessionsArguments};
use crate::cli::client::Call;
use crate::cli::gateway::{Gateway, json};
use crate::cli::table::{lines, number, plain, span};
use crate::cli::{Exit, Failure, order};

/// Backends of a generation that are shown; `--json` has them all.
const BACKENDS: usize = 8;
/// Columns of the longest bar.
const BAR: u64 = 40;
/// Bytes that an id may have.
const LONGEST: u64 = 8_192;

pub(super) fn sessions(arguments: SessionsArguments) -> Result<(), Failure> {
    let service = &arguments.service;
    let path = format!("/v1/services/{service}/sessions");
    let gateway = Gateway::of(arguments.gateway.clone())?;
    match arguments.verb {
        None => gateway.show(&Call::get(path), |counts: SessionCounts| render(&counts)),
        Some(SessionVerb::Find) => {
            let call = Call::post(format!("{path}/find")).with(json(&read()?));
            gateway.show(&call, |found: SessionFound| describe(&found))
        }
        Some(SessionVerb::End) => {
            let call = Call::post(format!("{path}/end")).with(json(&read()?));
            gateway.show(&call, |done: Done| format!("{}\n", done.changes.join("\n")))
        }
    }
}

/// An id is a credential: on the command line everybody on the machine could see it.
fn read() -> Result<SessionId, Failure> {
    let mut input = io::stdin();
    if input.is_terminal() {
        eprintln!("Type or paste the id, as the cookie, header or parameter has it; then press Enter.");
        let mut line = String::new();
        input.read_line(&mut line).map_err(order::failed)?;
        return id(&line);
    }
    let mut text = String::new();
    (&mut input).take(LONGEST + 1).read_to_string(&mut text).map_err(order::failed)?;
    id(&text)
}

fn id(text: &str) -> Result<SessionId, Failure> {
    match text.trim() {
        "" => Err(Failure::new(Exit::Usage, "no id came in: write it to standard input, as in `echo ID | tidegate …`")),
        id if id.len() as u64 > LONGEST => Err(Failure::new(Exit::Usage, "an id has 8,192 bytes at most")),
        id => Ok(SessionId { id: id.to_owned() }),
    }
}

fn render(counts: &SessionCounts) -> String {
    if counts.generations.is_empty() {
        return "no generation has sessions\n".to_owned();
    }
    let mut out = String::new();
    for generation in &counts.generations {
        describe_generation(&mut out, generation, counts.at);
    }
    out
}

fn describe_generation(out: &mut String, generation: &GenerationSessions, now: Timestamp) {
    let GenerationSessions { number: which, sessions, unconfirmed, .. } = generation;
    let once = if *unconfirmed > 0 { format!(", {unconfirmed} of them seen once") } else { String::new() };
    // Writing to a text does not fail.
    _ = writeln!(out, "generation {which}: {sessions} open{once}");
    if *sessions == 0 {
        return;
    }
    if let (Some(idle), Some(end)) = (generation.longest_idle_seconds, generation.empties_at) {
        let left = u64::try_from(end.as_second() - now.as_second()).unwrap_or(0);
        _ = writeln!(out, " idle for {} at most; empty in {} if nobody comes back", span(idle), span(left));
    }
    let mut table = plain();
    table.set_header(["IDLE FOR", "SESSIONS", ""]);
    let most = generation.idle.iter().map(|bucket| bucket.sessions).max().unwrap_or(0);
    for (index, bucket) in generation.idle.iter().enumerate().filter(|(_, bucket)| bucket.sessions > 0) {
        let columns = usize::try_from((bucket.sessions * BAR).div_ceil(most.max(1))).unwrap_or(0);
        let range = range(&generation.idle, index);
        table.add_row([range.into(), number(bucket.sessions), "#".repeat(columns).into()]);
    }
    out.push_str(&lines(&table));
    let mut table = plain();
    table.set_header(["BACKEND", "SESSIONS", "SEEN ONCE"]);
    for backend in generation.backends.iter().take(BACKENDS) {
        table.add_row([backend.name.as_str().into(), number(backend.sessions), number(backend.unconfirmed)]);
    }
    out.push_str(&lines(&table));
    if generation.backends.len() > BACKENDS {
        _ = writeln!(out, " and {} more backends", generation.backends.len() - BACKENDS);
    }
}

fn range(buckets: &[Bucket], index: usize) -> String {
    let from = buckets[index].from_seconds;
    match buckets.get(index + 1) {
        Some(next) => format!("{} to {}", short(from), short(next.from_seconds)),
        None => format!("{} or more", short(from)),
    }
}

/// Buckets begin at whole minutes, hours or days.
fn short(seconds: u64) -> String {
    match seconds {
        0..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn describe(found: &SessionFound) -> String {
    let SessionFound { service, generation, backend, .. } = found;
    let once = if found.unconfirmed { ", seen once" } else { "" };
    let mut out = format!("open on {service}@{generation}, backend {backend}{once}\n");
    _ = writeln!(out, "since {}, idle for {}", found.opened_at, span(found.idle_seconds));
    match found.ends_at {
        Some(end) => _ = writeln!(out, "ends {end} if nobody uses it"),
        None => _ = writeln!(out, "held by {} requests and tunnels", found.held),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::{BackendSessions, sample};
    use crate::ids::BackendName;

    #[test]
    fn counts_are_drawn_within_eighty_columns() {
        let bucket = |from_seconds, sessions| Bucket { from_seconds, sessions };
        let backends = (0..10).map(|index| BackendSessions {
            name: BackendName::new(&format!("10.0.0.{index}:8080")),
            sessions: 1_000 + index,
            unconfirmed: index,
        });
        let generation = GenerationSessions {
            number: 7,
            sessions: 123_456,
            unconfirmed: 45,
            longest_idle_seconds: Some(1_740),
            empties_at: Some(sample::at(1_800)),
            idle: vec![bucket(0, 100_000), bucket(60, 0), bucket(120, 1), bucket(86_400, 23_455)],
            age: Vec::new(),
            backends: backends.collect(),
        };
        let empty = GenerationSessions { number: 6, sessions: 0, unconfirmed: 0, ..generation.clone() };
        let text = render(&SessionCounts { at: sample::at(0), generations: vec![generation, empty] });
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for wanted in [
            "generation 7: 123456 open, 45 of them seen once",
            "idle for 29m 0s at most; empty in 30m 0s if nobody comes back",
            "0m to 1m",
            "1d or more",
            "and 2 more backends",
            "generation 6: 0 open",
        ] {
            assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
        }
        assert!(!text.contains("1m to 2m"), "an empty bucket says nothing:\n{text}");
    }

    #[test]
    fn an_id_is_taken_without_its_line_break() {
        assert_eq!(id(" abc\n").map(|id| id.id).unwrap(), "abc");
        assert_eq!(id(" \n").unwrap_err().exit, Exit::Usage);
        assert_eq!(id(&"x".repeat(8_193)).unwrap_err().exit, Exit::Usage);
    }
}
