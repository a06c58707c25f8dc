//! The loop.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, mpsc as channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::effects::Saving;
use super::handle::{CAPACITY, Message, Reply};
use super::health::Checks;
use super::journal::Journal;
use super::reload::{Reloads, report};
use super::status::{ReloadFault, Status};
use super::workers::{Crew, Questions};
use super::{Handle, Loaded, Parts, ReloadError, Sessions, StartError};
use crate::clock;
use crate::config::model::Gateway;
use crate::fleet::event::{Effect, Event, FleetEvent, Moment, WorkerEvent};
use crate::fleet::gate::Bell;
use crate::fleet::roster::Roster;
use crate::ids::Slot;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// What is under way at the end has so long to end.
const LAST_TASKS: Duration = Duration::from_secs(5);

/// How often sessions expire; a fraction of the second that a retirement may be late.
const EXPIRY: Duration = Duration::from_millis(250);

/// The roster's owner and its loop; see the room's text.
pub struct Control {
    pub(super) parts: Parts,
    pub(super) roster: Roster,
    pub(super) messages: mpsc::Receiver<Message>,
    /// For tasks to report on; it also keeps the channel open when no handle is left.
    pub(super) reports: mpsc::Sender<Message>,
    pub(super) tasks: JoinSet<()>,
    pub(super) probes: HashMap<Slot, AbortHandle>,
    pub(super) checks: Checks,
    pub(super) questions: Questions,
    pub(super) saving: Saving,
    pub(super) journal: Journal,
    pub(super) reloads: Reloads,
    pub(super) loaded_at: Timestamp,
    pub(super) reload_fault: Option<ReloadFault>,
    started: Timestamp,
    /// The first file's `[gateway]` table.
    pub(super) started_with: Arc<Gateway>,
    bell: Arc<Notify>,
    /// What the first file wants done, as soon as there is a runtime.
    waiting: Vec<Effect>,
}

impl Control {
    /// Takes the last run's record and the first file, and publishes the first view: from here on the gateway may
    /// listen. Blocks on the store; needs no runtime.
    ///
    /// # Errors
    /// When the record cannot be used, or the file does not fit it.
    pub fn new(parts: Parts, loaded: Loaded) -> Result<(Self, Handle), StartError> {
        let record = parts.store.load()?;
        let bell = Arc::new(Notify::new());
        let ring: Bell = {
            let bell = Arc::clone(&bell);
            // Stores at most one permit: however many gates ring, the loop wakes once and looks at all.
            Arc::new(move || bell.notify_one())
        };
        let now = moment(&parts.clock);
        let slots = Arc::clone(parts.fleet.slots());
        let mut roster = Roster::new(Arc::clone(&loaded.model.gateway), slots, parts.threads, ring, record, now);
        if let Some(until) = roster.recovered(parts.sessions.recover(), now) {
            parts.sessions.note_unsure(until);
            let seconds = until.saturating_sub(now.millis).div_ceil(1_000);
            tracing::warn!(seconds, "unsure: sessions may be open that are not known; meanwhile nothing is retired");
        }
        let notes = roster.examine(&loaded.model).map_err(|objections| StartError::Objected(report(&objections)))?;
        for note in loaded.warnings.into_iter().chain(notes.iter().map(ToString::to_string)) {
            tracing::warn!("{note}");
        }
        let started_with = Arc::clone(&loaded.model.gateway);
        let found = parts.workers.as_ref().map(Crew::found).unwrap_or_default();
        if !found.is_empty() {
            tracing::info!(workers = found.len(), "found workers of the last run");
        }
        let mut waiting = roster.apply(Event::Worker(WorkerEvent::Found(found)), now);
        waiting.extend(roster.apply(Event::ConfigAccepted(Arc::new(loaded.model)), now));
        parts.fleet.publish(roster.view());
        let (reports, messages) = mpsc::channel(CAPACITY);
        let handle = Handle::new(reports.clone());
        let started = timestamp(now);
        let journal = Journal::open(&*parts.store, started);
        let control = Self {
            parts,
            roster,
            messages,
            reports,
            tasks: JoinSet::new(),
            probes: HashMap::new(),
            checks: Checks::default(),
            questions: Questions::default(),
            saving: Saving::default(),
            journal,
            reloads: Reloads::default(),
            loaded_at: started,
            reload_fault: None,
            started,
            started_with,
            bell,
            waiting,
        };
        Ok((control, handle))
    }

    /// Adds an event about the gateway as a whole. `kind` is one word, stable for machines; `trouble` says that
    /// somebody should look at it. It is shown among the events and not logged.
    pub fn note(&mut self, kind: &str, trouble: bool, text: String) {
        let at = self.timestamp();
        self.journal.note(kind, trouble, text, at);
    }

    /// Runs until `stop`. What is to be written down is on the disk (or said not to be) when it ends; hooks that are
    /// under way are killed, and those of retired generations run again at the next start.
    ///
    /// # Errors
    /// When the thread for expiry cannot be started.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let expiry = Expiry::start(Arc::clone(&self.parts.sessions))?;
        let effects = std::mem::take(&mut self.waiting);
        self.perform(effects);
        if let Some(crew) = &self.parts.workers {
            // What the state does not know any more is nobody's.
            crew.workers.stop_rest();
        }
        let bell = Arc::clone(&self.bell);
        let mut stop = pin!(stop);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = bell.notified() => {
                    self.feed(Event::GenerationEmptied);
                }
                Some(message) = self.messages.recv() => self.receive(message),
                event = Crew::report(&mut self.parts.workers) => {
                    self.feed(event);
                }
                saved = self.saving.finished() => self.saved(saved),
                Some(_) = self.tasks.join_next() => {}
                _ = tick.tick() => self.ticked(),
            }
        }
        self.stop_workers().await;
        // Closed first: a task that waits for room on the channel would wait for ever.
        self.messages.close();
        // What reads a file that does not answer cannot be stopped; nobody waits for it for ever.
        if tokio::time::timeout(LAST_TASKS, self.tasks.shutdown()).await.is_err() {
            tracing::warn!("ended while a file did not answer that was being read or written");
        }
        self.save_last().await;
        self.journal.close().await;
        expiry.stop();
        Ok(())
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Reload(reply) => self.reload(vec![reply]),
            Message::Preview(reply) => self.preview(reply),
            // Whoever asked may have lost patience.
            Message::Previewed(loaded, reply) => {
                drop(reply.send(loaded.map_err(ReloadError::Rejected).and_then(|loaded| self.previewed(loaded))))
            }
            Message::Output(generation, backend, reply) => drop(reply.send(self.output_of(&generation, &backend))),
            Message::Ping(reply) => drop(reply.send(())),
            Message::Reloading(step) => self.reload_stepped(step),
            Message::Happened(event) => {
                self.feed(event);
            }
            Message::Status(reply) => {
                let status = Box::new(self.status());
                self.tell_recorded(reply, status);
            }
            Message::Events(reply) => {
                let now = self.timestamp();
                let _ = reply.send(self.journal.list(now));
            }
            Message::Note { kind, trouble, text } => self.note(&kind, trouble, text),
            Message::Request(request, reply) => {
                let now = moment(&self.parts.clock);
                let granted = self.roster.request(request, now).map(|effects| self.perform(effects));
                self.tell_recorded(reply, granted);
            }
        }
    }

    /// Answers once what is so by now is written down: nobody is told of a roll that a death could undo.
    fn tell_recorded<T: Send + 'static>(&mut self, reply: Reply<T>, answer: T) {
        match self.unrecorded() {
            None => drop(reply.send(answer)),
            Some(recorded) => {
                self.tasks.spawn(async move {
                    recorded.await;
                    let _ = reply.send(answer);
                });
            }
        }
    }

    fn ticked(&mut self) {
        let now = moment(&self.parts.clock);
        if self.roster.next_deadline().is_some_and(|deadline| deadline <= now.millis) {
            self.feed(Event::TimePassed);
        }
        self.look_after_health();
        self.ask_for_work();
        self.save_again(now);
    }

    /// Hands an event to the roster and does what it asks for; what it told is given back.
    pub(super) fn feed(&mut self, event: Event) -> Vec<FleetEvent> {
        let effects = self.roster.apply(event, moment(&self.parts.clock));
        self.perform(effects)
    }

    /// Now, by the wall clock.
    pub(super) fn timestamp(&self) -> Timestamp {
        timestamp(moment(&self.parts.clock))
    }

    fn status(&self) -> Status {
        let mut services = self.roster.survey(moment(&self.parts.clock));
        self.describe_workers(&mut services);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started,
            config_file: self.parts.config_file.display().to_string(),
            loaded_at: self.loaded_at,
            reload_fault: self.reload_fault.clone(),
            state: self.parts.store.place(),
            durable: self.saving.is_durable(),
            services,
        }
    }
}

/// The present moment by both clocks.
pub(super) fn moment(clock: &clock::Clock) -> Moment {
    clock.tick();
    let wall = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Moment { millis: clock.millis(), wall: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
}

fn timestamp(now: Moment) -> Timestamp {
    i64::try_from(now.wall).ok().and_then(|wall| Timestamp::from_millisecond(wall).ok()).unwrap_or(Timestamp::MAX)
}

/// The thread on which sessions expire: it is busy for longer than a loop may be.
struct Expiry {
    stop: channel::Sender<()>,
    thread: JoinHandle<()>,
}

impl Expiry {
    fn start(sessions: Arc<dyn Sessions>) -> io::Result<Self> {
        let (stop, stopped) = channel::channel();
        let thread = std::thread::Builder::new().name("expiry".to_owned()).spawn(move || {
            while stopped.recv_timeout(EXPIRY) == Err(channel::RecvTimeoutError::Timeout) {
                sessions.expire();
            }
        })?;
        Ok(Self { stop, thread })
    }

    fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread for expiry had panicked: sessions no longer expired");
        }
    }
}
