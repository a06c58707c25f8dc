//! `tidegate roll`, `promote`, `rollback` and `detach`: what operators ask of a running gateway.

use http::Method;

use crate::admin::api::Done;
use crate::cli::arguments::{
    DetachArguments, Named, PromoteArguments, RollArguments, RollbackArguments, StatusArguments,
};
use crate::cli::{Exit, Failure, print, status};

pub(super) fn roll(arguments: RollArguments) -> Result<(), Failure> {
    order(arguments.gateway, &format!("/v1/services/{}/roll", arguments.service))
}

pub(super) fn promote(arguments: PromoteArguments) -> Result<(), Failure> {
    order(arguments.gateway, &path(&arguments.named, "promote"))
}

pub(super) fn rollback(arguments: RollbackArguments) -> Result<(), Failure> {
    order(arguments.gateway, &path(&arguments.named, "rollback"))
}

pub(super) fn detach(arguments: DetachArguments) -> Result<(), Failure> {
    let id = arguments.generation;
    order(arguments.gateway, &format!("/v1/services/{}/generations/{}/detach", id.service, id.number))
}

fn path(Named { service, generation }: &Named, verb: &str) -> String {
    match generation {
        Some(number) => format!("/v1/services/{service}/generations/{number}/{verb}"),
        None => format!("/v1/services/{service}/{verb}"),
    }
}

/// Sends the order and tells what has happened by it.
fn order(arguments: StatusArguments, path: &str) -> Result<(), Failure> {
    let json = arguments.json;
    let (address, answer) = status::ask(arguments, Method::POST, path)?;
    let strange = |error: serde_json::Error| {
        let message = format!("the answer from {address} is none to an order: {error}\n  is it of another version?");
        Failure::new(Exit::Failed, message)
    };
    if json {
        let value: serde_json::Value = serde_json::from_slice(&answer).map_err(strange)?;
        return print(&format!("{value:#}\n"));
    }
    let Done { changes } = serde_json::from_slice(&answer).map_err(strange)?;
    if changes.is_empty() {
        return print("it was so already\n");
    }
    print(&format!("{}\n", changes.join("\n")))
}
