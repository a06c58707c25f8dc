use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::log::SessionMark;
use crate::log::line::Hidden;

fn exchange(target: &str) -> Exchange<'_> {
    Exchange {
        wall_ms: 1_795_237_800_123,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        method: "GET",
        target,
        version: http::Version::HTTP_11,
        host: "localhost",
        status: 200,
        request_bytes: 0,
        response_bytes: 12,
        duration_us: 345,
        waited_us: 0,
        service: "app",
        generation: Some(1),
        backend: Some("127.0.0.1:8801"),
        session: SessionMark::New,
        referer: None,
        user_agent: None,
        error: None,
        hidden: Hidden::NOTHING,
    }
}

fn file(path: &Path, format: AccessLogFormat) -> Settings {
    Settings { target: AccessLogTarget::File(path.to_owned()), format }
}

/// Waits until `holds`; a writer that never gets there fails the test by its harness's timeout, not by a guess here.
fn wait(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}

#[test]
fn lines_reach_the_file_whole_and_in_order() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("access.log");
    let log = AccessLog::start(&file(&path, AccessLogFormat::Json)).unwrap();
    let mut lines = log.lines();
    // More than one batch, so that both ways of handing over are used.
    for index in 0..500 {
        lines.record(&exchange(&format!("/{index}")));
    }
    lines.flush();
    wait(|| log.counts().written == 500);
    assert!(log.close());
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 500);
    for (index, line) in text.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["target"], format!("/{index}"));
    }
}

#[test]
fn close_writes_what_dropped_handles_held() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("access.log");
    let log = AccessLog::start(&file(&path, AccessLogFormat::Combined)).unwrap();
    let mut lines = log.lines();
    lines.record(&exchange("/last"));
    drop(lines);
    assert!(log.close());
    assert!(fs::read_to_string(&path).unwrap().contains("GET /last HTTP/1.1"));
}

#[test]
fn a_moved_file_is_opened_anew() {
    let place = TempDir::new().unwrap();
    let (path, moved) = (place.path().join("access.log"), place.path().join("access.log.1"));
    let log = AccessLog::start(&file(&path, AccessLogFormat::Json)).unwrap();
    let mut lines = log.lines();
    lines.record(&exchange("/before"));
    lines.flush();
    wait(|| log.counts().written == 1);
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    wait(|| path.exists());
    lines.record(&exchange("/after"));
    drop(lines);
    assert!(log.close());
    assert!(fs::read_to_string(&moved).unwrap().contains("/before"));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("/after") && !text.contains("/before"));
}

#[test]
fn a_file_that_cannot_be_opened_anew_stays_in_use() {
    let place = TempDir::new().unwrap();
    let (folder, moved) = (place.path().join("logs"), place.path().join("moved"));
    fs::create_dir(&folder).unwrap();
    let path = folder.join("access.log");
    let log = AccessLog::start(&file(&path, AccessLogFormat::Json)).unwrap();
    fs::rename(&folder, &moved).unwrap();
    log.reopen();
    let mut lines = log.lines();
    lines.record(&exchange("/kept"));
    lines.flush();
    wait(|| log.counts().written == 1);
    assert!(fs::read_to_string(moved.join("access.log")).unwrap().contains("/kept"));
    // The writer tries again by itself.
    fs::create_dir(&folder).unwrap();
    wait(|| path.exists());
    drop(lines);
    assert!(log.close());
}

#[test]
fn a_change_of_format_and_target_mixes_no_lines() {
    let place = TempDir::new().unwrap();
    let (old, new) = (place.path().join("old.log"), place.path().join("new.log"));
    let log = AccessLog::start(&file(&old, AccessLogFormat::Combined)).unwrap();
    let mut lines = log.lines();
    lines.record(&exchange("/one"));
    // Still in the batch when the change comes.
    log.change(&file(&new, AccessLogFormat::Json)).unwrap();
    lines.record(&exchange("/two"));
    lines.flush();
    wait(|| log.counts().written == 2);
    log.change(&Settings { target: AccessLogTarget::Off, format: AccessLogFormat::Json }).unwrap();
    assert!(!lines.are_wanted());
    lines.record(&exchange("/three"));
    drop(lines);
    assert!(log.close());
    let (old, new) = (fs::read_to_string(&old).unwrap(), fs::read_to_string(&new).unwrap());
    assert!(old.starts_with("127.0.0.1 - - [") && old.contains("/one") && old.lines().count() == 1, "{old}");
    assert!(new.starts_with("{\"time\"") && new.contains("/two") && new.lines().count() == 1, "{new}");
}

#[test]
fn a_target_that_cannot_be_opened_changes_nothing() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("access.log");
    let log = AccessLog::start(&file(&path, AccessLogFormat::Json)).unwrap();
    let missing = place.path().join("no such folder/access.log");
    assert!(AccessLog::start(&file(&missing, AccessLogFormat::Json)).is_err());
    assert!(log.change(&file(&missing, AccessLogFormat::Combined)).is_err());
    let mut lines = log.lines();
    lines.record(&exchange("/"));
    drop(lines);
    assert!(log.close());
    assert!(fs::read_to_string(&path).unwrap().starts_with('{'));
}

#[test]
fn a_full_disk_is_counted_and_serving_goes_on() {
    let log = AccessLog::start(&file(Path::new("/dev/full"), AccessLogFormat::Json)).unwrap();
    let mut lines = log.lines();
    for _ in 0..2 {
        let before = log.counts().errors;
        lines.record(&exchange("/"));
        lines.flush();
        wait(|| log.counts().errors == before + 1);
    }
    assert_eq!(log.counts(), Counts { written: 0, dropped: 0, failed: 2, errors: 2 });
    // It recovers by itself: the next target takes lines again.
    let place = TempDir::new().unwrap();
    let path = place.path().join("access.log");
    log.change(&file(&path, AccessLogFormat::Json)).unwrap();
    lines.record(&exchange("/"));
    drop(lines);
    assert!(log.close());
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
}

#[test]
fn a_full_queue_drops_whole_batches_and_counts_them() {
    let (sender, receiver) = sync_channel(1);
    let shared = Arc::new(Shared {
        mode: AtomicU64::new(JSON),
        orders: Mutex::new(Orders::default()),
        written: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        errors: AtomicU64::new(0),
    });
    let mut lines =
        Lines { shared: Arc::clone(&shared), sender, stamp: Stamp::new(), batch: Vec::new(), count: 0, mode: JSON };
    lines.record(&exchange("/first"));
    lines.flush();
    lines.record(&exchange("/waits"));
    lines.flush();
    assert_eq!((lines.count, shared.dropped.load(Ordering::Relaxed)), (1, 0), "a small batch waits for the next sweep");
    let mut recorded = 2;
    while shared.dropped.load(Ordering::Relaxed) == 0 {
        lines.record(&exchange("/more"));
        recorded += 1;
    }
    assert_eq!(shared.dropped.load(Ordering::Relaxed), recorded - 1, "all but the batch that was handed over");
    assert!(lines.batch.is_empty());
    assert!(matches!(receiver.try_recv(), Ok(Message::Batch(Batch { lines: 1, .. }))));
    lines.record(&exchange("/again"));
    lines.flush();
    assert!(matches!(receiver.try_recv(), Ok(Message::Batch(Batch { lines: 1, .. }))));
}
