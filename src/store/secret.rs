//! Files that are whole or absent, and the gateway's own secrets in them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::StoreError;

/// Nothing that is kept here is longer; a longer file is not read into memory.
const SIZE_LIMIT: u64 = 64 * 1024 * 1024;

/// Fewer characters than this are no token.
const TOKEN_MIN: usize = 16;

/// Puts `bytes` into `path`: temporary file beside it, sync, rename, sync of the directory. Mode 0600.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(StoreError::io("write", &temporary))?;
    std::fs::rename(&temporary, path).map_err(StoreError::io("replace", path))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(directory).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", directory))
}

/// The bytes of `path`; `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(SIZE_LIMIT).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    Ok(Some(bytes))
}

/// Bytes from the system's random source.
pub(super) fn random<const N: usize>(path: &Path) -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| StoreError::io("draw random bytes for", path)(io::Error::other(error)))?;
    Ok(bytes)
}

/// The token in `path`, made there if the file does not exist.
pub(super) fn token(path: &Path) -> Result<String, StoreError> {
    let Some(bytes) = read(path)? else {
        let token = new_token(path)?;
        replace(path, format!("{token}\n").as_bytes())?;
        return Ok(token);
    };
    let refuse = |problem| StoreError::Secret { path: path.to_owned(), problem };
    let text = String::from_utf8(bytes).map_err(|_| refuse("is not text"))?;
    let token = text.trim();
    if token.len() < TOKEN_MIN || token.contains(|c: char| !c.is_ascii_graphic()) {
        return Err(refuse("holds no token of at least 16 printable characters"));
    }
    Ok(token.to_owned())
}

/// A new token: 32 random bytes in hexadecimal.
pub(super) fn new_token(path: &Path) -> Result<String, StoreError> {
    let bytes: [u8; 32] = random(path)?;
    Ok(hex(&bytes))
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
