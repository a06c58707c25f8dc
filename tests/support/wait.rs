//! Waiting, in one place: for a condition, with a deadline that only a failing test reaches.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

/// Longer than anything takes on a busy machine; no test measures by it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(45);

/// Between two looks at a condition that cannot wake us.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `look` says `Ok`, and hands that out.
///
/// # Panics
/// At the deadline, with what the last look saw.
pub(crate) async fn eventually<T, E: Display>(what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if tokio::time::Instant::now() >= deadline => panic!("{what}: not so in time, but: {seen}"),
            // waits: for a state of another process, which has no way to wake this one.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The outcome of `future`.
///
/// # Panics
/// At the deadline.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}
