//! What a reload changes outside the roster: listeners and logs.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::model::{AccessLogTarget, Gateway, Model};
use crate::control::{Front, Prepared};
use crate::daemon::keys;
use crate::daemon::serving::{Door, Serving};
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
    open: Mutex<Option<Open>>,
}

/// What is in force.
#[derive(Debug)]
struct Open {
    gateway: Gateway,
    doors: BTreeMap<SocketAddr, Door>,
}

/// What was made ready for a changed file. Dropping it undoes it; nothing was changed yet.
#[derive(Debug)]
pub(super) struct Change {
    added: Vec<(SocketAddr, Vec<TcpListener>)>,
    ring: KeyRing,
    next: Open,
}

impl Open {
    /// Every address that the file names, with whom its connections are for. The check has seen to it that none is named
    /// twice.
    fn of(model: &Model) -> Self {
        let own = model.gateway.listen.iter().map(|address| (*address, Door::Http));
        let services = model.services.iter().flat_map(|service| {
            service.mode.listen().iter().map(|address| (*address, Door::Tcp(service.name.clone())))
        });
        Self { gateway: (*model.gateway).clone(), doors: own.chain(services).collect() }
    }
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
    pub(super) fn prepare_change(&self, model: &Model) -> io::Result<Change> {
        let gateway = &model.gateway;
        let open = self.open.lock();
        let next = Open::of(model);
        let is_open = |address| open.as_ref().is_some_and(|open| open.doors.contains_key(address));
        let mut added = Vec::new();
        for (&address, door) in next.doors.iter().filter(|(address, _)| !is_open(*address)) {
            let sockets = listener::bind(address, self.serving.threads()).map_err(|error| {
                let remedy = match door {
                    Door::Http => "change gateway.listen".to_owned(),
                    Door::Tcp(service) => format!("change `listen` of the service {service}"),
                };
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}; free it or {remedy}"))
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
        let life = keys::life(self.shared.fleet.view().services.iter().map(|service| &service.rules));
        let ring = keys::read(&*self.store, gateway, life).map_err(io::Error::other)?;
        Ok(Change { added, ring, next })
    }

    /// Opens what is new, then closes what is gone.
    pub(super) fn commit_change(&self, change: Change) {
        let Change { added, ring, next } = change;
        self.shared.ring.store(Arc::new(ring));
        let mut open = self.open.lock();
        for (address, sockets) in added {
            let Some(door) = next.doors.get(&address) else { continue };
            self.serving.listen(sockets, door);
            match door {
                Door::Http => tracing::info!(%address, "listening"),
                Door::Tcp(service) => tracing::info!(%address, %service, "listening"),
            }
        }
        for (&address, door) in open.iter().flat_map(|open| &open.doors) {
            match next.doors.get(&address) {
                None => {
                    self.serving.unlisten(address);
                    tracing::info!(%address, "no longer listening; open connections go on");
                }
                Some(next) if next != door => {
                    self.serving.turn(address, next);
                    tracing::info!(%address, "listening for another service; open connections go on");
                }
                Some(_) => {}
            }
        }
        let gateway = &next.gateway;
        if let Some(Open { gateway: before, .. }) = &*open {
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
        *open = Some(next);
    }
}

impl Front for Arc<Doors> {
    fn prepare(&self, model: &Model) -> io::Result<Box<dyn Prepared>> {
        Ok(Box::new(Ready { doors: Self::clone(self), change: self.prepare_change(model)? }))
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
