//! The events of the last day, for status and page; over restarts where the store keeps them.
//!
//! A thread of its own writes them, so that the loop waits for no disk. What waits for it is bounded by what is kept
//! anyhow: an event that a thousand later ones have overtaken need not be written any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::fleet::event::FleetEvent;
use crate::record::event::EventRecord;
use crate::store::Store;
use crate::store::events::{EventLog, Events, LIMIT};

/// Between two attempts to write what could not be written.
const PAUSE: Duration = Duration::from_secs(5);

/// How long the end waits for the disk.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Events of backends' health that are kept of one hour: those of a day leave room for the others.
const HEALTH_AN_HOUR: usize = 30;

/// How long that hour is.
const HOUR: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

#[derive(Debug)]
pub(super) struct Journal {
    events: Events,
    /// When those of the last hour came, oldest first.
    health: VecDeque<Timestamp>,
    /// How many were left out since.
    left_out: u64,
    /// `None` where nothing outlives the process.
    writer: Option<Writer>,
}

impl Journal {
    /// Goes on where the last run ended. Blocks on the store. Events are for people: if the disk does not give them,
    /// the gateway starts without.
    pub(super) fn open(store: &dyn Store, now: Timestamp) -> Self {
        let log = store.events(now).unwrap_or_else(|error| {
            tracing::warn!("the events of former runs cannot be read: {error}. Those of this run are kept in memory");
            None
        });
        let events = log.as_ref().map(|log| log.events().clone()).unwrap_or_default();
        let writer = log.and_then(|log| {
            let failed = |error| tracing::warn!(%error, "no thread for events: they are kept in memory");
            Writer::start(log).map_err(failed).ok()
        });
        Self { events, health: VecDeque::new(), left_out: 0, writer }
    }

    pub(super) fn tell(&mut self, event: &FleetEvent, at: Timestamp) {
        let mut text = event.to_string();
        if let FleetEvent::Health(_) = event {
            self.health.retain(|then| at.duration_since(*then).abs() < HOUR);
            if self.health.len() >= HEALTH_AN_HOUR {
                self.left_out += 1;
                return;
            }
            self.health.push_back(at);
            match std::mem::take(&mut self.left_out) {
                0 => {}
                count => text.push_str(&format!(" (before it, {count} such events stand in the log alone)")),
            }
        }
        self.push(EventRecord {
            at,
            kind: event.kind().to_owned(),
            service: event.service().cloned(),
            generation: event.generation().map(|generation| generation.number),
            trouble: event.is_trouble(),
            text,
        });
    }

    /// Something about the gateway as a whole.
    pub(super) fn note(&mut self, kind: &str, trouble: bool, text: String, at: Timestamp) {
        self.push(EventRecord { at, kind: kind.to_owned(), service: None, generation: None, trouble, text });
    }

    fn push(&mut self, event: EventRecord) {
        if let Some(writer) = &self.writer {
            writer.queue.push(event.clone());
            writer.thread.unpark();
        }
        self.events.push(event);
    }

    pub(super) fn list(&mut self, now: Timestamp) -> Vec<EventRecord> {
        self.events.list(now).cloned().collect()
    }

    /// Waits until all is written, for [`LAST_WAIT`] at most.
    pub(super) async fn close(&mut self) {
        let Some(mut writer) = self.writer.take() else { return };
        writer.stop();
        if tokio::time::timeout(LAST_WAIT, &mut writer.ended).await.is_err() {
            tracing::warn!("the last events could not be written in time");
        }
    }
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Queue {
    events: Mutex<VecDeque<EventRecord>>,
    stop: AtomicBool,
}

impl Queue {
    fn push(&self, event: EventRecord) {
        let mut events = self.events.lock();
        if events.len() >= LIMIT {
            events.pop_front();
        }
        events.push_back(event);
    }
}

/// The thread that writes. Dropping it ends the thread once the disk lets it, and waits for nothing.
#[derive(Debug)]
struct Writer {
    queue: Arc<Queue>,
    thread: Thread,
    ended: oneshot::Receiver<()>,
}

impl Writer {
    fn start(log: EventLog) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let (end, ended) = oneshot::channel();
        let source = Arc::clone(&queue);
        let thread = thread::Builder::new().name("events".to_owned()).spawn(move || {
            write(log, &source);
            // Nobody may be waiting any more.
            let _ = end.send(());
        })?;
        Ok(Self { queue, thread: thread.thread().clone(), ended })
    }

    fn stop(&self) {
        self.queue.stop.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write(mut log: EventLog, queue: &Queue) {
    let mut failed = false;
    loop {
        // Read first: what was queued before the end was said is written.
        let last = queue.stop.load(Ordering::Acquire);
        let events = Vec::from(std::mem::take(&mut *queue.events.lock()));
        match log.extend(events) {
            Err(error) if !failed => {
                tracing::error!("events are kept in memory only: {error}. It is tried again");
                failed = true;
            }
            Err(_) => {}
            Ok(()) if failed => {
                tracing::info!("events are written again");
                failed = false;
            }
            Ok(()) => {}
        }
        if last {
            return;
        }
        if log.owes() {
            thread::park_timeout(PAUSE);
        } else {
            thread::park();
        }
    }
}

#[cfg(test)]
mod tests;
