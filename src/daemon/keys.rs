//! The keys of issued cookies: read at the start, at every reload, and once an hour, for the gateway's own change.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::config::model::{Gateway, Service};
use crate::proxy::issue;
use crate::proxy::thread::Shared;
use crate::session::seal::KeyRing;
use crate::store::{Store, StoreError, keys};

/// How often it is asked whether the own keys are due.
const PERIOD: Duration = Duration::from_secs(3_600);

/// How long the values of issued cookies are good for at the most, over all services.
pub(super) fn life<'s>(services: impl Iterator<Item = &'s Arc<Service>>) -> Duration {
    services.map(|service| issue::life(&service.session)).max().unwrap_or(Duration::ZERO)
}

/// The ring of the keys that the file names, or of the gateway's own. Blocks on the disk.
///
/// # Errors
/// A file that holds no key, or a state that can be neither read nor written.
pub(super) fn read(store: &dyn Store, gateway: &Gateway, life: Duration) -> Result<KeyRing, StoreError> {
    let Some(files) = keys::read_files(&gateway.keys)? else {
        return Ok(KeyRing::new(&store.sealing_keys(life, clock::wall())?));
    };
    for warning in &files.warnings {
        tracing::warn!("{warning}");
    }
    Ok(KeyRing::new(&files.keys))
}

/// Asks once an hour, for as long as the gateway runs. What cannot be read leaves the keys as they are.
pub(super) async fn renew(store: Arc<dyn Store>, shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let (store, view) = (Arc::clone(&store), shared.fleet.view());
        let ring = tokio::task::spawn_blocking(move || {
            let life = life(view.services.iter().map(|service| &service.rules));
            read(&*store, &view.gateway, life)
        });
        match ring.await {
            Ok(Ok(ring)) => shared.ring.store(Arc::new(ring)),
            Ok(Err(error)) => tracing::error!(%error, "the keys of issued cookies stay as they were"),
            Err(error) => tracing::error!(%error, "the keys of issued cookies could not be read"),
        }
    }
}
