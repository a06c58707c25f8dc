//! `tidegate open`.

use crate::admin::api::Link;
use crate::cli::arguments::GatewayArguments;
use crate::cli::client::Call;
use crate::cli::gateway::{Gateway, UNIX};
use crate::cli::{Exit, Failure};

/// A link is printed and opened by nobody else: it lets in whoever comes first.
pub(super) fn open(arguments: GatewayArguments) -> Result<(), Failure> {
    let gateway = Gateway::of(arguments)?;
    if gateway.address.starts_with(UNIX) {
        let message = "the admin API listens at a unix socket, which no browser can reach\n  \
            write `admin = \"127.0.0.1:9180\"` for the page, or forward a port to the socket: \
            ssh -L 9180:/run/tidegate/admin.sock HOST";
        return Err(Failure::new(Exit::Usage, message));
    }
    let address = gateway.address.clone();
    gateway.show(&Call::post("/v1/links"), |link: Link| format!("http://{address}{}\n", link.path))
}
