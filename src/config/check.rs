//! As typed to usable: fills in the defaults and holds keys against each other.

mod answers;
mod balance;
mod doubts;
mod health;
mod links;
mod maintenance;
mod mode;
mod ramp;
mod ready;
mod session;
mod waiting;
mod worker;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use session::Around;

use super::model::{
    AccessLog, Address, AdminAddress, Backend, Gateway, Generation, Hook, HostPattern, Intent, Model, Plan, Service,
    StatePlace,
};
use super::reader::At;
use super::report::{Faults, Place, shown};
use super::{defaults, presets, raw};
use crate::ids::{BackendName, GenerationNumber, ServiceName};

/// Checks a whole file. `None` only if a fault was reported, by this or by the reader.
pub(super) fn check(file: &raw::File, faults: &Faults) -> Option<Model> {
    let gateway = gateway(&file.gateway, faults);
    if !file.has_services {
        let place = Place { span: 0..0, key: "service".to_owned() };
        let help = "add one: a line `[[service]]`, below it `name = \"app\"` and `backends = [\"127.0.0.1:8801\"]`";
        faults.absent(&place, "there is no [[service]]", help);
    }
    let listen = mode::own(file, &gateway);
    let own = Own { listen: &listen, admin: gateway.admin_tcp().filter(|_| !file.gateway.admin_unknown) };
    names(&file.services, faults);
    routes(&file.services, faults);
    mode::addresses(file, &gateway, faults);
    let sessions: Vec<_> = file.services.iter().map(|service| presets::complete(&service.session)).collect();
    let services: Vec<_> = file
        .services
        .iter()
        .zip(&sessions)
        .map(|(raw, session)| service(raw, session, &gateway, &own, faults))
        .collect();
    worker::across(file, &own, faults);
    doubts::across(file, &sessions, &gateway, &services, faults);
    let services = services.into_iter().map(|service| service.map(Arc::new)).collect::<Option<Vec<_>>>()?;
    Some(Model { gateway: Arc::new(gateway), services })
}

/// The addresses that are the gateway's own.
struct Own<'g> {
    listen: &'g [SocketAddr],
    admin: Option<SocketAddr>,
}

fn or<T: Clone>(typed: &Option<At<T>>, default: T) -> T {
    typed.as_ref().map_or(default, |at| at.value.clone())
}

fn count(typed: &Option<At<u64>>, default: usize) -> usize {
    typed.as_ref().map_or(default, |at| usize::try_from(at.value).unwrap_or(usize::MAX))
}

/// The gateway's table whatever is wrong with the file; `None` when it does not say where the admin API is.
pub(super) fn gateway_alone(file: &raw::File) -> Option<Gateway> {
    (!file.gateway.admin_unknown).then(|| gateway(&file.gateway, &Faults::default()))
}

fn gateway(raw: &raw::Gateway, faults: &Faults) -> Gateway {
    let default = defaults::gateway();
    let gateway = Gateway {
        listen: match &raw.listen {
            Some(at) => at.value.iter().map(|address| address.value).collect(),
            None => default.listen,
        },
        admin: or(&raw.admin, default.admin),
        admin_mode: or(&raw.admin_mode, default.admin_mode),
        token_file: or(&raw.token_file, default.token_file),
        state: or(&raw.state, default.state),
        state_wait: or(&raw.state_wait, default.state_wait),
        state_sync: or(&raw.state_sync, default.state_sync),
        threads: raw.threads.unwrap_or(default.threads),
        trusted: raw.trusted.clone().unwrap_or(default.trusted),
        health_path: or(&raw.health_path, default.health_path),
        max_sessions: count(&raw.max_sessions, default.max_sessions),
        expected_sessions: count(&raw.expected_sessions, default.expected_sessions),
        keys: raw.keys.iter().flat_map(|at| &at.value).map(|file| file.value.clone()).collect(),
        max_connections: count(&raw.max_connections, default.max_connections),
        max_connections_per_client: match &raw.max_connections_per_client {
            Some(at) => at.value.and_then(|most| usize::try_from(most).ok()),
            None => default.max_connections_per_client,
        },
        max_header_size: or(&raw.max_header_size, default.max_header_size),
        max_headers: count(&raw.max_headers, default.max_headers),
        header_timeout: or(&raw.header_timeout, default.header_timeout),
        idle_timeout: or(&raw.idle_timeout, default.idle_timeout),
        shutdown_delay: or(&raw.shutdown_delay, default.shutdown_delay),
        shutdown_timeout: or(&raw.shutdown_timeout, default.shutdown_timeout),
        access_log: AccessLog {
            target: or(&raw.access_log, default.access_log.target),
            format: or(&raw.access_log_format, default.access_log.format),
        },
        log: or(&raw.log, default.log),
    };
    listeners(raw, &gateway, faults);
    if let Some(expected) = &raw.expected_sessions
        && gateway.expected_sessions > gateway.max_sessions
    {
        let message = format!("more than max_sessions, which is {}", gateway.max_sessions);
        faults.error(&expected.place, message, format!("write {} or less", gateway.max_sessions));
    }
    keys(raw, faults);
    token(raw, &gateway, faults);
    unwritten(raw, faults);
    gateway
}

/// Own addresses must not be each other's. Port 0 is whatever the system gives, and never collides.
fn listeners(raw: &raw::Gateway, gateway: &Gateway, faults: &Faults) {
    let typed: &[At<SocketAddr>] = raw.listen.as_ref().map_or(&[], |at| &at.value);
    for (index, listener) in typed.iter().enumerate() {
        if let Some(earlier) = typed[..index].iter().find(|earlier| overlap(earlier.value, listener.value)) {
            let message = if earlier.value == listener.value {
                format!("{} is listed twice", listener.value)
            } else {
                format!("{} and {} cover the same address", earlier.value, listener.value)
            };
            faults.error(&listener.place, message, "remove one of the two");
        }
    }
    let Some(admin) = gateway.admin_tcp().filter(|_| !raw.admin_unknown) else { return };
    let Some(listener) = gateway.listen.iter().find(|listener| overlap(**listener, admin)) else { return };
    // The fault stands at whatever the file says itself; defaults do not collide with each other.
    let typed_listener = typed.iter().find(|at| at.value == *listener).map(|at| &at.place);
    if let Some(place) = raw.admin.as_ref().map(|at| &at.place).or(typed_listener) {
        let message = format!("the admin API at {admin} and the listener {listener} cover the same address");
        faults.error(place, message, "give one of them another port");
    }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let (x, y) = (a.ip().to_canonical(), b.ip().to_canonical());
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (x == y || covers(x, y) || covers(y, x))
}

/// Keys that one gateway tries: each makes a forged cookie dearer to refuse.
const MAX_KEYS: usize = 8;

fn keys(raw: &raw::Gateway, faults: &Faults) {
    let Some(keys) = &raw.keys else { return };
    for (index, file) in keys.value.iter().enumerate() {
        if keys.value[..index].iter().any(|earlier| earlier.value == file.value) {
            faults.error(&file.place, "the file is listed twice", "remove one of the two");
        }
    }
    if let Some(file) = keys.value.get(MAX_KEYS) {
        let help = "remove the keys whose cookies have expired";
        faults.error(&file.place, format!("there are more than {MAX_KEYS} keys"), help);
    }
}

/// The admin API needs its token somewhere, and only one place is read.
fn token(raw: &raw::Gateway, gateway: &Gateway, faults: &Faults) {
    let memory = raw.state.as_ref().filter(|at| at.value == StatePlace::Memory);
    match (memory, &raw.token_file) {
        (Some(state), _)
            if gateway.admin_tcp().is_some()
                && gateway.token_file.is_none()
                && (!raw.has_token_file || raw.token_file.is_some()) =>
        {
            let place = Place { span: state.place.span.clone(), key: "gateway.token_file".to_owned() };
            let help = "add `token_file = \"/etc/tidegate/admin-token\"`, or write `admin = \"off\"`";
            let message = "with state = \"memory\" the admin API has no place for its token";
            faults.absent(&place, message, help);
        }
        (None, Some(At { value: Some(_), place })) => {
            let help = "remove it: the token is the file `admin-token` in the `state` directory";
            faults.warn(place, "is read only with state = \"memory\"", help);
        }
        (Some(_), Some(At { value: Some(_), place })) if gateway.admin.is_none() => {
            faults.warn(place, "is not read, because the admin API is off", "remove it");
        }
        _ => {}
    }
    if let Some(At { place, .. }) = &raw.admin_mode
        && !matches!(gateway.admin, Some(AdminAddress::Unix(_)))
        && !raw.admin_unknown
    {
        faults.warn(place, "is read only where the admin API listens at a unix socket", "remove it");
    }
}

/// Where nothing is written, there is nothing to wait for.
fn unwritten(raw: &raw::Gateway, faults: &Faults) {
    let places = [raw.state_wait.as_ref().map(|at| &at.place), raw.state_sync.as_ref().map(|at| &at.place)];
    if raw.state.as_ref().is_some_and(|at| at.value == StatePlace::Memory) {
        for place in places.into_iter().flatten() {
            faults.warn(place, "has no effect, because state = \"memory\" writes nothing", "remove it");
        }
    }
}

fn names(services: &[raw::Service], faults: &Faults) {
    let mut seen: HashMap<&ServiceName, &Place> = HashMap::new();
    for name in services.iter().filter_map(|service| service.name.as_ref()) {
        match seen.get(&name.value) {
            Some(first) => {
                let message = format!(
                    "the name {} is already that of {}",
                    shown(name.value.as_str()),
                    faults.owner(first, &name.place)
                );
                faults.error(&name.place, message, "give each service a name of its own");
            }
            None => {
                seen.insert(&name.value, &name.place);
            }
        }
    }
}

/// No two services may answer to the same host and path.
fn routes<'f>(services: &'f [raw::Service], faults: &Faults) {
    let mut seen: HashMap<(Option<&'f HostPattern>, &'f str), usize> = HashMap::new();
    for (index, service) in services.iter().enumerate().filter(|(_, service)| service.mode.is_tcp == Some(false)) {
        let path = service.path.as_ref().map_or("/", |at| at.value.as_str());
        let mut claim = |host: Option<&'f At<HostPattern>>, place: &Place| {
            let Some(&other) = seen.get(&(host.map(|at| &at.value), path)) else {
                seen.insert((host.map(|at| &at.value), path), index);
                return;
            };
            if other == index {
                faults.error(place, "the host is listed twice", "remove one of the two");
                return;
            }
            let name = services[other].name.as_ref().map_or("?", |at| at.value.as_str());
            let what = match host {
                Some(_) => format!("this host and the path {} lead", shown(path)),
                None => format!("every host and the path {} lead", shown(path)),
            };
            let other = faults.owner(&services[other].place, place);
            let message = format!("{what} to {other} ({}) already", shown(name));
            faults.error(place, message, "give this service other `hosts` or another `path`");
        };
        if service.every_host {
            let place = service.path.as_ref().map_or(&service.place, |at| &at.place);
            claim(None, place);
        }
        for host in service.hosts.iter().flat_map(|hosts| &hosts.value) {
            claim(Some(host), &host.place);
        }
    }
}

fn service(
    raw: &raw::Service,
    session: &raw::Session,
    gateway: &Gateway,
    own: &Own<'_>,
    faults: &Faults,
) -> Option<Service> {
    let plan = plan(raw, gateway, own, faults);
    balance::ignored(raw, faults);
    answers::doubts(raw, plan.as_ref(), faults);
    let ready = ready::ready(raw, faults);
    let (on_starting, on_retired) = (hook(&raw.on_starting), hook(&raw.on_retired));
    let name = raw.name.as_ref().map(|at| at.value.clone());
    // A name that is missing has been reported; what else is wrong is to be told in the same breath.
    let unnamed = ServiceName::new("unnamed");
    let name_or = name.as_ref().unwrap_or(&unnamed);
    let balance = balance::balance(raw);
    let mode = mode::mode(raw, &balance, faults);
    let (session, strip_prefix) = if mode.is_http() {
        let around = Around { service: raw, gateway, plan: plan.as_ref(), faults };
        links::unproven(raw, faults);
        (around.rules(session, name_or), links::strip_prefix(raw, faults))
    } else {
        // A connection is its own session, and has no ids.
        (defaults::session(name_or), None)
    };
    let (retry_new, asset_fallback) = (answers::retry_new(raw, faults), answers::asset_fallback(raw, faults));
    let (rollout, force) = (ramp::rollout(raw, faults), ramp::force(raw, &session, faults));
    let respond = answers::respond(raw, faults);
    let default = defaults::service(name?, plan?);
    Some(Service {
        mode,
        hosts: raw.hosts.iter().flat_map(|at| &at.value).map(|host| host.value.clone()).collect(),
        path: or(&raw.path, default.path),
        balance,
        slow_start: or(&raw.slow_start, default.slow_start).filter(|time| !time.is_zero()),
        retry_new,
        asset_fallback,
        respond,
        waiting: waiting::waiting(&raw.waiting, faults),
        rollout,
        force,
        strip_prefix,
        host: or(&raw.host, default.host),
        protocol: or(&raw.protocol, default.protocol),
        session,
        maintenance: maintenance::maintenance(&raw.maintenance, faults),
        ready,
        health: health::health(raw, faults),
        ejection: health::ejection(raw, faults),
        connect_timeout: or(&raw.connect_timeout, default.connect_timeout),
        response_timeout: or(&raw.response_timeout, default.response_timeout),
        body_timeout: or(&raw.body_timeout, default.body_timeout),
        tunnel_timeout: or(&raw.tunnel_timeout, default.tunnel_timeout),
        backend_idle_timeout: or(&raw.backend_idle_timeout, default.backend_idle_timeout),
        backend_idle_connections: count(&raw.backend_idle_connections, default.backend_idle_connections),
        max_body_size: or(&raw.max_body_size, default.max_body_size),
        drain_timeout: or(&raw.drain_timeout, default.drain_timeout),
        drain_spread: or(&raw.drain_spread, default.drain_spread),
        max_generations: count(&raw.max_generations, default.max_generations),
        on_starting: on_starting.or(default.on_starting),
        on_retired: on_retired.or(default.on_retired),
        name: default.name,
        plan: default.plan,
    })
}

fn plan(raw: &raw::Service, gateway: &Gateway, own: &Own<'_>, faults: &Faults) -> Option<Plan> {
    if raw.has_backends && raw.has_generations {
        let help = "remove `backends`, or move them into a [[service.generation]] with an `id`";
        let other = raw.generations.iter().find_map(|generation| generation.id.as_ref());
        let other = other.map(|id| faults.elsewhere(&id.place, &raw.backends_place)).unwrap_or_default();
        let message = format!("`backends` and [[service.generation]]{other} exclude each other");
        faults.error(&raw.backends_place, message, help);
    } else if !raw.has_backends && !raw.has_generations && !raw.has_worker {
        let place = Place { span: raw.place.span.clone(), key: format!("{}.backends", raw.place.key) };
        let message = "the service has no backends: neither `backends` nor [[service.generation]] nor [service.worker]";
        let help = "add `backends = [\"127.0.0.1:8801\"]`; or [service.worker] with a `command`, and the gateway starts \
                    them itself";
        faults.absent(&place, message, help);
    }
    let worker = raw.worker.as_ref().map(|worker| {
        worker::alone(raw, worker, faults);
        worker::worker(raw, worker, gateway, faults)
    });
    let mut seen: HashMap<u64, &Place> = HashMap::new();
    let mut generations = Vec::new();
    for generation in &raw.generations {
        if let Some(id) = &generation.id
            && seen.insert(id.value, &id.place).is_some()
        {
            let next = raw.generations.iter().filter_map(|other| other.id.as_ref()).map(|id| id.value).max();
            let message = format!("the generation {} is listed twice", id.value);
            let help = format!("write `id = {}`, the next free one", next.unwrap_or(id.value) + 1);
            faults.error(&id.place, message, help);
        }
        let backends = generation.backends.as_ref().map(|at| backends(&at.value, own, faults));
        if let (Some(id), Some(backends)) = (&generation.id, backends) {
            generations.push(Generation { number: GenerationNumber(id.value), backends });
        }
    }
    let numbered = raw.backends.as_ref().map(|at| backends(&at.value, own, faults));
    generations.sort_by_key(|generation| generation.number);
    nobody_up(raw, &generations, numbered.as_deref(), faults);
    if let Some(worker) = worker {
        return Some(Plan::Worker(Arc::new(worker?)));
    }
    match numbered {
        Some(backends) => Some(Plan::Numbered(backends)),
        None if !generations.is_empty() => Some(Plan::Explicit(generations)),
        None => None,
    }
}

/// Only what is to take new sessions is looked at: older generations may well be on their way out.
fn nobody_up(raw: &raw::Service, generations: &[Generation], numbered: Option<&[Backend]>, faults: &Faults) {
    if let (Some(backends), Some(typed)) = (numbered, &raw.backends) {
        balance::nobody_up(backends, &typed.place, faults);
    } else if let Some(newest) = generations.last() {
        let is_newest = |one: &&raw::Generation| one.id.as_ref().is_some_and(|id| id.value == newest.number.0);
        if let Some(typed) = raw.generations.iter().find(is_newest).and_then(|one| one.backends.as_ref()) {
            balance::nobody_up(&newest.backends, &typed.place, faults);
        }
    }
}

fn backends(typed: &[raw::Backend], own: &Own<'_>, faults: &Faults) -> Vec<Backend> {
    let mut seen: HashMap<BackendName, &Place> = HashMap::new();
    let mut usable = Vec::new();
    for backend in typed {
        let Some(address) = &backend.address else { continue };
        own.refuse(address, faults);
        let name = match &backend.name {
            Some(name) => name.value.clone(),
            None => links::name(&address.value, backend.prefix.as_ref()),
        };
        let place = backend.name.as_ref().map_or(&backend.place, |at| &at.place);
        if seen.insert(name.clone(), place).is_some() {
            let message = format!("the backend {} is listed twice", shown(name.as_str()));
            faults.error(place, message, "remove one of the two, or give one of them another `name`");
        }
        let weight = backend.weight.as_ref().and_then(|at| u32::try_from(at.value).ok());
        usable.push(Backend {
            name,
            address: address.value.clone(),
            prefix: backend.prefix.as_ref().map(|at| at.value.clone()),
            public: backend.public.as_ref().map(|at| at.value.clone()),
            weight: weight.unwrap_or(defaults::WEIGHT),
            max_requests: waiting::max_requests(backend.max_requests.as_ref()),
            intent: or(&backend.status, Intent::Up),
        });
    }
    usable
}

impl Own<'_> {
    /// A backend that is the gateway itself would answer with a loop, or hand the admin API to clients.
    fn refuse(&self, backend: &At<Address>, faults: &Faults) {
        let Address::Tcp { host, port } = &backend.value else { return };
        let ips = match host.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) if host == "localhost" => vec![Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()],
            // A name is resolved at every connect; what it means then is not known here.
            Err(_) => return,
        };
        let reaches = |own: SocketAddr| {
            own.port() == *port
                && ips.iter().map(IpAddr::to_canonical).any(|ip| {
                    let here = ip.is_loopback() || ip.is_unspecified();
                    let mine = own.ip().to_canonical();
                    ip == mine || (mine.is_unspecified() && here) || (mine.is_loopback() && ip.is_unspecified())
                })
        };
        let help = "write the address on which the application listens";
        if self.admin.is_some_and(reaches) {
            faults.error(&backend.place, format!("{} is the gateway's own admin address", backend.value), help);
        } else if let Some(listener) = self.listen.iter().find(|listener| reaches(**listener)) {
            let message = format!("{} is the gateway itself, which listens on {listener}", backend.value);
            faults.error(&backend.place, message, help);
        }
    }
}

fn hook(raw: &Option<raw::Hook>) -> Option<Hook> {
    let raw = raw.as_ref()?;
    let command = raw.command.as_ref()?.value.iter().map(|word| word.value.clone()).collect();
    Some(Hook { command, timeout: or(&raw.timeout, defaults::HOOK_TIMEOUT) })
}
