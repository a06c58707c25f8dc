//! `tidegate status`.

use std::io;

use crate::admin::api::Status;
use crate::cli::arguments::GatewayArguments;
use crate::cli::client::Call;
use crate::cli::gateway::Gateway;
use crate::cli::{Failure, table, wants_colours};

pub(super) fn status(arguments: GatewayArguments) -> Result<(), Failure> {
    let call = Call::get("/v1/status");
    Gateway::of(arguments)?.show(&call, |status: Status| table::render(&status, wants_colours(&io::stdout())))
}
