//! `tidegate state`: what a gateway keeps on the disk. No id and no hash of one is ever shown (promise P9).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use comfy_table::Cell;
use serde::Serialize;

use crate::cli::arguments::{StateArguments, StateCommand};
use crate::cli::{Exit, Failure, print, selection, table};
use crate::config;
use crate::config::model::StatePlace;
use crate::ids::{BackendName, GenerationNumber, ServiceName};
use crate::record::fleet::{FleetRecord, StateRecord, known_as};
use crate::store::StoreError;
use crate::store::journal::FOLDER;
use crate::store::survey::{Survey, compact};

/// A generation that is gone.
const RETIRED: &str = "retired";

/// A generation or backend of which the record does not know: its sessions would be lost at a start.
const UNKNOWN: &str = "unknown";

pub(super) fn state(command: StateCommand) -> Result<(), Failure> {
    match command {
        StateCommand::Inspect(arguments) => {
            let survey = Survey::of(&directory(&arguments)?).map_err(failed)?;
            let inspection = Inspection::of(&survey);
            show(arguments.json, &inspection, || inspection.render())
        }
        StateCommand::Verify(arguments) => verify(&arguments),
        StateCommand::Compact(arguments) => shorten(&arguments),
    }
}

/// The directory that is meant.
fn directory(arguments: &StateArguments) -> Result<PathBuf, Failure> {
    if let Some(path) = &arguments.state {
        return Ok(path.clone());
    }
    let selection = selection(arguments.config.clone())?;
    match config::load_gateway(&selection).map_err(|report| Failure::report(&report))?.state {
        StatePlace::Directory(path) => Ok(path),
        StatePlace::Memory => {
            let message =
                format!("{}: `state` is \"memory\", which keeps nothing on the disk", selection.file.display());
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

fn failed(error: StoreError) -> Failure {
    let denied = matches!(&error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied);
    let hint = if denied { "\n  only the gateway's user may read it: ask as that user" } else { "" };
    let exit = if matches!(error, StoreError::Absent { .. }) { Exit::Usage } else { Exit::Failed };
    Failure::new(exit, format!("{error}{hint}"))
}

fn show<T: Serialize>(json: bool, value: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if !json {
        return print(&text());
    }
    let json = serde_json::to_string_pretty(value);
    let json = json.map_err(|error| Failure::new(Exit::Failed, format!("the answer is no JSON: {error}")))?;
    print(&format!("{json}\n"))
}

/// The answer of `verify`.
#[derive(Serialize)]
struct Verdict {
    path: String,
    whole: bool,
    /// Each place, in words.
    damage: Vec<String>,
    /// Files came and went at each attempt to read them.
    restless: bool,
}

fn verify(arguments: &StateArguments) -> Result<(), Failure> {
    let survey = Survey::of(&directory(arguments)?).map_err(failed)?;
    let damage = survey.damage();
    let verdict = Verdict { path: shown(&survey.path), whole: damage.is_empty(), damage, restless: survey.restless };
    show(arguments.json, &verdict, || {
        let mut text = String::new();
        for damage in &verdict.damage {
            push(&mut text, "! ", damage);
        }
        if verdict.whole {
            let report = &survey.bindings.report;
            let sessions = table::count(report.sessions, "session");
            text.push_str(&format!("{} is whole: {sessions}\n", verdict.path));
        }
        text
    })?;
    if verdict.whole {
        return Ok(());
    }
    let why = if verdict.restless {
        "the gateway replaced files while they were read: ask again".to_owned()
    } else {
        format!("{} is not whole", verdict.path)
    };
    Err(Failure::new(Exit::Failed, why))
}

/// The answer of `compact`.
#[derive(Serialize)]
struct Shortened {
    path: String,
    sessions: u64,
    former_ids: u64,
    /// Whether what was replaced was whole. If not, the next start is unsure.
    whole: bool,
    bytes_before: u64,
    bytes_after: u64,
}

fn shorten(arguments: &StateArguments) -> Result<(), Failure> {
    let path = directory(arguments)?;
    let (recovered, compacted) = compact(&path).map_err(|error| match error {
        StoreError::Held { pid, .. } => {
            let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            let path = path.display();
            let message = format!("a gateway{pid} runs on {path}: it makes snapshots by itself; stop it first");
            Failure::new(Exit::Failed, message)
        }
        error => failed(error),
    })?;
    let report = &recovered.report;
    let shortened = Shortened {
        path: shown(&path),
        sessions: report.sessions,
        former_ids: report.formers,
        whole: report.is_whole(),
        bytes_before: compacted.before,
        bytes_after: compacted.after,
    };
    show(arguments.json, &shortened, || {
        let (before, after) = (table::size(compacted.before), table::size(compacted.after));
        let sessions = table::count(report.sessions, "session");
        let formers = table::count(report.formers, "former id");
        let mut text = format!("{}: {sessions} and {formers} in {after}, {before} before\n", shortened.path);
        if !shortened.whole {
            push(&mut text, "! ", "the files were not whole: the snapshot says so, and the next start is unsure");
        }
        text
    })
}

/// The answer of `inspect`.
#[derive(Serialize)]
struct Inspection {
    path: String,
    whole: bool,
    damage: Vec<String>,
    restless: bool,
    record: Record,
    bindings: Bindings,
    /// Every backend of the record, and every other one to which something is bound.
    backends: Vec<Row>,
    files: Vec<File>,
}

/// The record of services and generations.
#[derive(Serialize)]
struct Record {
    services: u64,
    /// Generations that are gone and whose numbers are kept.
    retired: u64,
}

/// The log of bindings.
#[derive(Serialize)]
struct Bindings {
    sessions: u64,
    former_ids: u64,
    /// Sessions that are lost because their backend's name is.
    unnamed: u64,
    /// Seconds for which gateways have run on this state.
    clock_seconds: u32,
    /// Seconds for which the next start is unsure, whatever else it finds.
    unsure_for_seconds: u32,
    records: BTreeMap<&'static str, u64>,
    /// Of kinds that a newer program writes.
    unknown_records: u64,
    damaged_bytes: u64,
    /// Cut off at the end of a log because its writer died; no damage.
    torn_bytes: u64,
}

#[derive(Serialize)]
struct Row {
    service: ServiceName,
    generation: GenerationNumber,
    state: &'static str,
    backend: BackendName,
    sessions: u64,
    former_ids: u64,
}

#[derive(Serialize)]
struct File {
    name: String,
    bytes: u64,
    /// Whether the next start reads it.
    used: bool,
}

type Place = (ServiceName, GenerationNumber, BackendName);

impl Inspection {
    fn of(survey: &Survey) -> Self {
        let (report, damage) = (&survey.bindings.report, survey.damage());
        let none = FleetRecord::default();
        let record = survey.record.as_ref().ok().and_then(Option::as_ref).unwrap_or(&none);
        let mut files: Vec<File> = report
            .files
            .iter()
            .map(|file| File { name: format!("{FOLDER}/{}", file.name), bytes: file.bytes, used: file.used })
            .collect();
        if survey.record_bytes > 0 {
            let used = matches!(survey.record, Ok(Some(_)));
            files.insert(0, File { name: "fleet".to_owned(), bytes: survey.record_bytes, used });
        }
        Self {
            path: shown(&survey.path),
            whole: damage.is_empty(),
            damage,
            restless: survey.restless,
            record: Record {
                services: record.services.len() as u64,
                retired: record.services.iter().map(|service| service.past.len() as u64).sum(),
            },
            bindings: Bindings {
                sessions: report.sessions,
                former_ids: report.formers,
                unnamed: report.unnamed,
                clock_seconds: survey.bindings.now.0,
                unsure_for_seconds: survey.bindings.unsure_until.since(survey.bindings.now),
                records: report.records.clone(),
                unknown_records: report.unknown,
                damaged_bytes: report.damaged_bytes,
                torn_bytes: report.torn_bytes,
            },
            backends: rows(record, survey),
            files,
        }
    }

    fn render(&self) -> String {
        let bindings = &self.bindings;
        let sessions = table::count(bindings.sessions, "session");
        let formers = table::count(bindings.former_ids, "former id");
        let whole = if self.whole { "whole" } else { "not whole" };
        let clock = table::span(u64::from(bindings.clock_seconds));
        let mut text = format!("state {}, {whole}\n{sessions}, {formers}\n", self.path);
        push(&mut text, "", &format!("gateways have run on it for {clock}"));
        if bindings.unsure_for_seconds > 0 {
            let rest = table::span(u64::from(bindings.unsure_for_seconds));
            push(&mut text, "! ", &format!("unsure for another {rest}: an earlier start could not recover everything"));
        }
        self.damage.iter().for_each(|damage| push(&mut text, "! ", damage));
        if self.restless {
            push(&mut text, "! ", "the gateway replaced files while they were read: ask again");
        }
        if bindings.torn_bytes > 0 {
            let torn = table::count(bindings.torn_bytes, "byte");
            push(
                &mut text,
                "",
                &format!("the last record, of {torn} so far, is not finished: a gateway died there, or writes it"),
            );
        }
        if !self.backends.is_empty() {
            text.push('\n');
            text.push_str(&self.backend_table());
        }
        let retired = table::count(self.record.retired, "retired generation");
        text.push_str(&format!("{} and {retired} in the record\n", table::count(self.record.services, "service")));
        let mut records = table::plain();
        records.set_header(["RECORDS", "COUNT"]);
        for (kind, count) in &bindings.records {
            records.add_row([Cell::new(kind), table::number(*count)]);
        }
        if bindings.unknown_records > 0 {
            records.add_row([Cell::new("of a newer version"), table::number(bindings.unknown_records)]);
        }
        let mut files = table::plain();
        files.set_header(["FILE", "BYTES", ""]);
        for file in &self.files {
            let note = if file.used { "" } else { "not used" };
            files.add_row([Cell::new(&file.name), table::number(file.bytes), Cell::new(note)]);
        }
        text + "\n" + &table::lines(&records) + "\n" + &table::lines(&files)
    }

    fn backend_table(&self) -> String {
        let mut backends = table::plain();
        backends.set_header(["SERVICE", "GENERATION", "STATE", "SESSIONS", "FORMER", "BACKEND"]);
        for row in &self.backends {
            backends.add_row([
                Cell::new(row.service.as_str()),
                table::number(row.generation.0),
                Cell::new(row.state),
                table::number(row.sessions),
                table::number(row.former_ids),
                Cell::new(row.backend.as_str()),
            ]);
        }
        table::lines(&backends)
    }
}

/// The record's backends and those of the bindings, in one list.
fn rows(record: &FleetRecord, survey: &Survey) -> Vec<Row> {
    let mut known: BTreeMap<Place, (&'static str, u64, u64)> = BTreeMap::new();
    for service in &record.services {
        for generation in &service.generations {
            for backend in &generation.backends {
                let known_as = known_as(&backend.name, &backend.address, backend.prefix.as_deref());
                let place = (service.name.clone(), generation.number, known_as);
                known.insert(place, (word(generation.state), 0, 0));
            }
        }
    }
    let retired = |service: &ServiceName, number: GenerationNumber| {
        let service = record.services.iter().find(|one| one.name == *service);
        service.is_some_and(|service| service.past.iter().any(|past| past.number == number))
    };
    for (slot, (sessions, formers)) in survey.bindings.by_slot() {
        let state = if retired(&slot.service, slot.generation) { RETIRED } else { UNKNOWN };
        let place = (slot.service.clone(), slot.generation, slot.backend.clone());
        let row = known.entry(place).or_insert((state, 0, 0));
        (row.1, row.2) = (row.1 + sessions, row.2 + formers);
    }
    let row = |((service, generation, backend), (state, sessions, former_ids))| Row {
        service,
        generation,
        state,
        backend,
        sessions,
        former_ids,
    };
    known.into_iter().map(row).collect()
}

fn word(state: StateRecord) -> &'static str {
    match state {
        StateRecord::Starting => "starting",
        StateRecord::Ready => "ready",
        StateRecord::Active => "active",
        StateRecord::Detached => "detached",
        StateRecord::Retiring => "retiring",
        StateRecord::Failed => "failed",
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn push(text: &mut String, mark: &str, sentence: &str) {
    for line in table::wrapped(mark, sentence) {
        text.push_str(&line);
        text.push('\n');
    }
}

#[cfg(test)]
mod tests;
