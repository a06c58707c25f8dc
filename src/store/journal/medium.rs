//! The files below a journal, as few calls as it needs, so that tests can stand in for a failing disk.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A folder of files.
pub trait Medium: Send + Sync {
    /// Makes the folder if it does not exist.
    ///
    /// # Errors
    /// What the system refused.
    fn prepare(&self) -> io::Result<()>;

    /// The files' names and lengths. A folder that does not exist has none.
    ///
    /// # Errors
    /// What the system refused.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Opens a file for reading from its beginning.
    ///
    /// # Errors
    /// What the system refused.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;

    /// Makes an empty file; one that is there loses what it holds.
    ///
    /// # Errors
    /// What the system refused.
    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>>;

    /// Returns when all that a file holds is on the disk, whoever wrote it.
    ///
    /// # Errors
    /// What the system refused.
    fn persist(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name; one that had it is gone. Survives a power loss after [`Medium::sync`].
    ///
    /// # Errors
    /// What the system refused.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system refused.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns when the names of the files are on the disk.
    ///
    /// # Errors
    /// What the system refused.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is written.
pub trait Sink: Send + Sync {
    /// Hands bytes to the system, perhaps fewer than asked; those survive the death of the process.
    ///
    /// # Errors
    /// What the system refused.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Returns when all that was written is on the disk.
    ///
    /// # Errors
    /// What the system refused. Then nothing that was written since the last success may be taken to be there, ever.
    fn sync(&self) -> io::Result<()>;

    /// Whether the file still has a name: what is written into a removed one is lost.
    ///
    /// # Errors
    /// What the system refused.
    fn is_attached(&self) -> io::Result<bool>;
}

/// Writes all of `bytes`.
pub(super) fn write_all(sink: &dyn Sink, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A folder of the file system. It is made with mode 0700, files with 0600.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// The folder at `path`.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Medium for Disk {
    fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let folder = match std::fs::read_dir(&self.0) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in folder {
            let entry = entry?;
            let about = entry.metadata()?;
            if let (true, Ok(name)) = (about.is_file(), entry.file_name().into_string()) {
                files.push((name, about.len()));
            }
        }
        Ok(files)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.0.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.0.join(name))?;
        Ok(Box::new(file))
    }

    fn persist(&self, name: &str) -> io::Result<()> {
        File::open(self.0.join(name))?.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl Sink for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn is_attached(&self) -> io::Result<bool> {
        Ok(self.metadata()?.nlink() > 0)
    }
}
