//! The files that a configuration is made of, found and read: the main one, those that it includes, its profile's, and
//! those that hold variables.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};
use toml::de::DeValue;

use super::layers::{self, Document};
use super::raw;
use super::reader::{At, Kind, Table, refuse};
use super::report::{Faults, Place, Report, shown};
use super::selection::Selection;
use super::sources::{MAX_INCLUDED, MAX_SIZE, Slot};
use super::variables::{Environment, Origin, Variables};
use super::{env_file, syntax};

/// Bytes of all included files together.
const MAX_TOTAL: usize = 8 * MAX_SIZE;
/// Files of variables.
const MAX_VARIABLES: usize = 16;

/// The files behind a configuration, and the variables that it uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The file that was asked for.
    pub file: String,
    /// The profile's, laid over all others.
    pub overlay: Option<String>,
    /// The included ones, in their order.
    pub included: Vec<String>,
    /// Those with variables.
    pub variables_files: Vec<String>,
    /// Each variable in use, with where its value is from.
    pub variables: BTreeMap<String, Origin>,
}

/// Texts that can be parsed, by their slots, main file first; and what fills their variables.
pub(super) struct Gathered<'e> {
    pub(super) texts: Vec<(Slot, String)>,
    pub(super) variables: Variables<'e>,
    /// Its `variables` are known only when all texts are filled.
    pub(super) reading: Reading,
}

/// Where files come from.
#[derive(Clone, Copy)]
pub(super) enum Medium {
    /// The disk.
    Disk,
    /// Nowhere: there is one text and no other.
    Nothing,
}

const INCLUDE: Kind<String> =
    Kind { noun: "a path or a pattern", example: "[\"services/*.toml\"]", unit: "", parse: include };
const ENV_FILE: Kind<String> = Kind { noun: "a path", example: "\"tidegate.env\"", unit: "", parse: env_path };

fn include(text: &str) -> Result<String, super::reader::Refusal> {
    let path = env_path(text)?;
    if text.contains("**") {
        return refuse(format!("{} looks into any number of folders", shown(text)), "name each folder: \"*/*.toml\"");
    }
    match Pattern::new(text) {
        Ok(_) => Ok(path),
        Err(error) => {
            let help = "write `*` for any letters, `?` for one, `[ab]` for one of several";
            refuse(format!("{} is not a pattern: {}", shown(text), error.msg), help)
        }
    }
}

fn env_path(text: &str) -> Result<String, super::reader::Refusal> {
    match text.is_empty() || text.contains('\0') {
        true => refuse(format!("{} is not a path", shown(text)), "write a path, relative to the folder of this file"),
        false => Ok(text.to_owned()),
    }
}

/// Opens a file to read it; a pipe or a device, of which nobody knows when it will answer, is refused.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    match file.metadata()?.file_type() {
        // Of a folder, the reading says that it is one.
        kind if kind.is_file() || kind.is_dir() => Ok(file),
        _ => Err(io::Error::other("it is no ordinary file")),
    }
}

/// A file's bytes, if it is not too long.
pub(super) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 1 MiB"));
    }
    Ok(bytes)
}

/// What to do about a file that cannot be read.
pub(super) fn remedy(error: &io::Error, instead: &str) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("create it, or {instead}"),
        io::ErrorKind::PermissionDenied => "let the gateway's user read it and enter its directories".to_owned(),
        io::ErrorKind::IsADirectory => instead.to_owned(),
        io::ErrorKind::FileTooLarge => format!("a configuration's file has at most 1 MiB; {instead}"),
        _ => format!("check the path, or {instead}"),
    }
}

/// Finds and reads all files. Everything that is wrong with them is reported, and the rest gathered nevertheless.
///
/// # Errors
/// The report on a profile's file that cannot be read at all; the main file's text is here already.
pub(super) fn gather<'e>(
    selection: &Selection,
    text: &str,
    medium: Medium,
    environment: Environment<'e>,
    faults: &Faults,
) -> Result<Option<Gathered<'e>>, Report> {
    let name = selection.file.display().to_string();
    let mut gathering = Gathering {
        selection,
        medium,
        faults,
        total: 0,
        seen: HashSet::new(),
        own: selection.overlay().iter().chain([&selection.file]).filter_map(|path| path.canonicalize().ok()).collect(),
        all: Gathered {
            texts: Vec::new(),
            variables: Variables::new(environment),
            reading: Reading { file: name, ..Reading::default() },
        },
    };
    let Some(sound) = syntax::mend(text, 0, faults) else { return Ok(None) };
    gathering.all.texts.push((Slot::Main, sound.into_owned()));
    if let Some(path) = selection.overlay() {
        gathering.overlay(&path)?;
    }
    gathering.rest();
    Ok(Some(gathering.all))
}

struct Gathering<'g, 'e> {
    selection: &'g Selection,
    medium: Medium,
    faults: &'g Faults,
    /// Bytes of the included files so far.
    total: usize,
    /// The real paths of what is included.
    seen: HashSet<PathBuf>,
    /// Those of the main file and the profile's, which may not be.
    own: Vec<PathBuf>,
    all: Gathered<'e>,
}

impl Gathering<'_, '_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.medium {
            Medium::Disk => bytes(path),
            Medium::Nothing => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn overlay(&mut self, path: &Path) -> Result<(), Report> {
        let name = path.display().to_string();
        match self.read(path) {
            Ok(bytes) => {
                self.take(Slot::Overlay, &name, bytes);
                self.all.reading.overlay = Some(name);
                Ok(())
            }
            Err(error) => {
                let profile = self.selection.profile.as_ref().map(ToString::to_string).unwrap_or_default();
                let message = format!("cannot read {name}, the file of the profile {profile}: {error}");
                Err(Report::unreadable(&name, message, remedy(&error, "name another profile with --profile")))
            }
        }
    }

    /// Takes in a file's text, if it is one; what is wrong with it is reported.
    fn take(&mut self, slot: Slot, name: &str, bytes: Vec<u8>) {
        if let Some(text) = text(slot, name, bytes, false, self.faults)
            && let Some(sound) = syntax::mend(&text, slot.base(), self.faults)
        {
            self.all.texts.push((slot, sound.into_owned()));
        }
    }

    /// What the main file or its profile's names. A key that stands in the profile's counts there.
    fn rest(&mut self) {
        let mut texts = std::mem::take(&mut self.all.texts);
        {
            let documents: Vec<Document<'_>> = texts.iter().map(|(slot, text)| layers::parse(text, *slot)).collect();
            // The environment alone says where more variables are.
            for (place, path) in self.named(&documents, "env_file", &ENV_FILE) {
                self.variables(&place, &path);
            }
            for (place, pattern) in self.named(&documents, "include", &INCLUDE) {
                self.include(&place, &pattern);
            }
        }
        // The main file first, the profile's last.
        texts.append(&mut self.all.texts);
        self.all.texts = texts;
        self.all.texts.sort_by_key(|(slot, _)| *slot);
    }

    /// The paths under a key, each with its place.
    fn named(&self, documents: &[Document<'_>], key: &str, kind: &Kind<String>) -> Vec<(Place, String)> {
        let Some(document) = documents.iter().rev().find(|document| document.get_ref().contains_key(key)) else {
            return Vec::new();
        };
        let mut document = document.clone();
        if let Some(value) = document.get_mut().get_mut(key) {
            let place = Place { span: value.span(), key: key.to_owned() };
            self.all.variables.fill(value.get_mut(), &place, self.faults);
        }
        let typed = Table::root(&document, raw::ROOT, self.faults).texts(key, 0, kind);
        typed.into_iter().flat_map(|at| at.value).map(|At { value, place }| (place, value)).collect()
    }

    /// A path as the main file or its profile's means it: both stand in one folder.
    fn beside(&self, path: &str) -> PathBuf {
        self.selection.file.parent().unwrap_or(Path::new("")).join(path)
    }

    fn variables(&mut self, place: &Place, path: &str) {
        let number = self.all.reading.variables_files.len();
        if number == MAX_VARIABLES {
            let message = format!("there are more than {MAX_VARIABLES} files of variables");
            self.faults.error(place, message, "put some of them together");
            return;
        }
        let path = self.beside(path);
        let name = path.display().to_string();
        let bytes = match self.read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("cannot read {name}: {error}");
                self.faults.error(place, message, remedy(&error, "write the path of a file with lines `NAME=value`"));
                return;
            }
        };
        let slot = Slot::Variables(number);
        self.all.reading.variables_files.push(name.clone());
        let Some(text) = text(slot, &name, bytes, true, self.faults) else { return };
        let mut lines = BTreeMap::new();
        for line in env_file::read(&text) {
            let at = |span: std::ops::Range<usize>| {
                let span = span.start + slot.base()..span.end + slot.base();
                Place { span, key: String::new() }
            };
            match line {
                Ok(setting) => {
                    if let Some(earlier) = lines.insert(setting.name.clone(), setting.line) {
                        let message = format!("{} is set on line {earlier} already, in vain", setting.name);
                        self.faults.warn(&at(setting.span), message, "remove one of the two lines");
                    }
                    let from = format!("{name}:{}", setting.line);
                    self.all.variables.set(setting.name, setting.value.into(), from);
                }
                Err(bad) => self.faults.error(&at(bad.span), bad.message, bad.help),
            }
        }
    }

    fn include(&mut self, place: &Place, pattern: &str) {
        let is_pattern = pattern.contains(['*', '?', '[']);
        let mut paths = match is_pattern {
            true => self.matches(place, pattern),
            false => vec![self.beside(pattern)],
        };
        if is_pattern {
            paths.retain(|path| !self.selection.covers(path) && !path.is_dir());
            paths.sort();
            if paths.is_empty() {
                let message = format!("{} matches no file", shown(pattern));
                self.faults.warn(place, message, "put a file there, or remove the pattern");
            }
        } else if self.selection.covers(&paths[0]) {
            let message = format!("{} is the file itself, or one of its profiles", paths[0].display());
            self.faults.error(place, message, "remove it");
            return;
        }
        for path in paths {
            if !self.included(place, &path) {
                break;
            }
        }
    }

    fn matches(&self, place: &Place, pattern: &str) -> Vec<PathBuf> {
        let Medium::Disk = self.medium else { return Vec::new() };
        let folder = self.selection.file.parent().unwrap_or(Path::new(""));
        let Some(folder) = folder.to_str() else {
            let help = "write paths without a pattern, or rename the folder";
            self.faults.error(place, "the folder of the configuration has a name that is not UTF-8", help);
            return Vec::new();
        };
        let whole = match Path::new(pattern).is_absolute() || folder.is_empty() {
            true => pattern.to_owned(),
            false => format!("{}/{pattern}", Pattern::escape(folder)),
        };
        // A star does not mean hidden files, such as those that an editor leaves behind.
        let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
        let mut paths = Vec::new();
        // The pattern has been read once before.
        for found in glob::glob_with(&whole, options).into_iter().flatten() {
            match found {
                Ok(path) => paths.push(path),
                Err(error) => {
                    let message = format!("cannot look into {}: {}", error.path().display(), error.error());
                    self.faults.error(place, message, "let the gateway's user read the directory");
                }
            }
            if paths.len() > MAX_INCLUDED {
                break;
            }
        }
        paths
    }

    /// Reads one included file; false when there is no room for more.
    fn included(&mut self, place: &Place, path: &Path) -> bool {
        let name = path.display().to_string();
        let read = self.read(path).and_then(|bytes| Ok((path.canonicalize()?, bytes)));
        let (real, bytes) = match read {
            Ok(read) => read,
            Err(error) => {
                let message = format!("cannot read {name}: {error}");
                let instead = match error.kind() {
                    io::ErrorKind::IsADirectory => "name the files in it: \"services/*.toml\"",
                    _ => "correct its path",
                };
                self.faults.error(place, message, remedy(&error, instead));
                return true;
            }
        };
        if self.own.contains(&real) {
            let help = "remove it, or write a pattern that does not match it";
            self.faults.error(place, format!("{name} is the file itself, or its profile's"), help);
            return true;
        }
        // Two patterns that meet in a file mean it once.
        if !self.seen.insert(real) {
            return true;
        }
        let number = self.all.reading.included.len();
        self.total += bytes.len();
        if number == MAX_INCLUDED || self.total > MAX_TOTAL {
            let message = format!("more than {MAX_INCLUDED} files, or more than {} MiB of them", MAX_TOTAL / MAX_SIZE);
            self.faults.error(place, message, "include fewer or larger files");
            return false;
        }
        self.all.reading.included.push(name.clone());
        self.take(Slot::Included(number), &name, bytes);
        true
    }
}

/// Registers a file and gives its text back, or reports that it is none.
pub(super) fn text(slot: Slot, name: &str, bytes: Vec<u8>, secret: bool, faults: &Faults) -> Option<Arc<str>> {
    match String::from_utf8(bytes) {
        Ok(text) => {
            let text: Arc<str> = text.into();
            faults.add(slot, name, Arc::clone(&text), secret);
            Some(text)
        }
        Err(error) => {
            let at = slot.base() + error.utf8_error().valid_up_to();
            faults.add(slot, name, String::from_utf8_lossy(error.as_bytes()).into(), secret);
            let place = Place { span: at..at + '\u{fffd}'.len_utf8(), key: String::new() };
            faults.error(&place, "this is not UTF-8", "save the file in the encoding UTF-8");
            None
        }
    }
}

/// All texts as one document, its variables filled.
pub(super) fn document<'t>(
    texts: &'t [(Slot, String)],
    variables: &Variables<'_>,
    main: &str,
    faults: &Faults,
) -> Document<'t> {
    let mut texts = texts.iter().map(|(slot, text)| (*slot, layers::parse(text, *slot)));
    // The main file is always there, or nothing was gathered.
    let mut whole = match texts.next() {
        Some((_, main)) => main,
        None => layers::parse("", Slot::Main),
    };
    for (slot, document) in texts {
        match slot {
            Slot::Overlay => layers::lay(&mut whole, document, variables, faults),
            _ => layers::include(&mut whole, document, slot, main, faults),
        }
    }
    // What has been read from these two is told already.
    for key in ["include", "env_file"] {
        whole.get_mut().remove(key);
    }
    let (span, table) = (whole.span(), whole.into_inner());
    let mut value = DeValue::Table(table);
    variables.fill(&mut value, &Place { span: span.clone(), key: String::new() }, faults);
    match value {
        DeValue::Table(table) => toml::Spanned::new(span, table),
        _ => layers::parse("", Slot::Main),
    }
}
