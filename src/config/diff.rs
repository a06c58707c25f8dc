//! What a reload would change, in plain words.

mod health;
mod maintenance;
mod mode;
mod ramp;
mod waiting;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::fmt::friendly::{Spacing, SpanPrinter};

use super::model::{
    AccessLog, AccessLogFormat, AccessLogTarget, Backend, Gateway, Hook, HostPattern, HostRule, Intent, Model, Plan,
    Service, SessionRules, StatePlace, StateSync,
};

/// What is different between two checked files, one line for each difference.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Changes {
    /// The differences: the gateway's first, then the services' by name.
    pub lines: Vec<String>,
}

impl Changes {
    /// Whether the two files mean the same.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn add(&mut self, line: String) {
        self.lines.push(line);
    }

    fn compare<T: PartialEq>(&mut self, key: &str, old: &T, new: &T, show: impl Fn(&T) -> String) {
        if old != new {
            self.add(format!("{key}: {} -> {}", show(old), show(new)));
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() { f.write_str("nothing changed") } else { f.write_str(&self.lines.join("\n")) }
    }
}

/// The keys of `[gateway]` that differ but are read at the start only: a reload keeps their old values.
pub fn needs_restart(old: &Gateway, new: &Gateway) -> impl Iterator<Item = &'static str> + use<> {
    let differs = [
        ("threads", old.threads != new.threads),
        ("expected_sessions", old.expected_sessions != new.expected_sessions),
        ("state", old.state != new.state),
        ("state_wait", old.state_wait != new.state_wait),
        ("state_sync", old.state_sync != new.state_sync),
        ("admin", old.admin != new.admin),
        ("admin_mode", old.admin_mode != new.admin_mode),
        ("token_file", old.token_file != new.token_file),
    ];
    differs.into_iter().filter_map(|(key, differs)| differs.then_some(key))
}

/// Lists what is different. Services are held against each other by name, so their order in the file does not count.
pub fn diff(old: &Model, new: &Model) -> Changes {
    let mut changes = Changes::default();
    gateway(&mut changes, &old.gateway, &new.gateway);
    let by_name = |model: &Model| -> BTreeMap<_, _> {
        model.services.iter().map(|service| (service.name.clone(), service.clone())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    for (name, was) in &old {
        match new.get(name) {
            Some(is) => service(&mut changes, was, is),
            None => changes.add(format!("service {name}: removed, serves its sessions to their end")),
        }
    }
    for (name, is) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        let plan = match &is.plan {
            Plan::Numbered(backends) => list(backends, backend),
            Plan::Explicit(generations) => {
                list(generations, |one| format!("{name}@{} at {}", one.number, list(&one.backends, backend)))
            }
            Plan::Worker(worker) => worker::count(worker),
        };
        changes.add(format!("service {name}: added, {plan}"));
    }
    changes
}

fn gateway(changes: &mut Changes, old: &Gateway, new: &Gateway) {
    // Each key by name: a key that is added to the model and forgotten here does not compile.
    let Gateway {
        listen,
        admin,
        admin_mode,
        token_file,
        state,
        state_wait,
        state_sync,
        threads,
        trusted,
        health_path,
        max_sessions,
        expected_sessions,
        keys,
        max_connections,
        max_connections_per_client,
        max_header_size,
        max_headers,
        header_timeout,
        idle_timeout,
        shutdown_delay,
        shutdown_timeout,
        access_log,
        log,
    } = old;
    for gone in listen.iter().filter(|address| !new.listen.contains(address)) {
        changes.add(format!("listener {gone}: removed"));
    }
    for come in new.listen.iter().filter(|address| !listen.contains(address)) {
        changes.add(format!("listener {come}: added"));
    }
    changes.compare("gateway.admin", admin, &new.admin, |admin| optional(admin, "off", ToString::to_string));
    changes.compare("gateway.admin_mode", admin_mode, &new.admin_mode, |mode| format!("{mode:04o}"));
    changes.compare("gateway.token_file", token_file, &new.token_file, |file| {
        optional(file, "none", |file| file.display().to_string())
    });
    changes.compare("gateway.state", state, &new.state, |state| match state {
        StatePlace::Directory(path) => path.display().to_string(),
        StatePlace::Memory => "memory".to_owned(),
    });
    changes.compare("gateway.state_wait", state_wait, &new.state_wait, time);
    changes.compare("gateway.state_sync", state_sync, &new.state_sync, |sync| match sync {
        StateSync::Always => "always".to_owned(),
        StateSync::Every(pause) => time(pause),
    });
    changes.compare("gateway.threads", threads, &new.threads, ToString::to_string);
    changes.compare("gateway.trusted", trusted, &new.trusted, |networks| list(networks, ToString::to_string));
    changes.compare("gateway.health_path", health_path, &new.health_path, Clone::clone);
    changes.compare("gateway.max_sessions", max_sessions, &new.max_sessions, ToString::to_string);
    changes.compare("gateway.expected_sessions", expected_sessions, &new.expected_sessions, ToString::to_string);
    changes.compare("gateway.keys", keys, &new.keys, |files| list(files, |file| file.display().to_string()));
    changes.compare("gateway.max_connections", max_connections, &new.max_connections, ToString::to_string);
    changes.compare(
        "gateway.max_connections_per_client",
        max_connections_per_client,
        &new.max_connections_per_client,
        |most| optional(most, "none", ToString::to_string),
    );
    changes.compare("gateway.max_header_size", max_header_size, &new.max_header_size, |size| bytes(*size as u64));
    changes.compare("gateway.max_headers", max_headers, &new.max_headers, ToString::to_string);
    changes.compare("gateway.header_timeout", header_timeout, &new.header_timeout, time);
    changes.compare("gateway.idle_timeout", idle_timeout, &new.idle_timeout, time);
    changes.compare("gateway.shutdown_delay", shutdown_delay, &new.shutdown_delay, time);
    changes.compare("gateway.shutdown_timeout", shutdown_timeout, &new.shutdown_timeout, time);
    let AccessLog { target, format } = access_log;
    changes.compare("gateway.access_log", target, &new.access_log.target, |target| match target {
        AccessLogTarget::Off => "off".to_owned(),
        AccessLogTarget::Stdout => "stdout".to_owned(),
        AccessLogTarget::File(path) => path.display().to_string(),
    });
    changes.compare("gateway.access_log_format", format, &new.access_log.format, |format| match format {
        AccessLogFormat::Json => "json".to_owned(),
        AccessLogFormat::Combined => "combined".to_owned(),
    });
    changes.compare("gateway.log", log, &new.log, Clone::clone);
}

fn service(changes: &mut Changes, old: &Service, new: &Service) {
    let Service {
        name,
        mode,
        hosts,
        path,
        strip_prefix,
        host: host_rule,
        protocol,
        session,
        plan: old_plan,
        maintenance,
        balance,
        slow_start,
        retry_new,
        asset_fallback,
        respond,
        waiting,
        rollout,
        force,
        ready,
        health: _,
        ejection: _,
        connect_timeout,
        response_timeout,
        body_timeout,
        tunnel_timeout,
        backend_idle_timeout,
        backend_idle_connections,
        max_body_size,
        drain_timeout,
        drain_spread,
        max_generations,
        on_starting,
        on_retired,
    } = old;
    let key = |key: &str| format!("service {name}: {key}");
    mode::mode(changes, name.as_str(), mode, &new.mode);
    changes.compare(&key("hosts"), hosts, &new.hosts, |hosts| {
        if hosts.is_empty() { "every host".to_owned() } else { list(hosts, host) }
    });
    changes.compare(&key("path"), path, &new.path, Clone::clone);
    changes
        .compare(&key("strip_prefix"), strip_prefix, &new.strip_prefix, |strip| optional(strip, "none", Clone::clone));
    changes.compare(&key("host"), host_rule, &new.host, |rule| match rule {
        HostRule::Pass => "pass".to_owned(),
        HostRule::Backend => "backend".to_owned(),
        HostRule::Named(name) => name.clone(),
    });
    changes.compare(&key("protocol"), protocol, &new.protocol, ToString::to_string);
    plan(changes, name.as_str(), old_plan, &new.plan, new.balance.goes_by_order());
    changes.compare(&key("balance"), balance, &new.balance, ToString::to_string);
    changes.compare(&key("slow_start"), slow_start, &new.slow_start, |time| optional(time, "none", self::time));
    changes.compare(&key("retry_new"), retry_new, &new.retry_new, |statuses| list(statuses, ToString::to_string));
    changes
        .compare(&key("asset_fallback"), asset_fallback, &new.asset_fallback, |paths| list(paths, ToString::to_string));
    changes.compare(&key("respond"), respond, &new.respond, ToString::to_string);
    waiting::compare(changes, name.as_str(), waiting, &new.waiting);
    ramp::ramp(changes, name.as_str(), (*rollout, new.rollout), (force.as_ref(), new.force.as_ref()));
    rules(changes, name.as_str(), session, &new.session);
    changes.compare(&key("maintenance"), maintenance, &new.maintenance, maintenance::shown);
    changes.compare(&key("ready.path"), &ready.path, &new.ready.path, |path| optional(path, "none", Clone::clone));
    changes.compare(&key("ready.timeout"), &ready.timeout, &new.ready.timeout, time);
    changes.compare(&key("ready.interval"), &ready.interval, &new.ready.interval, time);
    health::health(changes, old, new);
    changes.compare(&key("connect_timeout"), connect_timeout, &new.connect_timeout, time);
    changes.compare(&key("response_timeout"), response_timeout, &new.response_timeout, time);
    changes.compare(&key("body_timeout"), body_timeout, &new.body_timeout, time);
    changes.compare(&key("tunnel_timeout"), tunnel_timeout, &new.tunnel_timeout, time);
    changes.compare(&key("backend_idle_timeout"), backend_idle_timeout, &new.backend_idle_timeout, time);
    changes.compare(
        &key("backend_idle_connections"),
        backend_idle_connections,
        &new.backend_idle_connections,
        ToString::to_string,
    );
    changes.compare(&key("max_body_size"), max_body_size, &new.max_body_size, |size| {
        optional(size, "none", |size| bytes(*size))
    });
    changes.compare(&key("drain_timeout"), drain_timeout, &new.drain_timeout, |limit| optional(limit, "none", time));
    changes.compare(&key("drain_spread"), drain_spread, &new.drain_spread, time);
    changes.compare(&key("max_generations"), max_generations, &new.max_generations, ToString::to_string);
    changes.compare(&key("on_starting"), on_starting, &new.on_starting, |hook| optional(hook, "none", command));
    changes.compare(&key("on_retired"), on_retired, &new.on_retired, |hook| optional(hook, "none", command));
}

fn rules(changes: &mut Changes, name: &str, old: &SessionRules, new: &SessionRules) {
    let SessionRules {
        space,
        sources,
        idle_timeout,
        unconfirmed_timeout,
        application_timeout,
        max_age,
        rename_grace,
        end_with_last_tunnel,
        end,
        end_on_not_found,
        no_session,
        no_touch,
        adopt_until,
        on_lost,
        lost_after,
        announce,
        switch,
    } = old;
    let key = |key: &str| format!("service {name}: session.{key}");
    changes.compare(&key("sources"), sources, &new.sources, |sources| list(sources, |source| source.to_string()));
    changes.compare(&key("space"), space, &new.space, Clone::clone);
    changes.compare(&key("idle_timeout"), idle_timeout, &new.idle_timeout, time);
    changes.compare(&key("unconfirmed_timeout"), unconfirmed_timeout, &new.unconfirmed_timeout, time);
    changes.compare(&key("application_timeout"), application_timeout, &new.application_timeout, time);
    changes.compare(&key("end_with_last_tunnel"), end_with_last_tunnel, &new.end_with_last_tunnel, |wait| {
        optional(wait, "none", time)
    });
    changes.compare(&key("end_on_not_found"), end_on_not_found, &new.end_on_not_found, ToString::to_string);
    changes.compare(&key("no_session"), no_session, &new.no_session, |rules| list(rules, ToString::to_string));
    changes.compare(&key("no_touch"), no_touch, &new.no_touch, |paths| list(paths, ToString::to_string));
    changes.compare(&key("adopt_until"), adopt_until, &new.adopt_until, |until| optional(until, "none", moment));
    changes.compare(&key("on_lost"), on_lost, &new.on_lost, ToString::to_string);
    changes.compare(&key("lost_after"), lost_after, &new.lost_after, time);
    changes.compare(&key("announce"), announce, &new.announce, ToString::to_string);
    changes.compare(&key("switch"), switch, &new.switch, |path| optional(path, "none", Clone::clone));
    changes.compare(&key("max_age"), max_age, &new.max_age, |age| optional(age, "none", time));
    changes.compare(&key("rename_grace"), rename_grace, &new.rename_grace, time);
    changes.compare(&key("end"), end, &new.end, |rules| list(rules, ToString::to_string));
}

fn plan(changes: &mut Changes, name: &str, old: &Plan, new: &Plan, by_order: bool) {
    match (old, new) {
        (Plan::Numbered(old), Plan::Numbered(new)) => {
            let places = |backends: &[Backend]| -> BTreeMap<_, _> {
                backends.iter().map(|one| (one.name.clone(), place(one))).collect()
            };
            if places(old) != places(new) {
                let (old, new) = (list(old, backend), list(new, backend));
                changes.add(format!("service {name}: rolls to a new generation, backends {old} -> {new}"));
            } else {
                resized(changes, name, old, new, by_order);
            }
        }
        (Plan::Explicit(old), Plan::Explicit(new)) => {
            for was in old {
                match new.iter().find(|is| is.number == was.number) {
                    Some(is) => {
                        resized(changes, &format!("{name}@{}", was.number), &was.backends, &is.backends, by_order);
                    }
                    None => changes.add(format!("service {name}: generation {} removed", was.number)),
                }
            }
            for is in new.iter().filter(|is| old.iter().all(|was| was.number != is.number)) {
                let backends = list(&is.backends, backend);
                changes.add(format!("service {name}: generation {} added, backends {backends}", is.number));
            }
        }
        (Plan::Numbered(_), Plan::Explicit(generations)) => {
            let numbers = list(generations, |one| one.number.to_string());
            changes.add(format!("service {name}: the file numbers the generations from now on: {numbers}"));
        }
        (Plan::Explicit(_), Plan::Numbered(backends)) => {
            let backends = list(backends, backend);
            changes.add(format!("service {name}: the gateway numbers the generations from now on: {backends}"));
        }
        (Plan::Worker(old), Plan::Worker(new)) => worker::changed(changes, name, old, new),
        (_, Plan::Worker(worker)) => worker::begun(changes, name, worker),
        (Plan::Worker(_), Plan::Numbered(backends)) => {
            worker::ended(changes, name, &list(backends, backend));
        }
        (Plan::Worker(_), Plan::Explicit(generations)) => {
            worker::ended(changes, name, &list(generations, |one| one.number.to_string()));
        }
    }
}

/// Backends of one generation, held against each other by name.
fn resized(changes: &mut Changes, whose: &str, old: &[Backend], new: &[Backend], by_order: bool) {
    let kept = |list: &[Backend], other: &[Backend]| -> Vec<_> {
        list.iter().map(|one| one.name.clone()).filter(|name| other.iter().any(|one| one.name == *name)).collect()
    };
    let (before, after) = (kept(old, new), kept(new, old));
    if by_order && before != after {
        let (before, after) = (list(&before, ToString::to_string), list(&after, ToString::to_string));
        changes.add(format!("service {whose}: order of backends: {before} -> {after}"));
    }
    for was in old {
        let Some(is) = new.iter().find(|is| is.name == was.name) else {
            changes.add(format!("service {whose}: backend {} removed, drains", was.name));
            continue;
        };
        let key = format!("service {whose}: backend {}", was.name);
        changes.compare(&format!("{key} address"), &place(was), &place(is), Clone::clone);
        changes.compare(&format!("{key} public"), &was.public, &is.public, |public| {
            optional(public, "none", ToString::to_string)
        });
        changes.compare(&format!("{key} weight"), &was.weight, &is.weight, ToString::to_string);
        changes.compare(&format!("{key} max_requests"), &was.max_requests, &is.max_requests, ToString::to_string);
        changes.compare(&format!("{key} status"), &was.intent, &is.intent, ToString::to_string);
    }
    for is in new.iter().filter(|is| old.iter().all(|was| was.name != is.name)) {
        changes.add(format!("service {whose}: backend {} added", backend(is)));
    }
}

fn backend(backend: &Backend) -> String {
    let address = place(backend);
    let status = if backend.intent == Intent::Up { String::new() } else { format!(" {}", backend.intent) };
    if backend.name.as_str() == address {
        format!("{address}{status}")
    } else {
        format!("{} ({address}){status}", backend.name)
    }
}

/// Address and prefix.
fn place(backend: &Backend) -> String {
    format!("{}{}", backend.address, backend.prefix.as_deref().unwrap_or_default())
}

fn host(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Below(name) => format!("*.{name}"),
    }
}

fn command(hook: &Hook) -> String {
    format!("{:?} (at most {})", hook.command, time(&hook.timeout))
}

fn optional<T>(value: &Option<T>, none: &str, show: impl Fn(&T) -> String) -> String {
    value.as_ref().map_or_else(|| none.to_owned(), show)
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    if items.is_empty() { "none".to_owned() } else { items.iter().map(show).collect::<Vec<_>>().join(", ") }
}

fn time(time: &Duration) -> String {
    SpanPrinter::new().spacing(Spacing::None).unsigned_duration_to_string(time)
}

fn moment(moment: &SystemTime) -> String {
    jiff::Timestamp::try_from(*moment).map_or_else(|_| "?".to_owned(), |moment| moment.to_string())
}

fn bytes(size: u64) -> String {
    // The largest unit that says the number exactly, as one would type it.
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| size > 0 && size.is_multiple_of(1 << shift)) {
        Some((unit, shift)) => format!("{}{unit}", size >> shift),
        None => format!("{size}B"),
    }
}

#[cfg(test)]
mod tests;
