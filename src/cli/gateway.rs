//! The gateway that a verb asks: where it is, with which token, and what it answers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::admin::api::{BadToken, Token};
use crate::cli::arguments::GatewayArguments;
use crate::cli::client::{self, Call};
use crate::cli::{Exit, Failure, print, selection};
use crate::config;
use crate::config::model::{AdminAddress, Gateway as GatewayConfig, StatePlace};

/// The token's file in the state directory.
const TOKEN_FILE: &str = "admin-token";

/// What an address of a unix socket begins with.
pub(super) const UNIX: &str = "unix:";

/// A gateway, and how to speak with it.
pub(super) struct Gateway {
    pub(super) address: String,
    token: Option<Token>,
    runtime: Runtime,
    json: bool,
}

impl Gateway {
    /// The one that the arguments name.
    pub(super) fn of(arguments: GatewayArguments) -> Result<Self, Failure> {
        let json = arguments.json;
        let (address, token) = target(arguments, std::env::var("TIDEGATE_TOKEN").ok())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Failed, format!("the system gives no event queue: {error}")))?;
        Ok(Self { address, token, runtime, json })
    }

    /// Whether answers are wanted as they come.
    pub(super) fn wants_json(&self) -> bool {
        self.json
    }

    /// Asks, and gives the body of the answer.
    pub(super) fn ask(&self, call: &Call) -> Result<Bytes, Failure> {
        self.runtime.block_on(client::ask(&self.address, self.token.as_ref(), call))
    }

    /// Asks, and reads the answer.
    pub(super) fn read<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        self.understand(&self.ask(call)?)
    }

    /// Asks, and prints the answer: as it came if JSON is wanted, by `tell` otherwise.
    pub(super) fn show<T: DeserializeOwned>(&self, call: &Call, tell: impl FnOnce(T) -> String) -> Result<(), Failure> {
        let answer = self.ask(call)?;
        if self.json {
            // Keys that this program does not know among them.
            let value: serde_json::Value = self.understand(&answer)?;
            return print(&format!("{value:#}\n"));
        }
        print(&tell(self.understand(&answer)?))
    }

    fn understand<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(answer).map_err(|error| {
            let address = &self.address;
            let message = format!("the answer from {address} cannot be read: {error}\n  is it of another version?");
            Failure::new(Exit::Failed, message)
        })
    }
}

/// A body of JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    // Plain data with text keys: nothing in it can fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// Address and token: what was typed, then the environment, then the configuration, which is read only if need be. At a
/// unix socket no token is needed.
fn target(arguments: GatewayArguments, environment: Option<String>) -> Result<(String, Option<Token>), Failure> {
    let token = match (&arguments.token_file, environment) {
        (Some(path), _) => Some(Token::read(path)),
        (None, Some(text)) => Some(Token::new(&text)),
        (None, None) => None,
    };
    let token = token.transpose().map_err(bad_token)?;
    let needs_none = |address: &str| address.starts_with(UNIX);
    match (arguments.admin, token) {
        (Some(address), token) if token.is_some() || needs_none(&address) => Ok((address, token)),
        (address, token) => {
            let selection = selection(arguments.config)?;
            let path = &selection.file;
            let gateway = config::load_gateway(&selection).map_err(|report| Failure::report(&report))?;
            let address = match address {
                Some(address) => address,
                None => admin_address(&gateway, path)?,
            };
            let token = match token {
                None if !needs_none(&address) => Some(Token::read(&token_place(&gateway, path)?).map_err(bad_token)?),
                token => token,
            };
            Ok((address, token))
        }
    }
}

fn bad_token(error: BadToken) -> Failure {
    let hint = match &error {
        BadToken::Unreadable { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
            "\n  only the gateway's user may read it: ask as that user, or give --token-file"
        }
        BadToken::Unreadable { error, .. } if error.kind() == io::ErrorKind::NotFound => {
            "\n  the gateway makes it at its first start: has it run with this configuration?"
        }
        BadToken::Unreadable { .. } | BadToken::Malformed => "",
    };
    Failure::new(Exit::Usage, format!("{error}{hint}"))
}

fn admin_address(gateway: &GatewayConfig, path: &Path) -> Result<String, Failure> {
    let address = match &gateway.admin {
        Some(AdminAddress::Tcp(address)) => *address,
        Some(socket @ AdminAddress::Unix(_)) => return Ok(socket.to_string()),
        None => {
            let message = format!("{}: `admin` is \"off\", so the gateway cannot be asked", path.display());
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    // A gateway that listens on every address listens on loopback as well.
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, address.port()).to_string())
}

fn token_place(gateway: &GatewayConfig, path: &Path) -> Result<PathBuf, Failure> {
    match (&gateway.state, &gateway.token_file) {
        (StatePlace::Memory, Some(file)) => Ok(file.clone()),
        (StatePlace::Directory(directory), _) => Ok(directory.join(TOKEN_FILE)),
        (StatePlace::Memory, None) => {
            let message =
                format!("{}: names no `token_file`; give --token-file FILE or TIDEGATE_TOKEN", path.display());
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

#[cfg(test)]
mod tests;
