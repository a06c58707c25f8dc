//! Waits until what an answer did to its session is in the log of bindings.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::proxy::exchange::Exchange;
use crate::store::journal::Outcome;

/// Returns when the death of the process cannot undo any more what this exchange did to its session (promise P7), or
/// when the disk has not answered for `state_wait`: then the answer goes out all the same, and is counted.
///
/// Cancelling it gives up the waiting alone: what is bound is bound.
pub async fn recorded(exchange: &mut Exchange) {
    if !std::mem::take(&mut exchange.unrecorded) {
        return;
    }
    let thread = Rc::clone(&exchange.thread);
    let shared = &thread.shared;
    let Some(journal) = &shared.journal else { return };
    // All facts so far, those of other requests among them: who finds a session that another answer has just bound
    // shows its id as well.
    let written = journal.written(journal.ticket());
    if tokio::time::timeout(shared.state_wait, written).await != Ok(Outcome::Durable) {
        shared.undurable.fetch_add(1, Ordering::Relaxed);
    }
}
