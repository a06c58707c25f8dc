//! Ports of workers: whether there are enough of them, and whether they are nobody else's.

use std::collections::BTreeMap;

use super::{number, told, way};
use crate::config::check::{Own, count, raw};
use crate::config::defaults;
use crate::config::model::worker::{PortRule, Ports};
use crate::config::report::Faults;

/// The last of all ports.
const LAST: u32 = 65_535;

/// The ports of one service, held against the rest of its table.
pub(super) fn ports(
    service: &raw::Service,
    raw: &raw::Worker,
    families: &[raw::Family],
    has_base: bool,
    faults: &Faults,
) -> Ports {
    let ports = numbers(raw, families);
    let instances = number(raw.instances.as_ref()).unwrap_or(1);
    if !has_base {
        return ports;
    }
    if let Some(step) = &raw.port_step
        && ports.step < ports.range
        && instances > 1
    {
        let message = format!(
            "is less than the {} ports of an instance (`port_range`): the next instance begins among them",
            ports.range
        );
        faults.error(&step.place, message, format!("write {} or more, or a smaller `port_range`", ports.range));
    }
    let max_generations = count(&service.max_generations, defaults::MAX_GENERATIONS);
    if usize::from(ports.range) < max_generations
        && let Some(place) = raw.port_range.as_ref().or(service.max_generations.as_ref()).map(|at| &at.place)
    {
        let message = format!(
            "an instance has {} ports (`port_range`), and there may be {max_generations} generations \
             (`max_generations`): a port for each is needed",
            ports.range
        );
        let help = format!("write `port_range = {max_generations}` or more, or a smaller `max_generations`");
        faults.error(place, message, help);
    }
    for reach in families.iter().filter_map(|family| Reach::of(service, family, instances, ports.clone())) {
        if reach.end() > LAST + 1 {
            let message = format!(
                "the ports of {instances} instances would end at {}, and there are none beyond {LAST}",
                reach.end() - 1
            );
            let help = match (LAST + 1 + u32::from(reach.base)).checked_sub(reach.end()) {
                Some(base @ 1..) => format!("write {base} or less, or fewer ports by `port_range` and `port_step`"),
                _ => "write fewer `instances`, or fewer ports by `port_range` and `port_step`".to_owned(),
            };
            faults.error(&reach.family.rule.place, message, help);
        }
    }
    ports
}

/// Families, range and step, whether or not they go together.
fn numbers(raw: &raw::Worker, families: &[raw::Family]) -> Ports {
    let port = |typed: Option<&_>, default| number(typed).and_then(|port| u16::try_from(port).ok()).unwrap_or(default);
    let range = port(raw.port_range.as_ref(), defaults::PORT_RANGE);
    Ports {
        families: families.iter().map(|family| (family.name.clone(), family.rule.value)).collect::<BTreeMap<_, _>>(),
        step: port(raw.port_step.as_ref(), range),
        range,
    }
}

/// The ports of one family, of all instances.
struct Reach<'f> {
    service: &'f raw::Service,
    family: &'f raw::Family,
    base: u16,
    instances: u32,
    ports: Ports,
}

impl<'f> Reach<'f> {
    /// `None` of a family that has no numbers of its own.
    fn of(service: &'f raw::Service, family: &'f raw::Family, instances: u32, ports: Ports) -> Option<Self> {
        match family.rule.value {
            PortRule::Base(base) => Some(Self { service, family, base, instances, ports }),
            PortRule::Auto => None,
        }
    }

    /// The first port behind the last.
    fn end(&self) -> u32 {
        self.ports.turns(self.base, self.instances.saturating_sub(1)).end
    }

    fn holds(&self, port: u16) -> bool {
        (0..self.instances).any(|instance| self.ports.turns(self.base, instance).contains(&u32::from(port)))
    }

    /// The first port that is of both.
    fn meets(&self, other: &Self) -> Option<u32> {
        if self.end() <= u32::from(other.base) || other.end() <= u32::from(self.base) {
            return None;
        }
        let (mut mine, mut theirs) = (0, 0);
        while mine < self.instances && theirs < other.instances {
            let (one, another) = (self.ports.turns(self.base, mine), other.ports.turns(other.base, theirs));
            if one.start < another.end && another.start < one.end {
                return Some(one.start.max(another.start));
            }
            if one.end <= another.end {
                mine += 1;
            } else {
                theirs += 1;
            }
        }
        None
    }

    /// What to write for a fault of this one.
    fn help(&self) -> String {
        let count = self.end() - u32::from(self.base);
        format!("write another number: the ports are the {count} from it on, by `port_range`, `port_step`, `instances`")
    }
}

/// No port may be of two families, whoever's they are, nor of one and the gateway.
pub(super) fn across(file: &raw::File, own: &Own<'_>, faults: &Faults) {
    let mut earlier: Vec<Reach<'_>> = Vec::new();
    for service in &file.services {
        let (Some(worker), Some(raw::Listen::Ports(families))) = (&service.worker, way(service)) else { continue };
        let ports = numbers(worker, families);
        let instances = number(worker.instances.as_ref()).unwrap_or(1);
        for family in families {
            let Some(reach) = Reach::of(service, family, instances, ports.clone()) else { continue };
            let place = &family.rule.place;
            if reach.end() > LAST + 1 {
                continue; // told already
            }
            if let Some(listener) = own.listen.iter().find(|listener| reach.holds(listener.port())) {
                let port = listener.port();
                let is_default = file.gateway.listen.is_none() && defaults::gateway().listen.contains(listener);
                let whose = if is_default { " by default" } else { "" };
                let message = format!("{port}, on which the gateway listens{whose}, would be one of these ports");
                faults.error(place, message, reach.help());
            } else if let Some(admin) = own.admin.filter(|admin| reach.holds(admin.port())) {
                let port = admin.port();
                let whose = if file.gateway.admin.is_none() { " by default" } else { "" };
                let message = format!("{port}, the port of the admin API{whose}, would be one of these ports");
                faults.error(place, message, reach.help());
            } else if let Some((other, port)) = earlier.iter().find_map(|other| Some((other, other.meets(&reach)?))) {
                let whose = if std::ptr::eq(other.service, service) {
                    format!("of `{}`", other.family.name)
                } else {
                    format!("of {}", told(other.service, place, faults))
                };
                let message = format!("{port} would be one of these ports and one {whose}");
                faults.error(place, message, reach.help());
            }
            earlier.push(reach);
        }
    }
}
