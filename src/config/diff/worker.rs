//! What a reload changes of the table `[service.worker]`.

use std::collections::BTreeMap;

use super::{Changes, bytes, optional, time};
use crate::config::model::Worker;
use crate::config::model::worker::{
    Launch, Limits, Listen, Output, PortRule, Ports, Restart, RollOnReload, Stop, Variables, WorkCheck,
};

/// What a process is made of is told in one line, because all of it rolls once; all else takes effect in place.
pub(super) fn changed(changes: &mut Changes, name: &str, old: &Worker, new: &Worker) {
    let Worker {
        launch: old_launch,
        stop: Stop { signal, grace },
        restart,
        survives_restart,
        roll_on_reload,
        stop_with_gateway,
        work,
        output: Output { max_size, keep, log_lines },
    } = old;
    let rolls = launch(old_launch, &new.launch);
    if !rolls.is_empty() {
        changes.add(format!("service {name}: rolls to a new generation, {}", rolls.lines.join("; ")));
    } else if new.roll_on_reload == RollOnReload::Always {
        changes.add(format!("service {name}: rolls to a new generation, as each reload does by worker.roll_on_reload"));
    }
    let mut placed = Changes::default();
    placed.compare("stop.signal", signal, &new.stop.signal, |signal| signal.as_str().to_owned());
    placed.compare("stop.grace", grace, &new.stop.grace, time);
    placed.compare("restart.backoff", restart, &new.restart, backoff);
    placed.compare("survives_restart", survives_restart, &new.survives_restart, ToString::to_string);
    placed.compare("roll_on_reload", roll_on_reload, &new.roll_on_reload, |when| match when {
        RollOnReload::Changed => "changed".to_owned(),
        RollOnReload::Always => "always".to_owned(),
    });
    placed.compare("stop_with_gateway", stop_with_gateway, &new.stop_with_gateway, ToString::to_string);
    placed.compare("work", work, &new.work, |work| optional(work, "none", asked));
    placed.compare("output.max_size", max_size, &new.output.max_size, |size| bytes(*size));
    placed.compare("output.keep", keep, &new.output.keep, ToString::to_string);
    placed.compare("output.log_lines", log_lines, &new.output.log_lines, ToString::to_string);
    for line in placed.lines {
        changes.add(format!("service {name}: worker.{line}, without a roll"));
    }
}

fn launch(old: &Launch, new: &Launch) -> Changes {
    let Launch {
        command,
        instances,
        listen: old_listen,
        directory,
        environment: Variables(variables),
        user,
        group,
        limits: Limits { memory, open_files, processes, file_size, core_size },
    } = old;
    let mut changes = Changes::default();
    changes.compare("worker.command", command, &new.command, |command| format!("{command:?}"));
    changes.compare("worker.instances", instances, &new.instances, ToString::to_string);
    listen(&mut changes, old_listen, &new.listen);
    changes.compare("worker.directory", directory, &new.directory, |path| {
        optional(path, "none", |path| path.display().to_string())
    });
    environment(&mut changes, variables, &new.environment.0);
    changes.compare("worker.user", user, &new.user, |user| optional(user, "none", Clone::clone));
    changes.compare("worker.group", group, &new.group, |group| optional(group, "none", Clone::clone));
    let size = |size: &Option<u64>| optional(size, "none", |size| bytes(*size));
    let count = |count: &Option<u64>| optional(count, "none", ToString::to_string);
    changes.compare("worker.limits.memory", memory, &new.limits.memory, size);
    changes.compare("worker.limits.open_files", open_files, &new.limits.open_files, count);
    changes.compare("worker.limits.processes", processes, &new.limits.processes, count);
    changes.compare("worker.limits.file_size", file_size, &new.limits.file_size, size);
    changes.compare("worker.limits.core_size", core_size, &new.limits.core_size, size);
    changes
}

fn listen(changes: &mut Changes, old: &Listen, new: &Listen) {
    if let (Listen::Ports(Ports { families, step, range }), Listen::Ports(new)) = (old, new) {
        changes.compare("worker.ports", families, &new.families, shown);
        changes.compare("worker.port_step", step, &new.step, ToString::to_string);
        changes.compare("worker.port_range", range, &new.range, ToString::to_string);
    } else if old != new {
        let place = |listen: &Listen| match listen {
            Listen::Ports(ports) => format!("ports {}", shown(&ports.families)),
            Listen::Socket(path) => format!("socket {path}"),
        };
        changes.add(format!("worker listens at {} -> {}", place(old), place(new)));
    }
}

fn shown(families: &BTreeMap<String, PortRule>) -> String {
    let family = |(name, rule): (&String, &PortRule)| match rule {
        PortRule::Base(base) => format!("{name} {base}"),
        PortRule::Auto => format!("{name} auto"),
    };
    families.iter().map(family).collect::<Vec<_>>().join(", ")
}

/// Names alone: values may be secrets.
fn environment(changes: &mut Changes, old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) {
    let names = |of: &BTreeMap<String, String>, is: &dyn Fn(&String, &String) -> bool| -> Vec<String> {
        of.iter().filter(|(name, value)| is(name, value)).map(|(name, _)| name.clone()).collect()
    };
    let kinds = [
        ("added", names(new, &|name, _| !old.contains_key(name))),
        ("changed", names(new, &|name, value| old.get(name).is_some_and(|was| was != value))),
        ("removed", names(old, &|name, _| !new.contains_key(name))),
    ];
    for (what, names) in kinds {
        if !names.is_empty() {
            changes.add(format!("worker.environment: {} {what}", names.join(", ")));
        }
    }
}

fn backoff(restart: &Restart) -> String {
    let Restart { first, longest } = restart;
    format!("{}..{}", time(first), time(longest))
}

fn asked(work: &WorkCheck) -> String {
    let WorkCheck { path, pointer, interval } = work;
    let what = if pointer.is_empty() { String::new() } else { format!(" holds it at {pointer}") };
    format!("GET {path}{what}, every {}", time(interval))
}

pub(super) fn begun(changes: &mut Changes, name: &str, worker: &Worker) {
    let workers = count(worker);
    changes.add(format!("service {name}: rolls to a new generation of {workers}"));
}

pub(super) fn ended(changes: &mut Changes, name: &str, backends: &str) {
    changes.add(format!("service {name}: the gateway starts no workers from now on: {backends}"));
}

/// How many there are of a generation.
pub(super) fn count(worker: &Worker) -> String {
    match worker.launch.instances {
        1 => "one worker that the gateway runs".to_owned(),
        instances => format!("{instances} workers that the gateway runs"),
    }
}
