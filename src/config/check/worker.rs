//! The table `[service.worker]`, as typed to usable.

mod placeholders;
mod ports;

use super::{Own, or, raw};
use crate::config::defaults;
use crate::config::model::worker::{
    Launch, Limits, Listen, Output, PortRule, Restart, Stop, Variables, WorkCheck, Worker, fill,
};
use crate::config::model::{Gateway, StatePlace};
use crate::config::reader::At;
use crate::config::report::{Faults, Place, shown};
use placeholders::Known;

/// The longest path of a socket: sockaddr_un has room for 108 bytes, the last of which is zero.
const LONGEST_SOCKET: usize = 107;

/// Refuses backends of which somebody else is in charge beside those that the gateway starts.
pub(super) fn alone(service: &raw::Service, worker: &raw::Worker, faults: &Faults) {
    if service.has_backends {
        let elsewhere = faults.elsewhere(&worker.place, &service.backends_place);
        let message = format!("`backends` and [service.worker]{elsewhere} exclude each other");
        let help = "remove `backends`: they are the processes that the gateway starts; or remove [service.worker]";
        faults.error(&service.backends_place, message, help);
    }
    if service.has_generations {
        let other = service.generations.iter().find_map(|generation| generation.id.as_ref());
        let elsewhere = other.map(|id| faults.elsewhere(&id.place, &worker.place)).unwrap_or_default();
        let message = format!(
            "[service.worker] and [[service.generation]]{elsewhere} exclude each other: the gateway numbers the \
             generations of its workers"
        );
        let help =
            "remove the [[service.generation]] tables; or remove [service.worker], and start the backends yourself";
        faults.error(&worker.place, message, help);
    }
}

/// The worker of a service; `None` if a fault was reported without whose remedy there is none.
pub(super) fn worker(service: &raw::Service, raw: &raw::Worker, gateway: &Gateway, faults: &Faults) -> Option<Worker> {
    if gateway.state == StatePlace::Memory {
        let message = "a worker needs a state directory, in which stands which processes are the gateway's own";
        let help = "name one: `state = \"/var/lib/tidegate\"` in [gateway]";
        faults.error(&raw.place, message, help);
    }
    let instances = number(raw.instances.as_ref());
    let listen = listen(service, raw, instances, faults);
    texts(raw, listen.as_ref(), faults);
    unreachable(service, listen.as_ref(), faults);
    let command = raw.command.as_ref()?;
    if let Some(program) = command.value.first().filter(|program| program.value.is_empty()) {
        faults.error(&program.place, "names no program", "write a path, or a name that is looked for in PATH");
    }
    let default = defaults::worker(command.value.iter().map(|word| word.value.clone()).collect(), listen?);
    let pauses = raw.backoff.as_ref().map(|at| Restart { first: at.value.0, longest: at.value.1 });
    let environment = raw.environment.iter().map(|(name, value)| (name.clone(), value.value.clone()));
    Some(Worker {
        launch: Launch {
            instances: instances.unwrap_or(default.launch.instances),
            directory: or(&raw.directory, default.launch.directory),
            environment: Variables(environment.collect()),
            user: or(&raw.user, default.launch.user),
            group: or(&raw.group, default.launch.group),
            limits: limits(&raw.limits, &default.launch.limits),
            command: default.launch.command,
            listen: default.launch.listen,
        },
        stop: Stop { signal: or(&raw.signal, default.stop.signal), grace: or(&raw.grace, default.stop.grace) },
        restart: pauses.unwrap_or(default.restart),
        survives_restart: or(&raw.survives_restart, default.survives_restart),
        roll_on_reload: or(&raw.roll_on_reload, default.roll_on_reload),
        stop_with_gateway: or(&raw.stop_with_gateway, default.stop_with_gateway),
        work: raw.work.as_ref().and_then(|at| work(&at.value)),
        output: Output {
            max_size: or(&raw.output.max_size, default.output.max_size),
            keep: number(raw.output.keep.as_ref()).unwrap_or(default.output.keep),
            log_lines: number(raw.output.log_lines.as_ref()).unwrap_or(default.output.log_lines),
        },
    })
}

/// What is held against other services and the gateway: ports and sockets.
pub(super) fn across(file: &raw::File, own: &Own<'_>, faults: &Faults) {
    ports::across(file, own, faults);
    let mut seen: Vec<(String, &raw::Service)> = Vec::new();
    for service in &file.services {
        let Some(raw::Listen::Socket(socket)) = way(service) else { continue };
        let name = service.name.as_ref().map_or("?", |at| at.value.as_str());
        let path = fill(&socket.value, &|placeholder| (placeholder == "service").then(|| name.to_owned()));
        match seen.iter().find(|(other, _)| *other == path) {
            Some((_, other)) => {
                let message = format!("is the socket of {}, too", told(other, &socket.place, faults));
                let help = "give each service a path of its own, by {service} for one";
                faults.error(&socket.place, message, help);
            }
            None => seen.push((path, service)),
        }
    }
}

/// Where the workers of a service listen, if the file says one thing about it.
fn way(service: &raw::Service) -> Option<&raw::Listen> {
    match service.worker.as_ref()?.ways.as_slice() {
        [raw::Way { listen: Some(listen), .. }] => Some(listen),
        _ => None,
    }
}

/// A service by its table and its name, where it stands if that is another file than that of the place.
fn told(service: &raw::Service, place: &Place, faults: &Faults) -> String {
    let name = service.name.as_ref().map_or("?", |at| at.value.as_str());
    format!("{} ({})", faults.owner(&service.place, place), shown(name))
}

fn number(typed: Option<&At<u64>>) -> Option<u32> {
    typed.and_then(|at| u32::try_from(at.value).ok())
}

fn limits(raw: &raw::Limits, default: &Limits) -> Limits {
    Limits {
        memory: or(&raw.memory, default.memory),
        open_files: or(&raw.open_files, default.open_files),
        processes: or(&raw.processes, default.processes),
        file_size: or(&raw.file_size, default.file_size),
        core_size: or(&raw.core_size, default.core_size),
    }
}

fn work(raw: &raw::Work) -> Option<WorkCheck> {
    let default = defaults::work(raw.path.as_ref()?.value.clone());
    Some(WorkCheck {
        pointer: or(&raw.pointer, default.pointer),
        interval: or(&raw.interval, default.interval),
        path: default.path,
    })
}

fn listen(service: &raw::Service, raw: &raw::Worker, instances: Option<u32>, faults: &Faults) -> Option<Listen> {
    const HELP: &str = "keep one of `base_port = 8800`, `port = \"auto\"`, `ports = { http = 8800 }`, `socket`";
    let [first, more @ ..] = raw.ways.as_slice() else {
        if !raw.has_way {
            let place = Place { span: raw.place.span.clone(), key: format!("{}.base_port", raw.place.key) };
            let message = "nothing says where the processes listen";
            let help = "add `base_port = 8800`; or `port = \"auto\"`, `ports = { http = 8800 }`, or a `socket`";
            faults.absent(&place, message, help);
        }
        return None;
    };
    for other in more {
        let elsewhere = faults.elsewhere(&first.place, &other.place);
        let message = format!("`{}`{elsewhere} and `{}` exclude each other", first.key, other.key);
        faults.error(&other.place, message, HELP);
    }
    let listen = first.listen.as_ref()?;
    let has_base = match listen {
        raw::Listen::Ports(families) => families.iter().any(|family| matches!(family.rule.value, PortRule::Base(_))),
        raw::Listen::Socket(_) => false,
    };
    if !has_base && more.is_empty() {
        for typed in [&raw.port_range, &raw.port_step].into_iter().flatten() {
            let message = "has no effect, because no ports are counted from a number on";
            faults.warn(&typed.place, message, "remove it, or write `base_port = 8800`");
        }
    }
    match listen {
        raw::Listen::Ports(families) => Some(Listen::Ports(ports::ports(service, raw, families, has_base, faults))),
        raw::Listen::Socket(path) => {
            socket(service, path, instances.unwrap_or(1), faults);
            Some(Listen::Socket(path.value.clone()))
        }
    }
}

/// Each process needs a path of its own, which the system can take.
fn socket(service: &raw::Service, path: &At<String>, instances: u32, faults: &Faults) {
    Known::OfSocket.check(path, false, faults);
    for (name, is_needed) in [("generation", true), ("instance", instances > 1)] {
        if is_needed && !placeholders::names(&path.value).any(|other| other == name) {
            let message = format!("each {name} needs a socket of its own");
            faults.error(
                &path.place,
                message,
                format!("add {{{name}}}: \"/run/app-{{generation}}-{{instance}}.sock\""),
            );
        }
    }
    let name = service.name.as_ref().map_or("", |at| at.value.as_str());
    let longest = fill(&path.value, &|placeholder| match placeholder {
        "service" => Some(name.to_owned()),
        "generation" => Some(raw::MAX_GENERATION.to_string()),
        "instance" => Some(instances.saturating_sub(1).to_string()),
        _ => None,
    });
    if longest.len() > LONGEST_SOCKET {
        let message =
            format!("becomes a path of up to {} bytes, and sockets have room for {LONGEST_SOCKET}", longest.len());
        faults.error(&path.place, message, "write a shorter one, such as \"/run/app-{generation}-{instance}.sock\"");
    }
}

/// Checks placeholders of command and environment.
fn texts(raw: &raw::Worker, listen: Option<&Listen>, faults: &Faults) {
    let known = Known::of(listen);
    for word in raw.command.iter().flat_map(|at| &at.value) {
        known.check(word, false, faults);
    }
    for (_, value) in &raw.environment {
        known.check(value, true, faults);
    }
}

/// Warns of what other keys ask of workers that they cannot do.
fn unreachable(service: &raw::Service, listen: Option<&Listen>, faults: &Faults) {
    let is_socket = matches!(listen, Some(Listen::Socket(_)));
    if let Some(respond) = service.answers.respond.as_ref().filter(|at| at.value != defaults::RESPOND) {
        let help = "write `respond = \"forward\"`, or list `backends` that are `public`";
        if is_socket {
            let message = "clients are sent to the workers, and none can connect to a socket of this machine";
            faults.error(&respond.place, message, help);
        } else if listen.is_some() {
            let message = "clients are sent to the workers, which listen on 127.0.0.1: only those of this machine \
                           find them there";
            faults.warn(&respond.place, message, help);
        }
    }
    if let (Some(raw::Switched::On(raw::Health { port: Some(port), .. })), true) = (&service.health, is_socket) {
        let message = "has no effect on workers at a socket, which is no address with a port and is asked itself";
        faults.warn(&port.place, message, "remove it, or write `base_port` in place of `socket`");
    }
}
