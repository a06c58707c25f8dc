//! The bindings of the last run: out of the log and into the table, before anything listens.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::admin::api;
use crate::clock::{Clock, Seconds};
use crate::config::model::{Gateway, StatePlace, StateSync};
use crate::control::{Handle, Sessions};
use crate::daemon::source::DurabilityStatus;
use crate::fleet::backend::Backend;
use crate::fleet::roster::Bindings;
use crate::fleet::slots::Slots;
use crate::ids::{BackendName, GenerationId, Slot};
use crate::record::binding::Fact;
use crate::record::segment::KeyId;
use crate::session::scope::{Scope, Scopes};
use crate::session::table::{Closing, Restored, Table};
use crate::store::StoreError;
use crate::store::journal::{
    FOLDER, Journal, JournalStatus, Live, Options, Recovered, Report, ScopeName, SlotName, Sync,
};
use crate::store::run::{Doubt, Run};

/// How often somebody asks whether the log of bindings is durable.
const WATCH: Duration = Duration::from_millis(100);

/// The log of bindings has so long to take its last facts when the gateway ends.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The log of bindings and what it held at the start.
pub(super) struct Opened {
    pub(super) clock: Clock,
    pub(super) journal: Option<Arc<Journal>>,
    recovered: Option<Recovered>,
    run: Option<Run>,
    doubt: Option<Doubt>,
}

impl Opened {
    /// Opens the log that `gateway.state` says, `key` being the one of the hashes. Its clock goes on where it stood.
    ///
    /// # Errors
    /// When it cannot be read or is one of a newer program.
    pub(super) fn open(gateway: &Gateway, key: &[u8; 16]) -> Result<Self, StoreError> {
        let StatePlace::Directory(state) = &gateway.state else {
            return Ok(Self { clock: Clock::boot(), journal: None, recovered: None, run: None, doubt: None });
        };
        let sync = match gateway.state_sync {
            StateSync::Always => Sync::Always,
            StateSync::Every(period) => Sync::Every(period),
        };
        let (run, doubt) = Run::begin(state, sync == Sync::Always)?;
        let options = Options { sync, wait: gateway.state_wait, ..Options::new(KeyId::of(key)) };
        let mut clock = None;
        let (recovered, journal) = Journal::open(&state.join(FOLDER), options, |recovered| {
            clock.insert(Clock::boot_at(recovered.now)).clone()
        })?;
        tell(&recovered.report, state);
        if let Some(doubt) = doubt {
            tracing::error!(state = %state.display(), "{}", doubt.reason());
        }
        let clock = clock.unwrap_or_else(Clock::boot);
        Ok(Self { clock, journal: Some(Arc::new(journal)), recovered: Some(recovered), run: Some(run), doubt })
    }
}

/// What the log had to say of itself.
fn tell(report: &Report, state: &Path) {
    if report.complete {
        return;
    }
    let state = state.display();
    for note in &report.notes {
        tracing::error!(%state, "the log of bindings: {note}");
    }
    tracing::error!(
        %state,
        sessions = report.sessions,
        damaged_bytes = report.damaged_bytes,
        "the log of bindings is not whole: what could be read of it is used"
    );
}

fn lost(sessions: u64) -> String {
    format!(
        "{sessions} sessions were lost: the state does not know their generation, or its backend, any more; they start over"
    )
}

/// The session table as control knows it.
pub(super) struct TableSessions {
    table: Arc<Table>,
    scopes: Arc<Scopes>,
    slots: Arc<Slots>,
    journal: Option<Arc<Journal>>,
    run: Mutex<Option<Run>>,
    doubt: Option<Doubt>,
    recovered: Mutex<Option<Recovered>>,
    start: OnceLock<Start>,
}

/// What a start found of the run before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Start {
    /// There was nothing at all.
    pub(super) fresh: bool,
    /// The log was whole.
    pub(super) complete: bool,
    /// What became of what was in it.
    pub(super) restored: Restored,
}

impl TableSessions {
    pub(super) fn new(table: Arc<Table>, scopes: Arc<Scopes>, slots: Arc<Slots>, opened: Opened) -> Self {
        let Opened { journal, recovered, run, doubt, .. } = opened;
        let (run, recovered, start) = (Mutex::new(run), Mutex::new(recovered), OnceLock::new());
        Self { table, scopes, slots, journal, run, doubt, recovered, start }
    }

    /// What is to be remembered of the start among the events, each with whether somebody should look at it.
    pub(super) fn notes(&self) -> Vec<(&'static str, bool, String)> {
        let Some(Start { fresh, complete, restored }) = self.start.get().copied() else { return Vec::new() };
        let mut notes = Vec::new();
        if let Some(doubt) = self.doubt {
            notes.push(("bindings_doubted", true, doubt.reason().to_owned()));
        } else if !fresh && !complete {
            let text = "the log of bindings was damaged: sessions may be open that are not known".to_owned();
            notes.push(("bindings_damaged", true, text));
        }
        if restored.lost > 0 {
            notes.push(("sessions_lost", true, lost(restored.lost)));
        }
        if restored.sessions > 0 {
            let is_one = restored.sessions == 1;
            let verb = if is_one { "session of the last run is" } else { "sessions of the last run are" };
            let text = format!("{} {verb} open", restored.sessions);
            notes.push(("sessions_recovered", false, text));
        }
        notes
    }

    /// How it goes; `undurable` answers did not wait for the disk any longer.
    pub(super) fn status(&self, undurable: u64) -> DurabilityStatus {
        let Some(journal) = &self.journal else {
            let why = "with state = \"memory\" a restart forgets all sessions and generations".to_owned();
            return DurabilityStatus { durable: false, why: Some(why), ..DurabilityStatus::default() };
        };
        let status = self.durability(journal);
        let recovered = self.start.get().filter(|start| !start.fresh).map(|start| api::Recovered {
            sessions: start.restored.sessions,
            lost: start.restored.lost,
            complete: start.complete,
        });
        DurabilityStatus {
            durable: status.durable,
            why: status.why,
            undurable,
            recovered,
            log_bytes: status.log_bytes,
            snapshot_bytes: status.snapshot_bytes,
        }
    }

    /// How the log goes. The word that a death now would cost bindings is left, or taken back, before anybody is told.
    fn durability(&self, journal: &Journal) -> JournalStatus {
        let mut run = self.run.lock();
        let status = journal.status();
        if let Some(run) = &mut *run {
            run.raise(!status.durable);
        }
        status
    }

    /// Keeps among the events when the log of bindings ceased to be durable, and when it was so again. Never ends.
    pub(super) async fn watch(self: Arc<Self>, handle: Handle) {
        let Some(journal) = self.journal.clone() else { return };
        let (mut durable, mut stalled) = (true, false);
        loop {
            tokio::time::sleep(WATCH).await;
            let status = self.durability(&journal);
            // Of all else the journal says so by itself.
            match (stalled, status.stalled) {
                (false, Some(_)) => tracing::error!("new sessions are not durable: the disk does not answer"),
                (true, None) => tracing::info!("the disk answers again"),
                _ => {}
            }
            stalled = status.stalled.is_some();
            if std::mem::replace(&mut durable, status.durable) == status.durable {
                continue;
            }
            let (kind, text) = match status.why {
                _ if status.durable => ("bindings_durable", "new sessions are durable again".to_owned()),
                why => ("bindings_not_durable", why.unwrap_or_else(|| "the disk does not answer".to_owned())),
            };
            if handle.note(kind, !status.durable, text).await.is_err() {
                return;
            }
        }
    }

    /// Writes down what is left to write, now that nobody changes anything any more.
    pub(super) fn close(&self) {
        let Some(journal) = &self.journal else { return };
        if !journal.close(LAST_WAIT) {
            tracing::warn!("the last bindings could not be written in time: the disk does not answer");
        } else if !journal.status().durable {
            tracing::warn!("the last bindings could not be written: the next start will be unsure");
        } else if let Some(run) = &*self.run.lock()
            && let Err(error) = run.end()
        {
            tracing::warn!(%error, "cannot note that the gateway has ended in order");
        }
    }

    fn restore(&self, recovered: Recovered) -> Start {
        let mut report = recovered.report;
        let mut backends: HashMap<(GenerationId, BackendName), Arc<Backend>> = HashMap::new();
        for backend in self.slots.snapshot().into_iter().flatten() {
            backends.insert((backend.generation.clone(), backend.known_as()), backend);
        }
        let place = |name: &SlotName| {
            let generation = GenerationId { service: name.service.clone(), number: name.generation };
            backends.get(&(generation, name.backend.clone())).cloned()
        };
        let named: Vec<Option<Arc<Backend>>> = recovered.slots.iter().map(place).collect();
        let scope = |name: ScopeName| self.scopes.intern(Some(&Scope { domain: name.domain, path: name.path }));
        let scopes: Vec<u16> = recovered.scopes.into_iter().map(scope).collect();
        let mut restored = self.table.restore(recovered.entries, &named, &scopes);
        restored.lost += std::mem::take(&mut report.unnamed);
        Start { fresh: report.fresh, complete: report.complete && self.doubt.is_none(), restored }
    }
}

impl Sessions for TableSessions {
    fn recover(&self) -> Bindings {
        let Some(recovered) = self.recovered.lock().take() else { return Bindings::Incomplete };
        let unsure_until = recovered.unsure_until;
        let start = self.restore(recovered);
        let Restored { sessions, lost, ended, .. } = start.restored;
        if sessions > 0 {
            tracing::info!(sessions, "recovered the sessions of the last run");
        }
        if lost > 0 {
            tracing::warn!("{}", self::lost(lost));
        }
        let _ = self.start.set(start);
        if let Some(journal) = &self.journal {
            let live: Arc<dyn Live> = Arc::<Table>::clone(&self.table);
            journal.attach(Arc::downgrade(&live));
            if lost + ended > 0 {
                // Else the next start would count them again.
                journal.renew();
            }
        }
        match (start.fresh, start.complete) {
            // A state without any log has had one, unless it is a first start, at which there is nothing to be unsure of.
            (true, _) | (_, false) => Bindings::Incomplete,
            _ if unsure_until > Seconds(0) => Bindings::UnsureUntil(u64::from(unsure_until.0) * 1_000),
            _ => Bindings::Whole,
        }
    }

    fn note_unsure(&self, until: u64) {
        let until = Seconds(u32::try_from(until.div_ceil(1_000)).unwrap_or(u32::MAX));
        if let Some(journal) = &self.journal {
            journal.append(&[Fact::Unsure { until }]);
        }
    }

    fn expire(&self) {
        self.table.expire();
    }

    fn close_slots(&self, slots: &[Slot]) {
        self.table.close_slots(slots, Closing::Drained);
    }

    fn lose_slots(&self, slots: &[Slot]) {
        let lost = self.table.lose_slots(slots);
        tracing::debug!(sessions = lost, "let go of the sessions of workers that are gone");
    }

    fn expire_unconfirmed(&self) {
        self.table.expire_unconfirmed();
    }

    fn rearm(&self) {
        self.table.rearm();
    }
}
