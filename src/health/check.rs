//! One health check of a backend: does it serve?

use std::fmt;
use std::time::Duration;

use crate::config::model::{Address, HealthCheck, HostPattern, HostRule, Protocol, Service, StatusRange};
use crate::fleet::backend::Backend;
use crate::health::ask;
use crate::upstream::ask::greet;
use crate::upstream::connect::connect;

/// Why a check failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    text: String,
    /// Whether it took all the time that it had.
    pub is_late: bool,
}

impl Failure {
    pub(super) fn because(text: String) -> Self {
        Self { text, is_late: false }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks a backend once by the rules of its service, which have to have a check; within its timeout.
///
/// What the backend answers is not repeated in the words of a failure. Cancel-safe: dropping the future closes the
/// connection.
///
/// # Errors
/// What it did instead of passing.
pub async fn check(backend: &Backend, rules: &Service, check: &HealthCheck) -> Result<(), Failure> {
    match tokio::time::timeout(check.timeout, attempt(backend, rules, check)).await {
        Ok(result) => result,
        Err(_) => Err(Failure { text: format!("no answer within {:?}", check.timeout), is_late: true }),
    }
}

async fn attempt(backend: &Backend, rules: &Service, check: &HealthCheck) -> Result<(), Failure> {
    let address = asked(&backend.address, check);
    // The whole check has its time limit, and the error that says so is better than that of a part of it.
    let stream = connect(&address, check.timeout.saturating_add(Duration::from_secs(1)))
        .await
        .map_err(|error| Failure::because(format!("cannot connect to {address}: {error}")))?;
    // A port of its own is one for those who look after programs, and these speak HTTP/1.1.
    let protocol = if check.port.is_some() { Protocol::Http1 } else { rules.protocol };
    let Some(path) = &check.path else {
        return greet(stream, protocol)
            .await
            .map_err(|error| Failure::because(format!("{address} {}", ask::no_greeting(&error))));
    };
    // Two versions at one address are told apart by their prefixes.
    let path = format!("{}{path}", backend.prefix.as_deref().unwrap_or_default());
    let host = check.host.clone().unwrap_or_else(|| host_of(rules, &backend.address));
    let request = ask::request(&path, &host, "tidegate-health")
        .map_err(|error| Failure::because(format!("cannot ask for {path}: {error}")))?;
    let answer = ask::ask(stream, protocol, request, check.body.as_deref())
        .await
        .map_err(|error| Failure::because(format!("no answer to GET {path}: {error}")))?;
    if !StatusRange::any(&check.status, answer.status.as_u16()) {
        return Err(Failure::because(format!("GET {path} answered {}", answer.status)));
    }
    if !answer.has_text {
        let text = check.body.as_deref().unwrap_or_default();
        return Err(Failure::because(format!("{text:?} is not in what GET {path} answered")));
    }
    Ok(())
}

/// Where a backend is asked.
fn asked(address: &Address, check: &HealthCheck) -> Address {
    match (address, check.port) {
        (Address::Tcp { host, .. }, Some(port)) => Address::Tcp { host: host.clone(), port },
        (address, _) => address.clone(),
    }
}

/// The Host that a question to a backend carries: the service's first one, or the backend's own.
pub fn host_of(rules: &Service, address: &Address) -> String {
    match (&rules.host, rules.hosts.first(), address) {
        (HostRule::Named(host), _, _) => host.clone(),
        (HostRule::Pass, Some(HostPattern::Exact(host) | HostPattern::Below(host)), _) => host.clone(),
        (_, _, Address::Tcp { .. }) => address.to_string(),
        (_, _, Address::Unix(_)) => "localhost".to_owned(),
    }
}
