//! What `GET /v1/status` says, as far as tests ask.

use std::collections::BTreeMap;

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
    #[serde(default)]
    pub(crate) connections_refused: u64,
    pub(crate) unconfirmed: u64,
    pub(crate) durable: bool,
    /// Why it is not durable.
    #[serde(default)]
    pub(crate) durability: Option<String>,
    /// Answers that went out before what they said was durable.
    #[serde(default)]
    pub(crate) undurable: Option<u64>,
    pub(crate) unsure: bool,
    pub(crate) sessions_lost: u64,
    pub(crate) forced: u64,
    pub(crate) force_refused: u64,
    #[serde(default)]
    pub(crate) retried: u64,
    #[serde(default)]
    pub(crate) borrowed: u64,
    #[serde(default)]
    pub(crate) recovered: Option<Recovered>,
}

/// What the start found in the log of bindings.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Recovered {
    pub(crate) sessions: u64,
    pub(crate) lost: u64,
    pub(crate) complete: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) in_file: bool,
    pub(crate) active: Option<u64>,
    #[serde(default)]
    pub(crate) waiting: u64,
    #[serde(default)]
    pub(crate) waited_in_vain: u64,
    pub(crate) generations: Vec<Generation>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) state: String,
    pub(crate) share: Option<u8>,
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
    pub(crate) health: String,
    pub(crate) health_reason: Option<String>,
    pub(crate) ejected_until: Option<String>,
    pub(crate) ejection_reason: Option<String>,
    pub(crate) sessions: u64,
    pub(crate) requests: u64,
    pub(crate) tunnels: u64,
    #[serde(default)]
    pub(crate) max_requests: Option<u64>,
    /// Its process, where the gateway runs it.
    #[serde(default)]
    pub(crate) worker: Option<Worker>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Worker {
    pub(crate) instance: u32,
    pub(crate) life: u32,
    pub(crate) state: String,
    pub(crate) pid: Option<u32>,
    #[serde(default)]
    pub(crate) ports: BTreeMap<String, u16>,
    #[serde(default)]
    pub(crate) work: Option<u64>,
    #[serde(default)]
    pub(crate) last_exit: Option<String>,
    #[serde(default)]
    pub(crate) output: Vec<String>,
}

impl Status {
    /// The sentence that says why the gateway is not durable.
    pub(crate) fn why(&self) -> Option<String> {
        self.gateway.durability.clone().filter(|text| !text.is_empty())
    }

    /// Sessions that the start found, and those whose generation was gone.
    pub(crate) fn recovered(&self) -> (u64, u64) {
        let recovered = self.gateway.recovered.as_ref().expect("status says what was recovered");
        (recovered.sessions, recovered.lost)
    }

    /// Sessions that were lost with their backend.
    pub(crate) fn lost(&self) -> u64 {
        self.gateway.sessions_lost
    }

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

    /// Processes of a generation that the gateway runs.
    pub(crate) fn workers(&self, service: &str, number: u64) -> Vec<&Worker> {
        let backends = self.generation(service, number).into_iter().flat_map(|generation| &generation.backends);
        backends.filter_map(|backend| backend.worker.as_ref()).collect()
    }

    /// The process of the first instance of a generation.
    pub(crate) fn pid(&self, service: &str, number: u64) -> u32 {
        let workers = self.workers(service, number);
        workers.first().and_then(|worker| worker.pid).unwrap_or_else(|| panic!("no process: {self:?}"))
    }

    /// The word for a generation's state; one that is no longer listed is retired.
    pub(crate) fn state(&self, service: &str, number: u64) -> &str {
        self.generation(service, number).map_or("retired", |generation| &generation.state)
    }
}
