//! The thread that writes the access log: the only one that may wait for the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::clock::monotonic_nanos;
use crate::config::model::AccessLogTarget;
use crate::log::access::{Batch, Message, Shared};
use crate::sync::atomic::Ordering;

/// How often it looks around without being told to: to try a failed opening again, to report, to let go of a former target.
const LOOK: Duration = Duration::from_secs(1);
/// At most one report of each kind in this time.
const REPORT_NANOS: u64 = 60 * 1_000_000_000;
/// How long a former target stays open for batches that were made for it: serving threads hand theirs over ten times a second.
const FORMER_NANOS: u64 = 2 * 1_000_000_000;

/// Where lines go.
pub(super) struct Sink {
    file: Option<File>,
    path: Option<PathBuf>,
    /// The last write ended inside a line.
    torn: bool,
}

impl Sink {
    pub(super) fn open(target: &AccessLogTarget) -> io::Result<Self> {
        let (file, path) = match target {
            AccessLogTarget::Off => (None, None),
            // The descriptor itself, not `Stdout`: no lock that others hold, no second buffer.
            AccessLogTarget::Stdout => (Some(File::from(io::stdout().as_fd().try_clone_to_owned()?)), None),
            AccessLogTarget::File(path) => (Some(open(path)?), Some(path.clone())),
        };
        Ok(Self { file, path, torn: false })
    }

    #[cfg(test)]
    fn over(file: File) -> Self {
        Self { file: Some(file), path: None, torn: false }
    }

    /// Writes whole lines; in the error case, the number of lines that are lost.
    fn write(&mut self, bytes: &[u8]) -> Result<(), (u64, io::Error)> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut rest = bytes;
        // A line that a full disk cut short ends here, so that it does not spoil the next one.
        while self.torn {
            match file.write(b"\n") {
                Ok(1) => self.torn = false,
                Ok(_) => return Err((lines(rest), io::ErrorKind::WriteZero.into())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((lines(rest), error)),
            }
        }
        while !rest.is_empty() {
            let error = match file.write(rest) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(count) => {
                    rest = &rest[count..];
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let written = &bytes[..bytes.len() - rest.len()];
            self.torn = written.last().is_some_and(|&byte| byte != b'\n');
            return Err((lines(rest), error));
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = Some(open(path)?);
            self.torn = false;
        }
        Ok(())
    }
}

/// Appends to the file, made if need be, readable by the owner and its group alone. A pipe without a reader is an
/// error rather than a wait, and one that is full loses lines rather than time.
fn open(path: &PathBuf) -> io::Result<File> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(nonblocking).open(path)
}

fn lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Writes batches until it is told to close or nobody is left who could send one.
pub(super) fn run(shared: &Shared, sink: Sink, mode: u64, messages: &Receiver<Message>) {
    let mut writer = Writer { shared, sink, mode, former: None, reopen: false, reports: Reports::default() };
    loop {
        match messages.recv_timeout(LOOK) {
            Ok(Message::Batch(batch)) => {
                writer.obey();
                writer.write(&batch);
            }
            Ok(Message::Look) | Err(RecvTimeoutError::Timeout) => writer.obey(),
            Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => break,
        }
        writer.report();
    }
    while let Ok(message) = messages.try_recv() {
        if let Message::Batch(batch) = message {
            writer.obey();
            writer.write(&batch);
        }
    }
    writer.report();
}

struct Writer<'a> {
    shared: &'a Shared,
    sink: Sink,
    mode: u64,
    /// The target before the last change, and when it was replaced.
    former: Option<(Sink, u64)>,
    /// The file could not be opened anew yet.
    reopen: bool,
    reports: Reports,
}

#[derive(Default)]
struct Reports {
    /// When each kind was last told; zero for never.
    dropped_at: u64,
    failed_at: u64,
    reopen_at: u64,
    /// What was told of.
    dropped: u64,
    failed: u64,
    last_error: Option<io::Error>,
}

impl Writer<'_> {
    fn obey(&mut self) {
        let (switch, reopen) = {
            let mut orders = self.shared.orders.lock();
            (orders.switch.take(), std::mem::take(&mut orders.reopen))
        };
        if let Some((sink, mode)) = switch {
            self.former = Some((std::mem::replace(&mut self.sink, sink), monotonic_nanos()));
            self.mode = mode;
            self.reopen = false;
        }
        if self.former.as_ref().is_some_and(|(_, since)| monotonic_nanos() - since > FORMER_NANOS) {
            self.former = None;
        }
        if reopen || self.reopen {
            let outcome = self.sink.reopen();
            self.reopen = outcome.is_err();
            if let Err(error) = outcome
                && due(&mut self.reports.reopen_at, monotonic_nanos())
            {
                let path = self.sink.path.as_deref().unwrap_or("".as_ref()).display();
                tracing::error!(
                    "access log {path} could not be opened anew: {error}; \
                     lines go on to the file that was open, next try in a second"
                );
            }
        }
    }

    fn write(&mut self, batch: &Batch) {
        let sink = match &mut self.former {
            Some((former, _)) if batch.mode != self.mode => former,
            _ => &mut self.sink,
        };
        let lost = match sink.write(&batch.bytes) {
            Ok(()) => 0,
            Err((lost, error)) => {
                self.shared.failed.fetch_add(lost, Ordering::Relaxed);
                self.shared.errors.fetch_add(1, Ordering::Relaxed);
                self.reports.last_error = Some(error);
                lost
            }
        };
        if sink.file.is_some() {
            self.shared.written.fetch_add(batch.lines.saturating_sub(lost), Ordering::Relaxed);
        }
    }

    fn report(&mut self) {
        let now = monotonic_nanos();
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        if dropped != self.reports.dropped && due(&mut self.reports.dropped_at, now) {
            let lines = dropped - self.reports.dropped;
            self.reports.dropped = dropped;
            tracing::warn!(lines, total = dropped, "access log lines dropped: its target is slower than the requests");
        }
        let failed = self.shared.failed.load(Ordering::Relaxed);
        if let Some(error) = self.reports.last_error.take_if(|_| due(&mut self.reports.failed_at, now)) {
            let lines = failed - self.reports.failed;
            self.reports.failed = failed;
            tracing::error!(lines, total = failed, "access log could not be written: {error}; serving goes on");
        }
    }
}

/// Whether a report may be made now; if so, the time is taken down.
fn due(last: &mut u64, now: u64) -> bool {
    let due = *last == 0 || now.saturating_sub(*last) >= REPORT_NANOS;
    if due {
        *last = now;
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_an_error_and_not_a_panic() {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
        let mut sink = Sink::over(full);
        let (lost, error) = sink.write(b"one\ntwo\n").unwrap_err();
        assert_eq!((lost, error.kind()), (2, io::ErrorKind::StorageFull));
        assert!(!sink.torn, "nothing of it was written");
    }

    #[test]
    fn a_line_cut_short_ends_before_the_next() {
        // A pipe takes what fits and refuses the rest, like a disk that fills up in the middle of a batch.
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
        let mut sink = Sink::over(File::from(std::os::fd::OwnedFd::from(writer)));
        let line = [[b'x'; 99].as_slice(), b"\n"].concat();
        let batch = line.repeat(2_000);
        let (lost, error) = sink.write(&batch).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(sink.torn && lost > 0 && lost < 2_000, "{lost}");

        let mut got = vec![0; batch.len()];
        let count = io::Read::read(&mut reader, &mut got).unwrap();
        assert!(count > 65_000);
        sink.write(b"next\n").unwrap();
        assert!(!sink.torn);
        drop(sink);
        got.truncate(count);
        io::Read::read_to_end(&mut reader, &mut got).unwrap();
        let text = String::from_utf8(got).unwrap();
        let whole = text.lines().filter(|found| found.len() == 99).count() as u64;
        assert_eq!(whole + lost, 2_000);
        assert!(text.ends_with("x\nnext\n"));
    }

    #[test]
    fn reports_are_a_minute_apart() {
        let mut last = 0;
        let minute = REPORT_NANOS;
        let told: Vec<bool> = [5, 6, minute, minute + 5, minute + 6].map(|now| due(&mut last, now)).into();
        assert_eq!(told, [true, false, false, true, false]);
    }
}
