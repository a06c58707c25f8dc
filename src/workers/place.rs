//! Where the processes of a generation are to listen.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use super::{launch, listener};
use crate::config::model::Address;
use crate::config::model::worker::{HTTP, Launch, Listen, PortRule, Ports, fill};
use crate::fleet::worker::{Site, WorkerId};
use crate::ids::GenerationId;

/// Where a port is drawn from that may be any: below those that the system itself gives to outgoing connections.
const ANY: std::ops::Range<u16> = 10_000..32_768;

/// Draws before it is given up.
const DRAWS: u32 = 2_000;

/// Ports that are not to be given, with what has them.
pub(super) type Taken = HashMap<u16, String>;

/// A site for each instance, in their order; no port twice and none of `taken`. Blocks shortly: it tries ports.
///
/// # Errors
/// Which ports are not to be had, and why.
pub(super) fn sites(launch: &Launch, generation: &GenerationId, taken: &mut Taken) -> Result<Vec<Site>, String> {
    (0..launch.instances)
        .map(|instance| {
            let worker = WorkerId { generation: generation.clone(), instance, life: 0 };
            match &launch.listen {
                Listen::Ports(ports) => at_ports(ports, &worker, taken),
                Listen::Socket(path) => {
                    let path = fill(path, &|name| launch::fact(&worker, None, name));
                    Ok(Site { address: Address::Unix(path.into()), ports: BTreeMap::new() })
                }
            }
        })
        .collect()
}

fn at_ports(rules: &Ports, worker: &WorkerId, taken: &mut Taken) -> Result<Site, String> {
    let mut ports = BTreeMap::new();
    for (family, rule) in &rules.families {
        let port = match *rule {
            PortRule::Base(base) => of_range(family, base, rules, worker, taken)?,
            PortRule::Auto => any(family, taken)?,
        };
        taken.insert(port, worker.to_string());
        ports.insert(family.clone(), port);
    }
    let port = *ports.get(HTTP).ok_or_else(|| format!("there is no port of the family {HTTP}"))?;
    Ok(Site { address: Address::Tcp { host: Ipv4Addr::LOCALHOST.to_string(), port }, ports })
}

/// The generation's own port within the instance's range, or the next one that is free.
fn of_range(family: &str, base: u16, rules: &Ports, worker: &WorkerId, taken: &Taken) -> Result<u16, String> {
    let range = u64::from(rules.range.max(1));
    let first = u64::from(base) + u64::from(worker.instance) * u64::from(rules.step);
    let turn = worker.generation.number.0 % range;
    let mut holder = None;
    for offset in 0..range {
        let Ok(port) = u16::try_from(first + (turn + offset) % range) else { continue };
        match taken.get(&port) {
            Some(who) => _ = holder.get_or_insert_with(|| format!("{port} is of {who}")),
            None => match is_free(port) {
                Ok(()) => return Ok(port),
                Err(error) => _ = holder.get_or_insert_with(|| format!("{port}: {error}")),
            },
        }
    }
    let why = holder.unwrap_or_else(|| "they are beyond 65535".to_owned());
    Err(format!("no port of {family} from {first} to {} is free for {worker}: {why}", first + range - 1))
}

fn any(family: &str, taken: &Taken) -> Result<u16, String> {
    for _ in 0..DRAWS {
        let port = fastrand::u16(ANY);
        if !taken.contains_key(&port) && is_free(port).is_ok() {
            return Ok(port);
        }
    }
    Err(format!("no port of {family} from {} to {} was found free in {DRAWS} draws", ANY.start, ANY.end - 1))
}

/// Whether all ports of a site are free still.
///
/// # Errors
/// The first that is not, and who has it, where that can be found out.
pub(super) fn try_site(site: &Site) -> Result<(), String> {
    site.ports.iter().try_for_each(|(family, port)| {
        is_free(*port).map_err(|error| match listener::holder(*port) {
            Some(holder) => format!("its port {port} ({family}) is held by {holder}"),
            None => format!("its port {port} ({family}): {error}"),
        })
    })
}

/// Whether a process could listen at the port, on whichever address: nobody else does, and nobody keeps it.
fn is_free(port: u16) -> io::Result<()> {
    let addresses = [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ];
    for address in addresses {
        match bind(address) {
            // A machine without IPv6 has nobody there.
            Err(error) if address.is_ipv6() && !matches!(error.kind(), ErrorKind::AddrInUse) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Binds without listening, so that nobody is served by mistake, and lets go at once.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Without it, connections that a former process closed a moment ago would count.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::ids::{GenerationNumber, ServiceName};

    fn launch(listen: Listen, instances: u32) -> Launch {
        let launch = crate::config::defaults::worker(vec!["true".to_owned()], listen).launch;
        Launch { instances, ..launch }
    }

    fn ports(families: &[(&str, PortRule)], step: u16, range: u16) -> Listen {
        let families = families.iter().map(|(name, rule)| ((*name).to_owned(), *rule)).collect();
        Listen::Ports(Ports { families, step, range })
    }

    fn generation(number: u64) -> GenerationId {
        GenerationId { service: ServiceName::new("app"), number: GenerationNumber(number) }
    }

    fn http(sites: &[Site]) -> Vec<u16> {
        sites.iter().map(|site| site.ports[HTTP]).collect()
    }

    /// The first of `count` ports in a row that are free now.
    fn free_row(count: u16) -> u16 {
        (0..200)
            .map(|_| fastrand::u16(10_000..30_000))
            .find(|first| (*first..first + count).all(|port| is_free(port).is_ok()))
            .expect("a row of free ports")
    }

    #[test]
    fn generations_take_turns_within_the_range_of_their_instance() {
        let base = free_row(60);
        let launch = launch(ports(&[(HTTP, PortRule::Base(base))], 20, 10), 3);
        let at = |number| http(&sites(&launch, &generation(number), &mut Taken::new()).unwrap());
        assert_eq!(at(3), [base + 3, base + 23, base + 43]);
        assert_eq!(at(19), [base + 9, base + 29, base + 49]);
        let mut taken: Taken = [(base + 9, "somebody".to_owned())].into();
        assert_eq!(http(&sites(&launch, &generation(9), &mut taken).unwrap()), [base, base + 29, base + 49], "wraps");
    }

    #[test]
    fn a_port_that_somebody_listens_at_or_keeps_is_passed_over() {
        let base = free_row(3);
        let launch = launch(ports(&[(HTTP, PortRule::Base(base))], 1, 3), 1);
        let at = || sites(&launch, &generation(0), &mut Taken::new());
        let _v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, base)).unwrap();
        assert_eq!(http(&at().unwrap()), [base + 1]);
        let keeper = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        keeper.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, base + 1)).into()).unwrap();
        assert_eq!(http(&at().unwrap()), [base + 2], "it is bound, if by nobody who listens");
        let _other = TcpListener::bind((Ipv4Addr::UNSPECIFIED, base + 2)).unwrap();
        let why = at().unwrap_err();
        assert!(why.contains(&format!("no port of http from {base} to {}", base + 2)), "{why}");
        assert!(why.contains(&format!("{base}: ")), "names one that is taken, and why: {why}");
    }

    #[test]
    fn families_and_any_ports_are_all_different() {
        let launch = launch(ports(&[(HTTP, PortRule::Auto), ("debug", PortRule::Auto)], 1, 1), 20);
        let sites = sites(&launch, &generation(1), &mut Taken::new()).unwrap();
        let all: std::collections::HashSet<u16> = sites.iter().flat_map(|site| site.ports.values().copied()).collect();
        assert_eq!(all.len(), 40);
        assert!(all.iter().all(|port| ANY.contains(port)));
    }

    #[test]
    fn a_socket_is_named_after_the_instance() {
        let launch = launch(Listen::Socket("/run/{service}-{generation}-{instance}.sock".to_owned()), 2);
        let sites = sites(&launch, &generation(7), &mut Taken::new()).unwrap();
        assert_eq!(sites[1].address, Address::Unix("/run/app-7-1.sock".into()));
        assert!(sites[1].ports.is_empty());
    }
}
