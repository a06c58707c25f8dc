//! A reload: read, examine, bind, and only then apply. Whatever fails before leaves no trace.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::handle::{Message, Reply};
use super::status::ReloadFault;
use super::{Control, Loaded, Prepared, ReloadError};
use crate::config::diff::needs_restart;
use crate::config::model::Gateway;
use crate::fleet::event::{Event, FleetEvent, Objection};
use crate::fleet::roster::Preview;

/// What an accepted reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadSummary {
    /// What happened, in sentences; empty when the file is as it was. A roll has only begun by now.
    pub changes: Vec<String>,
    /// What in the file does less than it seems to.
    pub notes: Vec<String>,
}

/// How far a reload's task has come.
pub(super) enum Step {
    /// The file was read and checked.
    Loaded(Result<Loaded, String>),
    /// Its listeners are bound.
    Prepared(Loaded, io::Result<Box<dyn Prepared>>),
}

/// Who waits for a reload.
pub(super) type Waiting = Vec<Reply<Result<ReloadSummary, ReloadError>>>;

/// The reload under way and the one after it: any number of requests make at most these two.
#[derive(Default)]
pub(super) struct Reloads {
    current: Option<Waiting>,
    next: Option<Waiting>,
}

impl Control {
    pub(super) fn reload(&mut self, replies: Waiting) {
        if self.reloads.current.is_some() {
            // The one under way may have read the file before it was changed.
            self.reloads.next.get_or_insert_default().extend(replies);
            return;
        }
        self.reloads.current = Some(replies);
        let load = Arc::clone(&self.parts.load);
        self.task_blocking(move || Message::Reloading(Step::Loaded(load.load())));
    }

    /// Reads the file and comes back with [`Message::Previewed`].
    pub(super) fn preview(&mut self, reply: Reply<Result<ReloadSummary, ReloadError>>) {
        let load = Arc::clone(&self.parts.load);
        self.task_blocking(move || Message::Previewed(load.load(), reply));
    }

    pub(super) fn previewed(&self, loaded: Loaded) -> Result<ReloadSummary, ReloadError> {
        let preview = self.roster.preview(&loaded.model);
        let Preview { changes, notes } = preview.map_err(|objections| ReloadError::Rejected(report(&objections)))?;
        let restart = self.needs_restart_for(&loaded.model.gateway);
        let notes = notes.iter().map(ToString::to_string);
        Ok(ReloadSummary { changes, notes: loaded.warnings.into_iter().chain(notes).chain(restart).collect() })
    }

    pub(super) fn reload_stepped(&mut self, step: Step) {
        match step {
            Step::Loaded(Err(report)) => self.reject(report),
            Step::Loaded(Ok(loaded)) => {
                if let Err(objections) = self.roster.examine(&loaded.model) {
                    self.reject(misfit(&objections));
                    return;
                }
                let front = Arc::clone(&self.parts.front);
                self.task_blocking(move || {
                    let prepared = front.prepare(&loaded.model);
                    Message::Reloading(Step::Prepared(loaded, prepared))
                });
            }
            Step::Prepared(_, Err(error)) => self.reject(format!("the file is right, but its listeners fail: {error}")),
            // Examined again: a generation may have retired while the listeners were bound.
            Step::Prepared(loaded, Ok(prepared)) => match self.roster.examine(&loaded.model) {
                Err(objections) => self.reject(misfit(&objections)),
                Ok(notes) => {
                    let told = self.feed(Event::ConfigAccepted(Arc::new(loaded.model)));
                    prepared.commit();
                    let notes = notes.iter().map(ToString::to_string);
                    let notes = loaded
                        .warnings
                        .into_iter()
                        .chain(notes)
                        .chain(self.needs_restart_for(self.roster.gateway()))
                        .collect();
                    self.accept(&told, notes);
                }
            },
        }
    }

    /// What in the accepted file is read at a start only, and differs from what this process started with.
    fn needs_restart_for(&self, gateway: &Gateway) -> impl Iterator<Item = String> + use<> {
        needs_restart(&self.started_with, gateway)
            .map(|key| format!("[gateway] {key} changed; it takes effect at the next start"))
    }

    fn accept(&mut self, told: &[FleetEvent], notes: Vec<String>) {
        let summary = ReloadSummary { changes: told.iter().map(ToString::to_string).collect(), notes };
        for note in &summary.notes {
            tracing::warn!("{note}");
        }
        if summary.changes.is_empty() {
            tracing::info!(file = %self.parts.config_file.display(), "reloaded: nothing changed");
        } else {
            tracing::info!(file = %self.parts.config_file.display(), changes = summary.changes.len(), "reloaded");
        }
        self.loaded_at = self.timestamp();
        self.reload_fault = None;
        self.answer(&Ok(summary));
    }

    fn reject(&mut self, report: String) {
        tracing::error!("reload rejected, nothing changed:\n{report}");
        let at = self.timestamp();
        self.journal.note("reload_rejected", true, report.clone(), at);
        self.reload_fault = Some(ReloadFault { at, report: report.clone() });
        self.answer(&Err(ReloadError::Rejected(report)));
    }

    fn answer(&mut self, result: &Result<ReloadSummary, ReloadError>) {
        for reply in self.reloads.current.take().into_iter().flatten() {
            // Whoever asked may have gone.
            let _ = reply.send(result.clone());
        }
        if let Some(next) = self.reloads.next.take() {
            self.reload(next);
        }
    }
}

/// All objections as one text.
pub(super) fn report(objections: &[Objection]) -> String {
    objections.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The same for a gateway that runs: the file would not do for its next start either.
fn misfit(objections: &[Objection]) -> String {
    format!("{}\nmend the file before a restart: a start with it is refused as well", report(objections))
}
