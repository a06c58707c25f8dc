//! The configuration: TOML files as typed, checked, usable.
//!
//! Decides: whether files make sense, and what every key that they leave out means.
//! Floor 1: imports `ids` and `clock`. Reads the files it is given and those that they name, the environment for variables
//! that they name, and the number of cores; the wall clock only to say that a moment has passed.
//! In: text. Out: a [`model::Model`], or one report with all faults of all files.
//! Invariants: behind the check no default is missing; a fault names file, line, column, key and what to write instead.

mod check;
pub mod defaults;
pub mod diff;
mod env_file;
mod gather;
mod layers;
pub mod model;
mod presets;
mod raw;
mod reader;
pub mod report;
mod selection;
mod sources;
mod spelling;
mod syntax;
mod values;
mod variables;

use std::io;
use std::sync::Arc;

use gather::Medium;
pub use gather::Reading;
use model::{Gateway, Model};
pub use presets::presets;
use report::{Faults, Place, Report};
pub use selection::{BadProfile, Profile, Selection};
use sources::Slot;
pub use variables::{Environment, Origin};

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it says, with every default filled in.
    pub model: Model,
    /// What its author may not have meant; often empty.
    pub warnings: Report,
    /// What was read.
    pub reading: Reading,
}

/// Reads and checks a file, with all that it includes, its profile's file over it, and the variables of this process.
///
/// # Errors
/// All faults of the files, or the one reason why one cannot be read. Both are the operator's to mend.
pub fn load(selection: &Selection) -> Result<Loaded, Report> {
    load_in(selection, &|name| std::env::var_os(name))
}

/// As [`load`], with variables from elsewhere.
///
/// # Errors
/// As [`load`].
pub fn load_in(selection: &Selection, environment: Environment<'_>) -> Result<Loaded, Report> {
    let faults = Faults::default();
    let Some(text) = main_text(selection, &faults)? else { return Err(told(faults, selection)) };
    whole(selection, &text, Medium::Disk, environment, faults)
}

/// The `[gateway]` table of a configuration that has faults elsewhere, perhaps: whoever wants to ask a running gateway
/// needs no more than this, least of all while a faulty file waits to be mended.
///
/// # Errors
/// The report on the files, if they cannot be read or do not say where the gateway is.
pub fn load_gateway(selection: &Selection) -> Result<Gateway, Report> {
    let report = match load(selection) {
        Ok(loaded) => return Ok(Arc::unwrap_or_clone(loaded.model.gateway)),
        Err(report) => report,
    };
    let faults = Faults::default();
    let Ok(Some(text)) = main_text(selection, &faults) else { return Err(report) };
    let environment = |name: &str| std::env::var_os(name);
    let gathered = gather::gather(selection, &text, Medium::Disk, &environment, &faults);
    let Ok(Some(gathered)) = gathered else { return Err(report) };
    let document = gather::document(&gathered.texts, &gathered.variables, &gathered.reading.file, &faults);
    let file = raw::read(&document, &faults);
    // What they leave unsaid has a default; what they say wrongly, a variable that is not set here, has none.
    if faults.concern(&["gateway", "gateway.admin", "gateway.state", "gateway.token_file"]) {
        return Err(report);
    }
    check::gateway_alone(&file).ok_or(report)
}

/// The main file's text; `None` if what is wrong with it has been reported.
fn main_text(selection: &Selection, faults: &Faults) -> Result<Option<Arc<str>>, Report> {
    let name = selection.file.display().to_string();
    match gather::bytes(&selection.file) {
        Ok(bytes) => Ok(gather::text(Slot::Main, &name, bytes, false, faults)),
        Err(error) => {
            let instead = match error.kind() {
                io::ErrorKind::IsADirectory => "name a file within it with --config",
                _ => "name another file with --config",
            };
            let help = gather::remedy(&error, instead);
            Err(Report::unreadable(&name, format!("cannot read {name}: {error}"), help))
        }
    }
}

/// Checks a text; `name` is what the report calls it. There are no other files and no variables: a text that names some
/// has a fault.
///
/// # Errors
/// All faults of the text.
pub fn parse(name: &str, text: &str) -> Result<Loaded, Report> {
    let text: Arc<str> = text.into();
    let faults = Faults::of(name, &text);
    let selection = Selection { file: name.into(), profile: None };
    whole(&selection, &text, Medium::Nothing, &|_| None, faults)
}

fn whole(
    selection: &Selection,
    text: &str,
    medium: Medium,
    environment: Environment<'_>,
    faults: Faults,
) -> Result<Loaded, Report> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        let help = "add a service: a line `[[service]]`, below it `name = \"app\"` and \
                    `backends = [\"127.0.0.1:8801\"]`";
        faults.error(&Place { span: 0..0, key: String::new() }, "the file says nothing", help);
        return Err(told(faults, selection));
    }
    let Some(gathered) = gather::gather(selection, text, medium, environment, &faults)? else {
        return Err(told(faults, selection));
    };
    let gather::Gathered { texts, variables, mut reading } = gathered;
    let model = {
        let document = gather::document(&texts, &variables, &reading.file, &faults);
        check::check(&raw::read(&document, &faults), &faults)
    };
    let warnings = faults.into_report()?;
    reading.variables = variables.used();
    match model {
        Some(model) => Ok(Loaded { model, warnings, reading }),
        None => Err(unexplained(selection)),
    }
}

/// The report on files that cannot be used.
fn told(faults: Faults, selection: &Selection) -> Report {
    faults.into_report().err().unwrap_or_else(|| unexplained(selection))
}

/// Cannot happen, as the tests try to disprove; a reload must not die of it if it does.
fn unexplained(selection: &Selection) -> Report {
    let message = format!("{selection} makes no sense to the gateway, which cannot say why");
    let help = "report this with the file: it is a fault of Tidegate".to_owned();
    Report::unreadable(&selection.file.display().to_string(), message, help)
}

/// Every table that a file may have, by its path, with every key that it may have; the file's own level is `""`.
pub fn keys() -> &'static [(&'static str, &'static [&'static str])] {
    raw::TABLES
}
