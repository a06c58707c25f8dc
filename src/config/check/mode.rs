//! What a service speaks, as typed to usable, and the addresses that are its own.

use std::net::SocketAddr;

use super::{overlap, raw};
use crate::config::model::{Balance, Gateway, Hashing, KeyPlace, Mode};
use crate::config::reader::At;
use crate::config::report::{Faults, Place, shown};

/// What a service speaks. Refuses what does not go with it.
pub(super) fn mode(raw: &raw::Service, balance: &Balance, faults: &Faults) -> Mode {
    let typed = &raw.mode;
    let listen = typed.listen.iter().flat_map(|at| &at.value).map(|at| at.value).collect();
    match typed.is_tcp {
        // What it was to be has been asked for already.
        None => Mode::Http,
        Some(true) => {
            tcp(raw, balance, faults);
            Mode::Tcp { listen }
        }
        Some(false) => {
            if let Some(at) = &typed.listen {
                let message = "only a service with mode = \"tcp\" has addresses of its own";
                let help = "add `mode = \"tcp\"`; or remove it: HTTP comes in by `listen` of [gateway], and `hosts` and \
                            `path` lead to the service";
                faults.error(&at.place, message, help);
            }
            Mode::Http
        }
    }
}

fn tcp(raw: &raw::Service, balance: &Balance, faults: &Faults) {
    let typed = &raw.mode;
    if !typed.has_listen {
        let place = Place { span: raw.place.span.clone(), key: format!("{}.listen", raw.place.key) };
        let message = "a service with mode = \"tcp\" needs an address of its own: nothing else tells whom a \
                       connection is for";
        faults.absent(&place, message, "add `listen = [\"127.0.0.1:3050\"]`");
    }
    let statuses = match &raw.ejection {
        Some(raw::Switched::On(ejection)) => ejection.statuses.as_ref().map(|at| &at.place),
        Some(raw::Switched::Off) | None => None,
    };
    let work = raw.worker.as_ref().and_then(|worker| worker.work.as_ref()).map(|at| &at.place);
    for place in typed.of_http.iter().chain(&raw.maintenance.of_http).chain(statuses).chain(work) {
        let message = "is about HTTP, which a service with mode = \"tcp\" does not look into";
        faults.error(place, message, "remove it; or write `mode = \"http\"`");
    }
    let lists = raw.generations.iter().filter_map(|generation| generation.backends.as_ref()).chain(&raw.backends);
    for prefix in lists.flat_map(|list| &list.value).filter_map(|backend| backend.prefix.as_ref()) {
        let message = "is about paths, of which a service with mode = \"tcp\" knows none";
        faults.error(&prefix.place, message, "remove it, and give each version a port of its own");
    }
    let Some(at) = &raw.balance else { return };
    match balance {
        Balance::RandomTwo
        | Balance::RoundRobin
        | Balance::LeastSessions
        | Balance::Hash(Hashing { key: KeyPlace::Client, .. }) => {}
        Balance::LeastRequests => {
            let message = "counts requests, of which a service with mode = \"tcp\" knows none";
            faults.error(&at.place, message, "write \"least_sessions\": each connection is a session");
        }
        Balance::Hash(Hashing { key, .. }) => {
            let message = format!("the {key} is a part of an HTTP request, which mode = \"tcp\" does not look into");
            faults.error(&at.place, message, "write `{ hash = \"client\" }`, for the client's address");
        }
    }
}

/// Every address that the file names for a service, with its place and the service's.
fn typed(file: &raw::File) -> impl Iterator<Item = (&At<SocketAddr>, &raw::Service)> {
    file.services.iter().flat_map(|service| {
        let listen = service.mode.listen.iter().flat_map(|at| &at.value);
        listen.map(move |at| (at, service))
    })
}

/// All addresses on which the gateway serves, those of its services behind its own.
pub(super) fn own(file: &raw::File, gateway: &Gateway) -> Vec<SocketAddr> {
    gateway.listen.iter().copied().chain(typed(file).map(|(at, _)| at.value)).collect()
}

/// No two of the gateway's addresses may cover the same: nobody could tell whom a connection is for.
pub(super) fn addresses(file: &raw::File, gateway: &Gateway, faults: &Faults) {
    let admin = gateway.admin_tcp().filter(|_| !file.gateway.admin_unknown);
    let all: Vec<_> = typed(file).collect();
    for (index, (at, service)) in all.iter().enumerate() {
        let address = at.value;
        if let Some(own) = gateway.listen.iter().find(|own| overlap(**own, address)) {
            let whose = if file.gateway.listen.is_some() { "" } else { " (its default)" };
            let message = format!("{address} and the gateway's own listener {own}{whose} cover the same address");
            let help = "give the service another port, or the gateway: `listen` of [gateway]";
            faults.error(&at.place, message, help);
        } else if let Some(admin) = admin.filter(|admin| overlap(*admin, address)) {
            let message = format!("{address} and the admin API at {admin} cover the same address");
            faults.error(&at.place, message, "give one of them another port");
        } else if let Some((other, owner)) = all[..index].iter().find(|(other, _)| overlap(other.value, address)) {
            let (message, help) = if std::ptr::eq(*owner, *service) {
                let message = if other.value == address {
                    format!("{address} is listed twice")
                } else {
                    format!("{} and {address} cover the same address", other.value)
                };
                (message, "remove one of the two")
            } else {
                let name = owner.name.as_ref().map_or("?", |at| at.value.as_str());
                let message = format!(
                    "{} ({}) listens on {} already",
                    faults.owner(&owner.place, &at.place),
                    shown(name),
                    other.value
                );
                (message, "give one of the two another port")
            };
            faults.error(&at.place, message, help);
        }
    }
}
