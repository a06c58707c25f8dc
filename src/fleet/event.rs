//! What happens to the roster, what it wants done about it, and what it tells of it.

mod health;
mod refusal;
mod request;
pub mod worker;

use std::fmt;
use std::sync::Arc;

pub use health::{Finding, HealthChange, HealthKind, unheeded};
pub use refusal::{Cost, Note, Objection, Refusal};
pub use request::{IntentOrder, Request};
pub use worker::{WorkerChange, WorkerEffect, WorkerEvent};

use crate::config::model::{Address, Hook, Model, Service};
use crate::fleet::backend::Backend;
use crate::fleet::gate::Gate;
use crate::fleet::intent::Intent;
use crate::ids::{GenerationId, GenerationNumber, ServiceName, Slot};

/// A moment, read by the caller: the roster has no clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Coarse milliseconds, for deadlines.
    pub millis: u64,
    /// Wall-clock milliseconds since 1970, for people and records.
    pub wall: u64,
}

/// One try at starting a generation, or at letting backends join it. What a former try reports too late is known by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt(pub u64);

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A changed file was checked, examined, and its listeners are prepared.
    ConfigAccepted(Arc<Model>),
    /// `on_starting` ended well.
    StartingHookSucceeded {
        /// Of this generation.
        generation: GenerationId,
        /// In this try.
        attempt: Attempt,
    },
    /// `on_starting` did not.
    StartingHookFailed {
        /// Of this generation.
        generation: GenerationId,
        /// In this try.
        attempt: Attempt,
        /// Its exit and its last line.
        why: String,
    },
    /// A probe was answered as it should be.
    BackendBecameReady {
        /// Of this generation.
        generation: GenerationId,
        /// In this try.
        attempt: Attempt,
        /// The backend.
        slot: Slot,
    },
    /// A probe was not, for another reason than the one before.
    BackendRefused {
        /// Of this generation.
        generation: GenerationId,
        /// In this try.
        attempt: Attempt,
        /// The backend.
        slot: Slot,
        /// What the probe met.
        why: String,
    },
    /// Checks changed what is known of some backends.
    BackendsChecked(Vec<Finding>),
    /// Requests failed on some backends more often in a row than they may; the roster looks which.
    BackendsErred,
    /// Something happened to workers.
    Worker(WorkerEvent),
    /// A bell rang: some detached generation may be empty.
    GenerationEmptied,
    /// `on_retired` ended well.
    RetiredHookSucceeded {
        /// Of this generation.
        generation: GenerationId,
    },
    /// `on_retired` did not.
    RetiredHookFailed {
        /// Of this generation.
        generation: GenerationId,
        /// Its exit and its last line.
        why: String,
    },
    /// A moment that [`Roster::next_deadline`](crate::fleet::roster::Roster::next_deadline) named has come.
    TimePassed,
}

/// Something that the roster wants done, in the order in which it is given.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Put a view of the present roster in place.
    Publish,
    /// Close a gate to new work. It comes after [`Effect::Publish`], so that whom it refuses finds the next generation.
    CloseGate(Arc<Gate>),
    /// End every session that is bound to one of these.
    CloseSessions {
        /// Backends of a generation that is made to end.
        slots: Vec<Slot>,
    },
    /// Let go of every session that is bound to one of these.
    LoseSessions {
        /// Backends whose process is gone.
        slots: Vec<Slot>,
    },
    /// Timeouts became shorter: look at entries that are armed for later.
    RearmTable,
    /// Write the present record down.
    Persist,
    /// Stop asking these whether they are ready.
    StopProbing {
        /// The backends.
        slots: Vec<Slot>,
    },
    /// Ask these until they are ready.
    StartProbing {
        /// Their generation.
        generation: GenerationId,
        /// The try to report.
        attempt: Attempt,
        /// The backends.
        backends: Vec<Arc<Backend>>,
        /// The service's rules: check, interval, connect timeout, hosts.
        rules: Arc<Service>,
    },
    /// Do something with workers.
    Worker(WorkerEffect),
    /// Run `on_starting`.
    RunStartingHook {
        /// For this generation.
        generation: GenerationId,
        /// The try to report.
        attempt: Attempt,
        /// The command.
        hook: Hook,
        /// Where the generation's backends listen.
        backends: Vec<Address>,
        /// Those of them that another generation uses as well.
        in_use: Vec<Address>,
    },
    /// Run `on_retired`.
    RunRetiredHook {
        /// For this generation.
        generation: GenerationId,
        /// The command.
        hook: Hook,
        /// Where the generation's backends listened.
        backends: Vec<Address>,
        /// Those of them that another generation still uses: not to be stopped.
        in_use: Vec<Address>,
    },
    /// Tell people. The last of a step: what is told is already so.
    Announce(FleetEvent),
}

/// What is told to log and status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FleetEvent {
    /// A roll began.
    Started(GenerationId),
    /// A roll is done.
    Rolled {
        /// It takes the new sessions.
        active: GenerationId,
        /// It did before; now it is detached.
        former: Option<GenerationNumber>,
    },
    /// An older generation is active again.
    RolledBack {
        /// It takes the new sessions.
        active: GenerationId,
        /// It did before; now it is detached.
        former: Option<GenerationNumber>,
    },
    /// It is ready and takes its share of the new sessions beside the active one; or that share has changed.
    Ramped {
        /// Which.
        generation: GenerationId,
        /// Of a hundred new sessions.
        share: u8,
        /// It takes the others.
        active: GenerationNumber,
    },
    /// What was ready beside the active generation takes all new sessions.
    Promoted {
        /// It takes the new sessions.
        active: GenerationId,
        /// It did before; now it is detached.
        former: Option<GenerationNumber>,
    },
    /// What was ready beside the active generation is detached.
    Aborted {
        /// Which.
        generation: GenerationId,
        /// What took its place or why it went.
        why: &'static str,
    },
    /// It takes no new sessions; nothing took its place.
    Detached(GenerationId),
    /// A drain deadline or an operator ends what is left of it.
    Forced(GenerationId),
    /// A generation is empty; its hook is to run.
    Retiring(GenerationId),
    /// A generation is gone.
    Retired(GenerationId),
    /// It was given up before it was active.
    Abandoned {
        /// Which.
        generation: GenerationId,
        /// What took its place or why it went.
        why: &'static str,
    },
    /// It did not get ready; the active one stays so.
    Failed {
        /// Which.
        generation: GenerationId,
        /// What its hook or its backends said.
        why: String,
    },
    /// It did not get ready in time and nothing else is active: it goes on trying.
    StillStarting {
        /// Which.
        generation: GenerationId,
        /// What its hook or its backends said.
        why: String,
    },
    /// Backends joined or left its list.
    Resized {
        /// Which.
        generation: GenerationId,
        /// Backends that are to take sessions as soon as they are ready, or again.
        joined: usize,
        /// Backends that take no new ones.
        drained: usize,
    },
    /// The file sets listed backends to another `status`.
    StatusChanged {
        /// Of this generation.
        generation: GenerationId,
        /// What the operator wants of them from now on.
        intent: Intent,
        /// Their names; at least one.
        backends: Vec<crate::ids::BackendName>,
    },
    /// A backend that joined an active generation takes sessions now.
    Joined {
        /// Which.
        generation: GenerationId,
        /// The backend's name.
        backend: crate::ids::BackendName,
    },
    /// The health of backends changed.
    Health(HealthChange),
    /// Something about workers.
    Worker(WorkerChange),
    /// `on_retired` failed and will run again.
    RetiredHookFailed {
        /// Which.
        generation: GenerationId,
        /// Its exit and its last line.
        why: String,
    },
    /// The time after which a start without bindings trusts its counts has passed.
    BecameSure(GenerationId),
    /// The service is no longer in the file: it serves its open sessions only.
    ServiceVanished(ServiceName),
    /// It turns new sessions away from now on.
    MaintenanceBegan(ServiceName),
    /// It takes new sessions again.
    MaintenanceEnded(ServiceName),
    /// Routes, session rules, timeouts or weights of a service changed.
    RulesChanged(ServiceName),
    /// The `[gateway]` table changed.
    GatewayChanged,
}

impl FleetEvent {
    /// The service that it is about.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            FleetEvent::ServiceVanished(service)
            | FleetEvent::MaintenanceBegan(service)
            | FleetEvent::MaintenanceEnded(service)
            | FleetEvent::RulesChanged(service) => Some(service),
            FleetEvent::Worker(change) => Some(change.service()),
            _ => self.generation().map(|generation| &generation.service),
        }
    }

    /// The generation that it is about.
    pub fn generation(&self) -> Option<&GenerationId> {
        match self {
            FleetEvent::Started(generation)
            | FleetEvent::Rolled { active: generation, .. }
            | FleetEvent::RolledBack { active: generation, .. }
            | FleetEvent::Ramped { generation, .. }
            | FleetEvent::Promoted { active: generation, .. }
            | FleetEvent::Aborted { generation, .. }
            | FleetEvent::Detached(generation)
            | FleetEvent::Forced(generation)
            | FleetEvent::Retiring(generation)
            | FleetEvent::Retired(generation)
            | FleetEvent::Abandoned { generation, .. }
            | FleetEvent::Failed { generation, .. }
            | FleetEvent::StillStarting { generation, .. }
            | FleetEvent::Resized { generation, .. }
            | FleetEvent::StatusChanged { generation, .. }
            | FleetEvent::Joined { generation, .. }
            | FleetEvent::RetiredHookFailed { generation, .. }
            | FleetEvent::Health(HealthChange { generation, .. })
            | FleetEvent::BecameSure(generation) => Some(generation),
            FleetEvent::Worker(change) => change.generation(),
            FleetEvent::ServiceVanished(_)
            | FleetEvent::MaintenanceBegan(_)
            | FleetEvent::MaintenanceEnded(_)
            | FleetEvent::RulesChanged(_)
            | FleetEvent::GatewayChanged => None,
        }
    }

    /// One word for its kind, stable for machines.
    pub fn kind(&self) -> &'static str {
        match self {
            FleetEvent::Started(_) => "started",
            FleetEvent::Rolled { .. } => "rolled",
            FleetEvent::RolledBack { .. } => "rolled_back",
            FleetEvent::Ramped { .. } => "ramped",
            FleetEvent::Promoted { .. } => "promoted",
            FleetEvent::Aborted { .. } => "aborted",
            FleetEvent::Detached(_) => "detached",
            FleetEvent::Forced(_) => "forced",
            FleetEvent::Retiring(_) => "retiring",
            FleetEvent::Retired(_) => "retired",
            FleetEvent::Abandoned { .. } => "abandoned",
            FleetEvent::Failed { .. } => "failed",
            FleetEvent::StillStarting { .. } => "still_starting",
            FleetEvent::Resized { .. } => "resized",
            FleetEvent::StatusChanged { intent: Intent::Up, .. } => "backend_up",
            FleetEvent::StatusChanged { intent: Intent::Drain, .. } => "backend_drain",
            FleetEvent::StatusChanged { intent: Intent::Down, .. } => "backend_down",
            FleetEvent::Joined { .. } => "joined",
            FleetEvent::Health(change) => change.kind(),
            FleetEvent::Worker(change) => change.kind(),
            FleetEvent::RetiredHookFailed { .. } => "retired_hook_failed",
            FleetEvent::BecameSure(_) => "became_sure",
            FleetEvent::ServiceVanished(_) => "service_vanished",
            FleetEvent::MaintenanceBegan(_) => "maintenance_began",
            FleetEvent::MaintenanceEnded(_) => "maintenance_ended",
            FleetEvent::RulesChanged(_) => "rules_changed",
            FleetEvent::GatewayChanged => "gateway_changed",
        }
    }

    /// Whether somebody should look at it.
    pub fn is_trouble(&self) -> bool {
        match self {
            FleetEvent::Failed { .. } | FleetEvent::StillStarting { .. } | FleetEvent::RetiredHookFailed { .. } => true,
            FleetEvent::Health(change) => change.is_trouble(),
            FleetEvent::Worker(change) => change.is_trouble(),
            _ => false,
        }
    }
}

impl fmt::Display for FleetEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FleetEvent::Started(generation) => write!(f, "{generation} is starting"),
            FleetEvent::Rolled { active, former: Some(former) } => {
                write!(f, "{active} takes the new sessions; {}@{former} is detached", active.service)
            }
            FleetEvent::Rolled { active, former: None } => write!(f, "{active} takes the new sessions"),
            FleetEvent::RolledBack { active, former: Some(former) } => {
                write!(f, "{active} takes the new sessions again; {}@{former} is detached", active.service)
            }
            FleetEvent::RolledBack { active, former: None } => write!(f, "{active} takes the new sessions again"),
            FleetEvent::Ramped { generation, share: 0, active } => {
                let service = &generation.service;
                write!(f, "{generation} is ready for forced sessions alone; {service}@{active} takes the new ones")
            }
            FleetEvent::Ramped { generation, share, active } => {
                let service = &generation.service;
                write!(f, "{generation} takes {share}% of the new sessions; {service}@{active} takes the others")
            }
            FleetEvent::Promoted { active, former: Some(former) } => {
                write!(f, "{active} is promoted and takes the new sessions; {}@{former} is detached", active.service)
            }
            FleetEvent::Promoted { active, former: None } => {
                write!(f, "{active} is promoted and takes the new sessions")
            }
            FleetEvent::Aborted { generation, why } => {
                write!(f, "the ramp of {generation} was aborted, its sessions go on: {why}")
            }
            FleetEvent::Detached(generation) => write!(f, "{generation} is detached"),
            FleetEvent::Forced(generation) => write!(f, "what is left of {generation} is made to end"),
            FleetEvent::Retiring(generation) => write!(f, "{generation} is empty; its hook on_retired runs"),
            FleetEvent::Retired(generation) => write!(f, "{generation} is retired"),
            FleetEvent::Abandoned { generation, why } => write!(f, "{generation} was given up: {why}"),
            FleetEvent::Failed { generation, why } => write!(f, "{generation} failed to start: {why}"),
            FleetEvent::StillStarting { generation, why } => write!(f, "{generation} is not ready yet: {why}"),
            FleetEvent::Resized { generation, joined, drained } => {
                write!(f, "{generation} changed its backends: {joined} join, {drained} drain")
            }
            FleetEvent::StatusChanged { generation, intent, backends } => {
                let what = match intent {
                    Intent::Up => "takes new sessions again, once it is ready",
                    Intent::Drain => "takes no new sessions, its own go on",
                    Intent::Down => "serves nobody, its sessions are lost ones",
                };
                match backends.as_slice() {
                    [backend] => write!(f, "{backend} of {generation} is set {intent}: it {what}"),
                    [backend, rest @ ..] => {
                        let rest = rest.len();
                        write!(f, "{backend} and {rest} more of {generation} are set {intent}: each {what}")
                    }
                    [] => write!(f, "no backend of {generation} is set {intent}"),
                }
            }
            FleetEvent::Joined { generation, backend } => write!(f, "{backend} joined {generation}"),
            FleetEvent::Health(change) => change.fmt(f),
            FleetEvent::Worker(change) => change.fmt(f),
            FleetEvent::RetiredHookFailed { generation, why } => {
                write!(f, "the hook on_retired of {generation} failed and will run again: {why}")
            }
            FleetEvent::BecameSure(generation) => write!(f, "the count of sessions of {generation} is sure again"),
            FleetEvent::ServiceVanished(service) => {
                write!(f, "{service} left the file; it serves its open sessions only")
            }
            FleetEvent::MaintenanceBegan(service) => {
                write!(f, "{service} is under maintenance: it takes no new sessions")
            }
            FleetEvent::MaintenanceEnded(service) => write!(f, "the maintenance of {service} is over"),
            FleetEvent::RulesChanged(service) => write!(f, "rules, timeouts or weights of {service} changed"),
            FleetEvent::GatewayChanged => f.write_str("the [gateway] table changed"),
        }
    }
}
