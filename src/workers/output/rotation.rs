//! A file that became too long: its last part becomes a former one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Copies the last `size` bytes of `file` to `PATH.1`, moves older ones on, of which `keep` stay, and makes the file
/// empty: its writers append, and go on at its start. Returns how long it was.
///
/// What is printed between the last look at the length and the cut is lost; nothing is done in between, so that is a
/// matter of microseconds. If the copy fails, the file is cut all the same: a full disk is the more likely to have room.
///
/// # Errors
/// What the system refused of the cut.
pub(super) fn rotate(file: &File, path: &Path, length: u64, size: u64, keep: u32) -> io::Result<u64> {
    let mut end = length;
    if keep > 0 {
        let new = numbered(path, "new");
        match copy(file, &new, length.saturating_sub(size), size) {
            Ok(copied) => {
                end = copied;
                file.set_len(0)?;
                shift(path, keep).and_then(|()| fs::rename(&new, numbered(path, "1"))).unwrap_or_else(|error| {
                    tracing::warn!(path = %path.display(), %error, "a worker's former output cannot be kept");
                });
                return Ok(end);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a worker's former output cannot be kept, and is lost");
                let _ = fs::remove_file(&new);
            }
        }
    }
    file.set_len(0)?;
    end = end.max(length);
    Ok(end)
}

/// Copies all from `at` on, about `size` bytes, with what comes meanwhile; returns where it ended.
fn copy(file: &File, to: &Path, mut at: u64, size: u64) -> io::Result<u64> {
    let to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let start = at;
    let mut buffer = vec![0; 256 * 1024];
    // What somebody prints faster than this copies is lost.
    let most = at.saturating_add(size).saturating_add(buffer.len() as u64);
    while at < most {
        let read = file.read_at(&mut buffer, at)?;
        if read == 0 {
            break;
        }
        to.write_all_at(&buffer[..read], at - start)?;
        at += read as u64;
    }
    Ok(at)
}

fn shift(path: &Path, keep: u32) -> io::Result<()> {
    for number in (1..keep).rev() {
        match fs::rename(numbered(path, &number.to_string()), numbered(path, &(number + 1).to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// `0.log` and `1` make `0.log.1`.
fn numbered(path: &Path, number: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(number);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(path: &Path, text: &str, size: u64, keep: u32) {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        fs::write(path, text).unwrap();
        assert_eq!(rotate(&file, path, text.len() as u64, size, keep).unwrap(), text.len() as u64);
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn the_last_part_is_kept_and_older_ones_move_on() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("0.log");
        for text in ["first", "second", "third"] {
            rotated(&path, text, 4, 2);
        }
        let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap_or_default();
        assert_eq!((read("0.log"), read("0.log.1"), read("0.log.2")), (String::new(), "hird".into(), "cond".into()));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3, "no more than two are kept");
    }

    #[test]
    fn none_need_be_kept() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("0.log");
        rotated(&path, "text", 2, 0);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
