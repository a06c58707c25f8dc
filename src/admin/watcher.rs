//! Looks at the gateway for all who want to see changes: each second while somebody does, and once in fifteen for the
//! history.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::admin::api::{Event, History, HistoryLine, Overview, Status, moment};
use crate::admin::routes::Source;
use crate::clock;
use crate::fleet::lifecycle::Lifecycle;
use crate::ids::ServiceName;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

/// Between two looks while somebody wants to see changes.
const LOOK: Duration = Duration::from_secs(1);
/// Between two points of the history.
const POINT: Duration = Duration::from_secs(15);
/// Points that are kept: an hour.
const POINTS: usize = 240;
/// Streams of changes at one time: half of the connections, so that orders get through.
const STREAMS: usize = 32;

/// What there is to see, as JSON that is made once for all who look.
#[derive(Clone, Default)]
pub(super) struct Frame {
    pub(super) gateway: Arc<str>,
    /// In order.
    pub(super) services: Vec<(ServiceName, Arc<str>)>,
    pub(super) events: Arc<Vec<Event>>,
}

/// What the watcher shares with the routes.
#[derive(Clone)]
pub(super) struct Watched {
    shared: Arc<Shared>,
    frames: watch::Receiver<Option<Frame>>,
}

struct Shared {
    look: Notify,
    streams: Semaphore,
    history: Mutex<Past>,
}

/// The last hour.
#[derive(Default)]
struct Past {
    until: Option<jiff::Timestamp>,
    /// By service and generation, and how many points ago the last one was taken.
    lines: BTreeMap<ServiceName, BTreeMap<u64, Line>>,
}

#[derive(Default)]
struct Line {
    points: VecDeque<u64>,
    is_seen: bool,
}

/// Looks; see the module's text.
pub(super) struct Watcher {
    shared: Arc<Shared>,
    frames: watch::Sender<Option<Frame>>,
}

impl Watched {
    /// A place among those who see changes; none when as many do as may.
    pub(super) fn stream(&self) -> Option<(SemaphorePermit<'_>, watch::Receiver<Option<Frame>>)> {
        let place = self.shared.streams.try_acquire().ok()?;
        let mut frames = self.frames.clone();
        // Whatever was seen when nobody looked is old.
        frames.mark_unchanged();
        self.shared.look.notify_one();
        Some((place, frames))
    }

    /// A service's last hour.
    pub(super) fn history(&self, service: &ServiceName) -> History {
        let past = self.shared.history.lock();
        let lines = past.lines.get(service);
        let line = |(number, line): (&u64, &Line)| HistoryLine {
            number: *number,
            sessions: line.points.iter().copied().collect(),
        };
        History {
            interval_seconds: POINT.as_secs(),
            until: past.until.unwrap_or_else(|| moment(UNIX_EPOCH)),
            generations: lines.into_iter().flat_map(|lines| lines.iter().rev().map(line)).collect(),
        }
    }
}

impl Watcher {
    pub(super) fn new() -> (Self, Watched) {
        let (frames, receiver) = watch::channel(None);
        let shared =
            Arc::new(Shared { look: Notify::new(), streams: Semaphore::new(STREAMS), history: Mutex::default() });
        (Self { shared: Arc::clone(&shared), frames }, Watched { shared, frames: receiver })
    }

    /// Looks until the gateway is stopping. Dropping the future ends all streams.
    pub(super) async fn run(self, source: Arc<dyn Source>) {
        let mut point = Duration::ZERO;
        loop {
            let Some(status) = source.status().await else { return };
            let now = Duration::from_nanos(clock::monotonic_nanos());
            if now >= point {
                point = now + POINT;
                self.shared.history.lock().take(&status);
            }
            // One receiver is the one that others are cloned from.
            let is_watched = self.frames.receiver_count() > 1 && self.shared.streams.available_permits() < STREAMS;
            if is_watched {
                let Some(events) = source.events().await else { return };
                self.show(&status, events);
            }
            let pause = point.saturating_sub(now);
            tokio::select! {
                () = tokio::time::sleep(if is_watched { pause.min(LOOK) } else { pause }) => {}
                () = self.shared.look.notified() => {}
            }
        }
    }

    /// Publishes what is, and keeps what is as it was: who looks sees by that what has changed.
    fn show(&self, status: &Status, events: Vec<Event>) {
        let before = self.frames.borrow().clone().unwrap_or_default();
        let known = |name: &ServiceName| before.services.iter().find(|(known, _)| known == name);
        let services = status.services.iter().map(|service| {
            let text = json(&Overview::from(service));
            let text = known(&service.name).map(|(_, text)| text).filter(|known| ***known == *text).cloned();
            (service.name.clone(), text.unwrap_or_else(|| json(&Overview::from(service)).into()))
        });
        let events = if *before.events == events { before.events } else { Arc::new(events) };
        let frame = Frame { gateway: json(&status.gateway).into(), services: services.collect(), events };
        self.frames.send_replace(Some(frame));
    }
}

fn json(value: &impl Serialize) -> String {
    // Plain data with text keys: nothing in it can fail.
    serde_json::to_string(value).unwrap_or_default()
}

impl Past {
    fn take(&mut self, status: &Status) {
        self.until = Some(status.gateway.now);
        for line in self.lines.values_mut().flat_map(BTreeMap::values_mut) {
            line.is_seen = false;
        }
        for service in &status.services {
            let lines = self.lines.entry(service.name.clone()).or_default();
            for generation in &service.generations {
                // One that had retired before anybody looked has no history.
                if generation.state != Lifecycle::Retired || lines.contains_key(&generation.number) {
                    lines.entry(generation.number).or_default().add(generation.sessions);
                }
            }
        }
        for lines in self.lines.values_mut() {
            for line in lines.values_mut().filter(|line| !line.is_seen) {
                line.add(0);
            }
            lines.retain(|_, line| line.points.iter().any(|sessions| *sessions > 0) || line.points.len() < POINTS);
        }
        self.lines.retain(|_, lines| !lines.is_empty());
    }
}

impl Line {
    fn add(&mut self, sessions: u64) {
        self.is_seen = true;
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(sessions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::sample;

    #[test]
    fn the_last_hour_is_kept_and_no_more() {
        let mut past = Past::default();
        let mut status = sample::status();
        let name = status.services[0].name.clone();
        past.take(&status);
        status.services[0].generations[1].state = Lifecycle::Retired;
        status.services[0].generations[1].sessions = 0;
        for _ in 0..POINTS {
            past.take(&status);
        }
        let lines = &past.lines[&name];
        assert_eq!(lines.keys().copied().collect::<Vec<_>>(), [8], "what retired an hour ago is forgotten");
        assert_eq!(lines[&8].points.len(), POINTS);
        status.services.clear();
        for _ in 0..=POINTS {
            past.take(&status);
        }
        assert!(past.lines.is_empty(), "and so is a service that has left");
    }
}
