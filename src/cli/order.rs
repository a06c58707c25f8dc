//! The verbs by which operators ask something of a running gateway.

use crate::admin::api::{Done, Maintenance, Reload, Reloaded, RetireOrder};
use crate::cli::arguments::{
    BackendArguments, BackendVerb, DetachArguments, GatewayArguments, MaintenanceArguments, Named, PromoteArguments,
    ReloadArguments, RetireArguments, RollArguments, RollbackArguments, Switch,
};
use crate::cli::client::Call;
use crate::cli::gateway::{Gateway, json};
use crate::cli::{Exit, Failure, print, wait};
use crate::ids::{GenerationId, GenerationNumber};

pub(super) fn roll(arguments: RollArguments) -> Result<(), Failure> {
    let call = Call::post(format!("/v1/services/{}/roll", arguments.service)).keyed(arguments.idempotency_key);
    if !arguments.wait {
        return order(arguments.gateway, &call);
    }
    let gateway = Gateway::of(arguments.gateway)?;
    let done: Done = gateway.read(&call)?;
    if !gateway.wants_json() {
        print(&told(&done))?;
    }
    let Some(number) = done.generation.map(GenerationNumber) else {
        // It waits for the one that is under way, and has no number yet.
        return wait::for_the_next(&gateway, &arguments.service);
    };
    wait::until_active(&gateway, &GenerationId { service: arguments.service, number })
}

pub(super) fn promote(arguments: PromoteArguments) -> Result<(), Failure> {
    order(arguments.gateway, &Call::post(path(&arguments.named, "promote")))
}

pub(super) fn rollback(arguments: RollbackArguments) -> Result<(), Failure> {
    order(arguments.gateway, &Call::post(path(&arguments.named, "rollback")))
}

pub(super) fn detach(arguments: DetachArguments) -> Result<(), Failure> {
    order(arguments.gateway, &Call::post(format!("{}/detach", generation(&arguments.generation))))
}

pub(super) fn retire(arguments: RetireArguments) -> Result<(), Failure> {
    let gateway = Gateway::of(arguments.gateway)?;
    let path = generation(&arguments.generation);
    let call = Call::post(format!("{path}/retire")).with(json(&RetireOrder { now: arguments.now }));
    if arguments.now && !gateway.wants_json() {
        let held: crate::admin::api::Generation = gateway.read(&Call::get(path))?;
        let count = |number: u64, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
        let (sessions, requests) = (count(held.sessions, "open session"), count(held.requests, "request"));
        let tunnels = count(held.tunnels, "tunnel");
        print(&format!("this ends {sessions}, {requests} in flight and {tunnels} on {}\n", arguments.generation))?;
    }
    gateway.show(&call, |done| told(&done))
}

pub(super) fn backend(arguments: BackendArguments) -> Result<(), Failure> {
    let BackendArguments { verb, generation: id, backend, now, gateway } = arguments;
    let word = match verb {
        BackendVerb::Up => "up",
        BackendVerb::Drain => "drain",
        BackendVerb::Down => "down",
    };
    if now && verb != BackendVerb::Down {
        return Err(Failure::new(
            Exit::Usage,
            format!("`backend {word}` costs nothing: --now belongs to `backend down`"),
        ));
    }
    let call = Call::post(format!("{}/backends/{}/{word}", generation(&id), segment(&backend)));
    let call = if verb == BackendVerb::Down { call.with(json(&RetireOrder { now })) } else { call };
    order(gateway, &call)
}

pub(super) fn maintenance(arguments: MaintenanceArguments) -> Result<(), Failure> {
    let body = json(&Maintenance { on: arguments.switch == Switch::On });
    order(arguments.gateway, &Call::post(format!("/v1/services/{}/maintenance", arguments.service)).with(body))
}

pub(super) fn reload(arguments: ReloadArguments) -> Result<(), Failure> {
    let gateway = Gateway::of(arguments.gateway)?;
    let call = Call::post("/v1/reload").with(json(&Reload { dry_run: arguments.dry_run }));
    gateway.show(&call, |reloaded| reload_told(&reloaded))
}

/// What a reload did or would do.
pub(super) fn reload_told(reloaded: &Reloaded) -> String {
    let mut text = lines(&reloaded.changes, "nothing changes");
    for note in &reloaded.notes {
        text.push_str(&format!("note: {}\n", note.trim_end()));
    }
    text
}

fn path(Named { service, generation }: &Named, verb: &str) -> String {
    match generation {
        Some(number) => format!("/v1/services/{service}/generations/{number}/{verb}"),
        None => format!("/v1/services/{service}/{verb}"),
    }
}

fn generation(id: &GenerationId) -> String {
    format!("/v1/services/{}/generations/{}", id.service, id.number)
}

/// A name as a segment of a path.
fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Sends the order and tells what has happened by it.
fn order(arguments: GatewayArguments, call: &Call) -> Result<(), Failure> {
    Gateway::of(arguments)?.show(call, |done| told(&done))
}

fn told(done: &Done) -> String {
    lines(&done.changes, "it was so already")
}

fn lines(changes: &[String], nothing: &str) -> String {
    if changes.is_empty() { format!("{nothing}\n") } else { format!("{}\n", changes.join("\n")) }
}

/// Why a verb cannot go on.
pub(super) fn failed(why: impl ToString) -> Failure {
    Failure::new(Exit::Failed, why)
}
