//! The TOML file: as typed, checked, usable.
//!
//! Decides: whether a file makes sense, and what every key that it leaves out means.
//! Floor 1: imports `ids` and `clock`. Reads the file it is given and the number of cores;
//! the wall clock only to say that a moment has passed.
//! In: text. Out: a [`model::Model`], or one report with all faults of the file.
//! Invariants: behind the check no default is missing; a fault names file, line, column, key and what to write instead.

mod check;
pub mod defaults;
pub mod diff;
pub mod model;
mod presets;
mod raw;
mod reader;
pub mod report;
mod spelling;
mod syntax;
mod values;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use model::{Gateway, Model};
pub use presets::presets;
use report::{Faults, Place, Report};

/// A file that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it says, with every default filled in.
    pub model: Model,
    /// What its author may not have meant; often empty.
    pub warnings: Report,
}

/// Bytes that a configuration may have; a longer file is not one.
const MAX_SIZE: u64 = 1 << 20;

/// Reads and checks a file.
///
/// # Errors
/// All faults of the file, or the one reason why it cannot be read. Both are the operator's to mend.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    let name = path.display().to_string();
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let help = match error.kind() {
                io::ErrorKind::NotFound => "create it, or name another file with --config",
                io::ErrorKind::PermissionDenied => "let the gateway's user read it and enter its directories",
                io::ErrorKind::IsADirectory => "name a file within it with --config",
                io::ErrorKind::FileTooLarge => "a configuration has at most 1 MiB; name the right file with --config",
                _ => "check the path, or name another file with --config",
            };
            return Err(Report::unreadable(&name, format!("cannot read {name}: {error}"), help.to_owned()));
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => parse(&name, &text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text: Arc<str> = String::from_utf8_lossy(error.as_bytes()).into();
            let faults = Faults::default();
            let place = Place { span: at..at + '\u{fffd}'.len_utf8(), key: String::new() };
            faults.error(&place, "this is not UTF-8", "save the file in the encoding UTF-8");
            Err(faults.into_report(&name, &text).expect_err("a fault was reported just above"))
        }
    }
}

/// The `[gateway]` table of a file that has faults elsewhere, perhaps: whoever wants to ask a running gateway needs no
/// more than this, least of all while a faulty file waits to be mended.
///
/// # Errors
/// The report on the file, if it cannot be read or does not say where the gateway is.
pub fn load_gateway(path: &Path) -> Result<Gateway, Report> {
    let report = match load(path) {
        Ok(loaded) => return Ok(Arc::unwrap_or_clone(loaded.model.gateway)),
        Err(report) => report,
    };
    let Ok(text) = std::fs::read_to_string(path) else { return Err(report) };
    let faults = Faults::default();
    let Some(sound) = syntax::mend(&text, &faults) else { return Err(report) };
    let (document, _) = DeTable::parse_recoverable(&sound);
    check::gateway_alone(&raw::read(&document, &faults)).ok_or(report)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 1 MiB"));
    }
    Ok(bytes)
}

/// Checks a text; `name` is what the report calls it.
///
/// # Errors
/// All faults of the text.
pub fn parse(name: &str, text: &str) -> Result<Loaded, Report> {
    let faults = Faults::default();
    let model = model(text, &faults);
    let warnings = faults.into_report(name, &text.into())?;
    match model {
        Some(model) => Ok(Loaded { model, warnings }),
        // Cannot happen, as the tests try to disprove; a reload must not die of it if it does.
        None => {
            let message = format!("{name} makes no sense to the gateway, which cannot say why");
            Err(Report::unreadable(name, message, "report this with the file: it is a fault of Tidegate".to_owned()))
        }
    }
}

fn model(text: &str, faults: &Faults) -> Option<Model> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        let help = "add a service: a line `[[service]]`, below it `name = \"app\"` and \
                    `backends = [\"127.0.0.1:8801\"]`";
        faults.error(&Place { span: 0..0, key: String::new() }, "the file says nothing", help);
        return None;
    }
    let sound = syntax::mend(text, faults)?;
    let (document, _) = DeTable::parse_recoverable(&sound);
    check::check(&raw::read(&document, faults), faults)
}

/// Every table that a file may have, by its path, with every key that it may have; the file's own level is `""`.
pub fn keys() -> &'static [(&'static str, &'static [&'static str])] {
    raw::TABLES
}
