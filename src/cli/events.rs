//! `tidegate events`.

use std::io;
use std::time::Duration;

use crate::admin::api::{Event, Events};
use crate::cli::arguments::EventsArguments;
use crate::cli::client::Call;
use crate::cli::gateway::{Gateway, json};
use crate::cli::{Failure, go_on_printing, print, wants_colours};

/// Between two looks for new ones.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn events(arguments: EventsArguments) -> Result<(), Failure> {
    let gateway = Gateway::of(arguments.gateway.clone())?;
    let call = Call::get("/v1/events");
    let colours = wants_colours(&io::stdout());
    let mut events = gateway.read::<Events>(&call)?.events;
    let wanted = |event: &&Event| {
        (!arguments.trouble || event.trouble)
            && arguments.service.as_ref().is_none_or(|service| event.service.as_ref() == Some(service))
    };
    if !arguments.follow {
        let chosen: Vec<_> = events.iter().filter(wanted).collect();
        if gateway.wants_json() {
            let value = serde_json::json!({ "events": chosen });
            return print(&format!("{value:#}\n"));
        }
        return print(&chosen.iter().map(|event| line(event, colours)).collect::<String>());
    }
    let mut shown = 0;
    loop {
        for event in events[shown..].iter().filter(wanted) {
            let text = if gateway.wants_json() { format!("{}\n", json(event)) } else { line(event, colours) };
            if !go_on_printing(&text)? {
                return Ok(());
            }
        }
        let last = events.last().cloned();
        std::thread::sleep(LOOK);
        events = gateway.read::<Events>(&call)?.events;
        let known = last.and_then(|last| events.iter().rposition(|event| *event == last));
        shown = known.map_or(0, |place| place + 1);
    }
}

fn line(event: &Event, colours: bool) -> String {
    let (mark, on, off) = match (event.trouble, colours) {
        (true, true) => ("!", "\x1b[31m", "\x1b[0m"),
        (true, false) => ("!", "", ""),
        (false, _) => (" ", "", ""),
    };
    let at = event.at.strftime("%Y-%m-%d %H:%M:%SZ");
    let mut lines = event.text.lines();
    let mut text = format!("{on}{at} {mark} {}{off}\n", lines.next().unwrap_or(&event.kind));
    for line in lines {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::sample;

    #[test]
    fn trouble_is_marked_and_reports_are_indented() {
        let event = |trouble, text: &str| Event {
            at: sample::at(0),
            kind: "rolled".to_owned(),
            service: None,
            generation: None,
            trouble,
            text: text.to_owned(),
        };
        assert_eq!(line(&event(false, "app@8 rolls"), false), "2026-11-21 05:10:00Z   app@8 rolls\n");
        assert_eq!(line(&event(true, "bad\nfile"), false), "2026-11-21 05:10:00Z ! bad\n    file\n");
        assert!(line(&event(true, "bad"), true).contains("\x1b[31m"));
        assert!(!line(&event(false, "good"), true).contains('\x1b'));
    }
}
