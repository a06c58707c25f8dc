//! `tidegate top`: everything, live.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read, Write as _};
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::admin::api::{Event, Events, Generation, Service, Status};
use crate::cli::arguments::GatewayArguments;
use crate::cli::client::Call;
use crate::cli::gateway::Gateway;
use crate::cli::table::{count, span};
use crate::cli::{Exit, Failure, order, wants_colours};
use crate::fleet::lifecycle::Lifecycle;

/// Between two looks, in tenths of a second: the unit in which a terminal waits for a key.
const LOOK: u8 = 10;
/// Columns of the longest bar.
const BAR: u64 = 24;
/// Events at the foot.
const EVENTS: usize = 4;
/// Between two tries at a gateway that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn top(arguments: GatewayArguments) -> Result<(), Failure> {
    let gateway = Gateway::of(arguments)?;
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let message = "top needs a terminal; `tidegate status` and `tidegate events --follow` do without";
        return Err(Failure::new(Exit::Usage, message));
    }
    // Whoever cannot be reached at the start gets the plain message.
    let mut status = gateway.read::<Status>(&Call::get("/v1/status"))?;
    let mut trouble = None;
    let colours = wants_colours(&io::stdout());
    let _terminal =
        Terminal::take().map_err(|error| order::failed(format!("this terminal cannot be drawn on: {error}")))?;
    loop {
        let events = gateway.read::<Events>(&Call::get("/v1/events")).map(|events| events.events).unwrap_or_default();
        let size = tcgetwinsize(io::stdout()).map_or((80, 24), |size| (size.ws_col, size.ws_row));
        let text = render(&status, &events, trouble.as_deref(), (size.0.into(), size.1.into()), colours);
        let mut out = io::stdout().lock();
        if write!(out, "\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\r\n")).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        drop(out);
        let mut key = [0];
        match io::stdin().read(&mut key) {
            Ok(1) if matches!(key[0], b'q' | b'Q' | 3) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(()),
        }
        match gateway.read::<Status>(&Call::get("/v1/status")) {
            Ok(next) => (status, trouble) = (next, None),
            Err(failure) => {
                trouble = Some(failure.message.lines().next().unwrap_or_default().to_owned());
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// The terminal while it is drawn on; given back when it is dropped.
struct Terminal(Termios);

impl Terminal {
    fn take() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        // A read gives what was typed, or nothing after a while.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = LOOK;
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let terminal = Self(before);
        // The other screen, without a cursor.
        write!(io::stdout(), "\x1b[?1049h\x1b[?25l")?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        _ = write!(io::stdout(), "\x1b[?25h\x1b[?1049l");
        _ = io::stdout().flush();
        _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The screen, in at most as many columns and lines as it has.
fn render(
    status: &Status,
    events: &[Event],
    trouble: Option<&str>,
    (columns, rows): (usize, usize),
    colours: bool,
) -> String {
    let gateway = &status.gateway;
    let (sessions, connections) = (count(gateway.sessions, "session"), count(gateway.connections, "connection"));
    let up = span(gateway.uptime_seconds);
    let mut lines =
        vec![(None, format!("tidegate {}, {} for {up}: {sessions}, {connections}", gateway.version, gateway.state))];
    let alarms =
        [trouble, gateway.durability.as_deref(), gateway.reload_error.as_deref().and_then(|e| e.lines().next())];
    lines.extend(alarms.into_iter().flatten().map(|text| (Some("31"), format!("! {text}"))));
    let most = status.services.iter().flat_map(|service| &service.generations).map(|one| one.sessions).max();
    for service in &status.services {
        lines.push((None, String::new()));
        lines.push((Some("1"), headline(service)));
        let shown = service.generations.iter().filter(|generation| generation.state != Lifecycle::Retired);
        lines.extend(shown.map(|generation| row(generation, most.unwrap_or(0), status)));
    }
    let foot = events.len().min(EVENTS);
    let room = rows.saturating_sub(foot + 3);
    if lines.len() > room {
        let hidden = lines.len() - room.saturating_sub(1);
        lines.truncate(room.saturating_sub(1));
        lines.push((None, format!("… and {hidden} more lines: `tidegate status` has them")));
    }
    lines.push((None, String::new()));
    for event in &events[events.len() - foot..] {
        let at = event.at.strftime("%H:%M:%SZ");
        let text = format!("{at} {}", event.text.lines().next().unwrap_or_default());
        lines.push((event.trouble.then_some("31"), text));
    }
    lines.push((Some("2"), "q leaves".to_owned()));
    let mut out = String::new();
    for (colour, line) in lines {
        let line: String = line.chars().take(columns).collect();
        // Writing to a text does not fail.
        match colour.filter(|_| colours) {
            Some(colour) => _ = writeln!(out, "\x1b[{colour}m{line}\x1b[0m"),
            None => _ = writeln!(out, "{line}"),
        }
    }
    out.truncate(out.trim_end_matches('\n').len());
    out
}

fn headline(service: &Service) -> String {
    let state = match service.active {
        _ if service.maintenance => "under maintenance".to_owned(),
        Some(number) => format!("new sessions go to generation {number}"),
        None => "no generation is active yet".to_owned(),
    };
    let waiting =
        if service.waiting > 0 { format!(", {} wait", count(service.waiting, "request")) } else { String::new() };
    format!("{}: {state}{waiting}", service.name)
}

fn row(generation: &Generation, most: u64, status: &Status) -> (Option<&'static str>, String) {
    let Generation { number, state, sessions, requests, tunnels, .. } = generation;
    let bar = usize::try_from((sessions * BAR).div_ceil(most.max(1))).unwrap_or(0);
    let width = usize::try_from(BAR).unwrap_or(0);
    let since = u64::try_from(status.gateway.now.as_second() - generation.since.as_second()).unwrap_or(0);
    let since = span(since);
    let mut line = format!("{number:>6} {state:<9} {:<width$} {sessions:>7}", "#".repeat(bar));
    _ = write!(line, " {requests:>4} req {tunnels:>4} tun  {since}");
    if let Some(trouble) = &generation.trouble {
        _ = write!(line, "  ! {trouble}");
    }
    let colour = match state {
        Lifecycle::Active => Some("32"),
        Lifecycle::Starting | Lifecycle::Ready => Some("36"),
        Lifecycle::Detached | Lifecycle::Retiring => Some("33"),
        Lifecycle::Failed => Some("31"),
        Lifecycle::Retired => None,
    };
    (colour, line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::sample;

    #[test]
    fn it_fits_the_screen() {
        let mut status = sample::status();
        for number in 100..160 {
            status.services[0].generations.push(sample::generation(number, Lifecycle::Detached, number));
        }
        let event = |text: &str| Event {
            at: sample::at(0),
            kind: "rolled".to_owned(),
            service: None,
            generation: None,
            trouble: true,
            text: text.to_owned(),
        };
        let events: Vec<_> = (0..9).map(|index| event(&format!("event {index}"))).collect();
        for (columns, rows) in [(80, 24), (40, 12), (200, 100)] {
            let text = render(&status, &events, Some("no answer"), (columns, rows), false);
            assert!(text.lines().count() <= rows, "{rows}:\n{text}");
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{columns}:\n{text}");
            assert!(text.contains("! no answer") && text.contains("event 8") && !text.contains("event 4"), "{text}");
        }
        assert!(render(&status, &events, None, (80, 24), false).contains("more lines"));
        assert!(render(&status, &events, None, (80, 24), true).contains("\x1b[32m"));
    }
}
