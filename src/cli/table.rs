//! The gateway's state for people: eighty columns, newest generation first.

use std::fmt::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table};
use jiff::Timestamp;

use crate::admin::api::{Backend, Gateway, Generation, Health, Intent, Mode, Service, Status, Worker, WorkerState};
use crate::fleet::lifecycle::Lifecycle;

pub(super) const WIDTH: u16 = 80;
/// Retired generations that are shown; of the others their number. `--json` has them all.
const RETIRED: usize = 3;
/// Where workers listen.
const OWN: &str = "127.0.0.1:";
/// Backends of a generation that are shown.
const BACKENDS: usize = 8;

/// The whole text.
pub(super) fn render(status: &Status, colours: bool) -> String {
    let mut out = head(&status.gateway, colours);
    if status.services.is_empty() {
        out.push_str("\nno service is configured\n");
    }
    for service in &status.services {
        out.push('\n');
        out.push_str(&title(service));
        out.push_str(&generations(service, status.gateway.now, colours));
        waiting(&mut out, service);
    }
    out
}

fn head(gateway: &Gateway, colours: bool) -> String {
    let Gateway { version, pid, state, sessions, connections, .. } = gateway;
    let mut out = format!("tidegate {version}, {state} for {}, process {pid}\n", span(gateway.uptime_seconds));
    let age = age(gateway.loaded_at, gateway.now);
    // Writing to a text does not fail.
    _ = writeln!(out, "configuration {}, loaded {age} ago", gateway.config_file);
    durability(&mut out, gateway, colours);
    _ = writeln!(out, "{}, {}", count(*sessions, "session"), count(*connections, "connection"));
    if let Some(error) = &gateway.reload_error {
        out.push_str("! the last SIGHUP changed nothing:\n");
        for line in error.lines() {
            _ = writeln!(out, "    {line}");
        }
    }
    out
}

/// Where the state is, and whether a crash would cost something.
fn durability(out: &mut String, gateway: &Gateway, colours: bool) {
    let place = if gateway.state_place.is_empty() { String::new() } else { format!(" {}", gateway.state_place) };
    let bindings = match gateway.log_bytes + gateway.snapshot_bytes {
        0 => String::new(),
        bytes => format!(", {} of bindings", size(bytes)),
    };
    _ = writeln!(out, "state{place}, {}durable{bindings}", if gateway.durable { "" } else { "not " });
    if let Some(recovered) = &gateway.recovered {
        let lost = match recovered.lost {
            0 => String::new(),
            lost => format!(", {lost} lost: generation or backend gone"),
        };
        _ = writeln!(out, "recovered {} at the start{lost}", count(recovered.sessions, "session"));
    }
    let mut alarm = |text: &str| {
        let (on, off) = if colours { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        for line in wrapped("! ", text) {
            _ = writeln!(out, "{on}{line}{off}");
        }
    };
    match (gateway.durable, &gateway.durability) {
        (true, None) => {}
        (true, Some(why)) => alarm(why),
        (false, Some(why)) => alarm(&format!("not durable: {why}")),
        (false, None) => alarm("not durable: a restart would not know sessions and generations as they are now"),
    }
    if gateway.undurable > 0 {
        let went = count(gateway.undurable, "answer");
        alarm(&format!("{went} went out before the session was durable: the disk did not take it in time"));
    }
    if gateway.sessions_lost > 0 {
        alarm(&format!("{} lost since the start, with their backends", count(gateway.sessions_lost, "session")));
    }
    if gateway.recovered.as_ref().is_some_and(|recovered| !recovered.complete) {
        alarm("the log of bindings was not whole at the start: sessions may be missing");
    }
    if gateway.unsure {
        let until = gateway.unsure_until.map(|until| format!(" for another {}", age(gateway.now, until)));
        let until = until.unwrap_or_default();
        alarm(&format!(
            "unsure{until}: sessions may be open that this process does not know; meanwhile it adopts unknown ids and \
             retires no generation that was there before the start"
        ));
    }
}

fn title(service: &Service) -> String {
    let state = match service.active {
        _ if !service.in_file => "not in the file any more, serves its open sessions".to_owned(),
        _ if service.maintenance => "maintenance, new sessions are turned away".to_owned(),
        Some(number) if !takes_new(service, number) => {
            format!("generation {number} takes no new sessions, none of its backends is up")
        }
        Some(number) => match service.generations.iter().find_map(|ready| Some((ready.number, ready.share?))) {
            Some((ready, 0)) => format!("new sessions go to generation {number}, forced ones to {ready} as well"),
            Some((ready, share)) => format!("new sessions go to generation {number}, {share}% of them to {ready}"),
            None => format!("new sessions go to generation {number}"),
        },
        None => "no generation is active yet".to_owned(),
    };
    let mode = match service.mode {
        Mode::Http => String::new(),
        Mode::Tcp => {
            let listen: Vec<_> = service.listen.iter().map(ToString::to_string).collect();
            format!(" (tcp at {})", listen.join(", "))
        }
    };
    wrapped("", &format!("{}{mode}: {state}", service.name)).join("\n") + "\n"
}

/// Whether a generation has a backend that takes new sessions, as far as its operator says.
fn takes_new(service: &Service, number: u64) -> bool {
    let generation = service.generations.iter().find(|generation| generation.number == number);
    generation.is_none_or(|generation| generation.backends.iter().any(|backend| backend.intent == Intent::Up))
}

fn generations(service: &Service, now: Timestamp, colours: bool) -> String {
    let retired = |generation: &&Generation| generation.state == Lifecycle::Retired;
    let hidden = service.generations.iter().filter(retired).count().saturating_sub(RETIRED);
    let mut table = plain();
    table.set_header(["GENERATION", "STATE", "SINCE", "SESSIONS", "REQUESTS", "TUNNELS", "BACKENDS"]);
    let mut seen = 0;
    for generation in &service.generations {
        if generation.state == Lifecycle::Retired {
            seen += 1;
            if seen > RETIRED {
                continue;
            }
        }
        table.add_row([
            number(generation.number),
            Cell::new(state(generation)),
            Cell::new(age(generation.since, now)),
            number(generation.sessions),
            number(generation.requests),
            number(generation.tunnels),
            Cell::new(backends(generation)),
        ]);
    }
    table.set_constraints(vec![ColumnConstraint::ContentWidth; 6]);
    let mut out = String::new();
    for line in table.lines() {
        let line = line.trim_end();
        out.push_str(&if colours { coloured(line) } else { line.to_owned() });
        out.push('\n');
    }
    for generation in &service.generations {
        notes(&mut out, generation, now);
    }
    if hidden > 0 {
        _ = writeln!(out, " and {} before them", count(hidden as u64, "retired generation"));
    }
    out
}

/// Requests for which there is no backend, or no place at one.
fn waiting(out: &mut String, service: &Service) {
    if service.waiting > 0 {
        _ = writeln!(
            out,
            " ! {} for a backend",
            if service.waiting == 1 {
                "1 request waits".to_owned()
            } else {
                format!("{} requests wait", service.waiting)
            }
        );
    }
    if service.waited_in_vain > 0 {
        _ = writeln!(
            out,
            " {} turned away since the start, for want of a backend",
            count(service.waited_in_vain, "request")
        );
    }
}

/// `ready 10%`: beside the active one, what the generation gets of the new sessions.
fn state(generation: &Generation) -> String {
    let share = generation.share.map(|share| format!(" {share}%")).unwrap_or_default();
    format!("{}{share}", generation.state)
}

fn notes(out: &mut String, generation: &Generation, now: Timestamp) {
    let number = generation.number;
    if generation.unconfirmed > 0 {
        _ = writeln!(out, " {number}: {} of its sessions seen once", generation.unconfirmed);
    }
    if let Some(deadline) = generation.deadline {
        _ = writeln!(out, " ! {number} ends by force in {}", age(now, deadline));
    }
    if let Some(trouble) = &generation.trouble {
        _ = writeln!(out, " ! {number}: {trouble}");
    }
    workers(out, generation);
    ailments(out, generation, now);
}

fn backends(generation: &Generation) -> String {
    let mut lines: Vec<String> = Vec::new();
    for backend in generation.backends.iter().take(BACKENDS) {
        let name = backend.name.as_str();
        let address = match backend.address.strip_prefix(OWN) {
            _ if name == backend.address => String::new(),
            // Where every worker of the gateway's own is, the column needs the room for other things.
            Some(port) if backend.worker.is_some() => format!(" :{port}"),
            _ => format!(" {}", backend.address),
        };
        let intent = match backend.intent {
            Intent::Up => "",
            Intent::Drain => " drain",
            Intent::Down => " down",
        };
        let away = backend.unreachable_seconds.map(|seconds| format!(" unreachable {seconds}s")).unwrap_or_default();
        let room = backend.max_requests.map(|most| format!(" {}/{most}", backend.requests)).unwrap_or_default();
        let worker = backend.worker.as_ref().map(worker).unwrap_or_default();
        lines.push(format!("{name}{address}{worker}{intent}{}{away}{room}", health(backend)));
    }
    if generation.backends.len() > BACKENDS {
        lines.push(format!("and {} more", generation.backends.len() - BACKENDS));
    }
    lines.join("\n")
}

/// A worker's process, and its state unless it serves.
fn worker(worker: &Worker) -> String {
    let pid = worker.pid.map(|pid| format!(" pid {pid}")).unwrap_or_default();
    let state = if worker.state == WorkerState::Ready { String::new() } else { format!(" {}", worker.state) };
    format!("{pid}{state}")
}

/// What a worker that does not serve has to say, and what others have left to do.
fn workers(out: &mut String, generation: &Generation) {
    let number = generation.number;
    let owned = generation.backends.iter().filter_map(|backend| backend.worker.as_ref());
    for worker in owned.clone().take(BACKENDS) {
        let mut tell = |text: &str| {
            for line in wrapped(&format!(" ! {number}: worker {} ", worker.instance), text) {
                _ = writeln!(out, "{line}");
            }
        };
        let is_told = |text: &String| generation.trouble.as_ref().is_some_and(|trouble| trouble.contains(text));
        match (worker.state, &worker.last_exit, worker.output.last()) {
            (WorkerState::Ready | WorkerState::Stopping | WorkerState::Exited, ..) => {}
            (_, Some(exit), _) if !is_told(exit) => tell(exit),
            (_, None, Some(last)) => tell(&format!("says: {last}")),
            _ => {}
        }
    }
    let work: u64 = owned.filter_map(|worker| worker.work).sum();
    if work > 0 {
        let pieces = if work == 1 { "1 piece".to_owned() } else { format!("{work} pieces") };
        _ = writeln!(out, " {number}: its workers have {pieces} of work to finish");
    }
}

/// What is wrong with a backend's health, in a word for the table.
fn health(backend: &Backend) -> &'static str {
    match (backend.health, backend.ejected_until) {
        (Health::Down, _) => " unhealthy",
        (Health::Unknown | Health::Up, Some(_)) => " ejected",
        (Health::Unknown | Health::Up, None) => "",
    }
}

/// Why some backends get no new sessions, a line for each.
fn ailments(out: &mut String, generation: &Generation, now: Timestamp) {
    let is_ailing = |backend: &&Backend| backend.health == Health::Down || backend.ejected_until.is_some();
    let ailing: Vec<_> = generation.backends.iter().filter(is_ailing).collect();
    let mut tell = |text: String| {
        for line in wrapped(&format!(" ! {}: ", generation.number), &text) {
            _ = writeln!(out, "{line}");
        }
    };
    for backend in ailing.iter().take(BACKENDS) {
        let reason = |reason: &Option<String>| reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        if backend.health == Health::Down {
            let since = backend.health_since.map(|since| format!(" for {}", age(since, now))).unwrap_or_default();
            tell(format!("{} is unhealthy{since}{}", backend.name, reason(&backend.health_reason)));
        }
        if let Some(until) = backend.ejected_until {
            let why = reason(&backend.ejection_reason);
            tell(format!("{} is ejected for another {}{why}", backend.name, age(now, until)));
        }
    }
    if ailing.len() > BACKENDS {
        tell(format!("and {} more backends", ailing.len() - BACKENDS));
    }
}

/// A table without lines, as wide as the text.
pub(super) fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table
}

/// Its lines, without blanks at their ends.
pub(super) fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

pub(super) fn number(value: u64) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

pub(super) fn count(value: u64, noun: &str) -> String {
    format!("{value} {noun}{}", if value == 1 { "" } else { "s" })
}

/// Lines of words, the first behind `mark`, the others below its text.
pub(super) fn wrapped(mark: &str, text: &str) -> Vec<String> {
    let mut lines = vec![mark.to_owned()];
    let blank = " ".repeat(mark.chars().count());
    let mut fresh = true;
    for word in text.split_whitespace() {
        let length = |line: &String| line.chars().count() + usize::from(!fresh) + word.chars().count();
        if !fresh && lines.last().is_some_and(|line| length(line) > usize::from(WIDTH)) {
            lines.push(blank.clone());
            fresh = true;
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if fresh { "" } else { " " });
            line.push_str(word);
            fresh = false;
        }
    }
    lines
}

/// In the largest unit that leaves no more than four digits.
pub(super) fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => count(bytes, "byte"),
    }
}

fn age(since: Timestamp, now: Timestamp) -> String {
    span(u64::try_from(now.as_second() - since.as_second()).unwrap_or(0))
}

/// The two largest units of a time.
pub(super) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m {}s", seconds % 60),
        3_600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// Colours the state, the second word of a generation's first line. Done last: the table counts columns, not escapes.
fn coloured(line: &str) -> String {
    let Some(state) = line.split_whitespace().nth(1) else { return line.to_owned() };
    let colour = match state {
        "active" => "32",
        "starting" | "ready" => "36",
        "detached" | "retiring" => "33",
        "failed" => "31",
        "retired" => "2",
        _ => return line.to_owned(),
    };
    line.replacen(state, &format!("\x1b[{colour}m{state}\x1b[0m"), 1)
}

#[cfg(test)]
mod tests;
