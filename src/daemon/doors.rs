//! What a reload changes outside the roster: listeners and logs.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::model::{AccessLogTarget, Gateway};
use crate::control::{Front, Prepared};
use crate::daemon::keys;
use crate::daemon::serving::Serving;
use crate::edge::listener;
use crate::log::{AccessLog, OwnLog};
use crate::proxy::thread::Shared;
use crate::session::seal::KeyRing;
use crate::store::Store;

/// The doors of the house: which addresses are open, and where the logs go.
pub(super) struct Doors {
    serving: Arc<Serving>,
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    access_log: Arc<AccessLog>,
    own_log: OwnLog,
    open: Mutex<Option<Gateway>>,
}

/// What was made ready for a changed `[gateway]` table. Dropping it undoes it; nothing was changed yet.
#[derive(Debug)]
pub(super) struct Change {
    added: Vec<(SocketAddr, Vec<TcpListener>)>,
    removed: Vec<SocketAddr>,
    ring: KeyRing,
    gateway: Gateway,
}

impl Doors {
    /// Doors that are all closed.
    pub(super) fn new(
        serving: Arc<Serving>,
        shared: Arc<Shared>,
        store: Arc<dyn Store>,
        access_log: Arc<AccessLog>,
        own_log: OwnLog,
    ) -> Self {
        Self { serving, shared, store, access_log, own_log, open: Mutex::new(None) }
    }

    /// Binds what is new and tries what could fail later.
    ///
    /// # Errors
    /// An address is taken, or a log or a key cannot be opened: the operator's to solve. Nothing has changed then.
    pub(super) fn prepare_change(&self, gateway: &Gateway) -> io::Result<Change> {
        let open = self.open.lock();
        let before: BTreeSet<SocketAddr> = open.iter().flat_map(|gateway| gateway.listen.iter().copied()).collect();
        let wanted: BTreeSet<SocketAddr> = gateway.listen.iter().copied().collect();
        let mut added = Vec::new();
        for &address in wanted.difference(&before) {
            let sockets = listener::bind(address, self.serving.threads()).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot listen on {address}: {error}; free it or change gateway.listen"),
                )
            })?;
            added.push((address, sockets));
        }
        if let AccessLogTarget::File(path) = &gateway.access_log.target {
            OpenOptions::new().append(true).create(true).open(path).map_err(|error| {
                let path = path.display();
                io::Error::new(error.kind(), format!("cannot write the access log {path}: {error}"))
            })?;
        }
        crate::log::own::check(&gateway.log).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let removed = before.difference(&wanted).copied().collect();
        let life = keys::life(self.shared.fleet.view().services.iter().map(|service| &service.rules));
        let ring = keys::read(&*self.store, gateway, life).map_err(io::Error::other)?;
        Ok(Change { added, removed, ring, gateway: gateway.clone() })
    }

    /// Opens what is new, then closes what is gone.
    pub(super) fn commit_change(&self, change: Change) {
        let Change { added, removed, ring, gateway } = change;
        self.shared.ring.store(Arc::new(ring));
        let mut open = self.open.lock();
        for (address, sockets) in added {
            self.serving.listen(sockets);
            tracing::info!(%address, "listening");
        }
        for address in removed {
            self.serving.unlisten(address);
            tracing::info!(%address, "no longer listening; open connections go on");
        }
        if let Some(before) = &*open {
            if before.access_log != gateway.access_log
                && let Err(error) = self.access_log.change(&gateway.access_log)
            {
                tracing::error!(%error, "the access log stays where it was");
            }
            if before.log != gateway.log
                && let Err(error) = self.own_log.change(&gateway.log)
            {
                tracing::error!(%error, "the log directive stays as it was");
            }
        }
        self.shared.table.set_max(gateway.max_sessions);
        *open = Some(gateway);
    }
}

impl Front for Arc<Doors> {
    fn prepare(&self, gateway: &Gateway) -> io::Result<Box<dyn Prepared>> {
        Ok(Box::new(Ready { doors: Self::clone(self), change: self.prepare_change(gateway)? }))
    }
}

/// A change that waits to be committed, with the doors that it changes.
struct Ready {
    doors: Arc<Doors>,
    change: Change,
}

impl Prepared for Ready {
    fn commit(self: Box<Self>) {
        self.doors.commit_change(self.change);
    }
}
