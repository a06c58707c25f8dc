//! What `GET /v1/status` says, as far as tests ask.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) gateway: Process,
    pub(crate) services: Vec<Service>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Process {
    pub(crate) loaded_at: String,
    pub(crate) reload_error: Option<String>,
    pub(crate) sessions: u64,
    pub(crate) connections: u64,
    pub(crate) durable: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) in_file: bool,
    pub(crate) active: Option<u64>,
    pub(crate) generations: Vec<Generation>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) state: String,
    pub(crate) sessions: u64,
    pub(crate) requests: u64,
    pub(crate) tunnels: u64,
    pub(crate) trouble: Option<String>,
    pub(crate) backends: Vec<Backend>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) intent: String,
    pub(crate) sessions: u64,
    pub(crate) requests: u64,
    pub(crate) tunnels: u64,
}

impl Status {
    pub(crate) fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    pub(crate) fn active(&self, service: &str) -> Option<u64> {
        self.service(service).and_then(|service| service.active)
    }

    /// A generation that is listed, retired or not.
    pub(crate) fn generation(&self, service: &str, number: u64) -> Option<&Generation> {
        self.service(service)?.generations.iter().find(|generation| generation.number == number)
    }

    /// The word for a generation's state; one that is no longer listed is retired.
    pub(crate) fn state(&self, service: &str, number: u64) -> &str {
        self.generation(service, number).map_or("retired", |generation| &generation.state)
    }
}
