//! `tidegate status`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Method;

use crate::admin::api::{BadToken, Status, Token};
use crate::cli::arguments::StatusArguments;
use crate::cli::{Exit, Failure, client, print, selection, table, wants_colours};
use crate::config;
use crate::config::model::{Gateway, StatePlace};

/// The token's file in the state directory.
const TOKEN_FILE: &str = "admin-token";

pub(super) fn status(arguments: StatusArguments) -> Result<(), Failure> {
    let json = arguments.json;
    let (address, answer) = ask(arguments, Method::GET, "/v1/status")?;
    let strange = |error: serde_json::Error| {
        let message = format!("the answer from {address} is no gateway's status: {error}\n  is it of another version?");
        Failure::new(Exit::Failed, message)
    };
    if json {
        // As the gateway wrote it, keys that this program does not know among them.
        let value: serde_json::Value = serde_json::from_slice(&answer).map_err(strange)?;
        return print(&format!("{value:#}\n"));
    }
    let status: Status = serde_json::from_slice(&answer).map_err(strange)?;
    print(&table::render(&status, wants_colours(&io::stdout())))
}

/// Asks the gateway that the arguments name; where it was, and what it answered.
pub(super) fn ask(arguments: StatusArguments, method: Method, path: &str) -> Result<(String, Bytes), Failure> {
    let (address, token) = target(arguments, std::env::var("TIDEGATE_TOKEN").ok())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("the system gives no event queue: {error}")))?;
    let answer = runtime.block_on(client::ask(method, &address, &token, path))?;
    Ok((address, answer))
}

/// Address and token: what was typed, then the environment, then the configuration, which is read only if need be.
fn target(arguments: StatusArguments, environment: Option<String>) -> Result<(String, Token), Failure> {
    let token = match (&arguments.token_file, environment) {
        (Some(path), _) => Some(Token::read(path)),
        (None, Some(text)) => Some(Token::new(&text)),
        (None, None) => None,
    };
    let token = token.transpose().map_err(bad_token)?;
    match (arguments.admin, token) {
        (Some(address), Some(token)) => Ok((address, token)),
        (address, token) => {
            let selection = selection(arguments.config)?;
            let path = &selection.file;
            let gateway = config::load_gateway(&selection).map_err(|report| Failure::report(&report))?;
            let address = match address {
                Some(address) => address,
                None => admin_address(&gateway, path)?,
            };
            let token = match token {
                Some(token) => token,
                None => Token::read(&token_place(&gateway, path)?).map_err(bad_token)?,
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

fn admin_address(gateway: &Gateway, path: &Path) -> Result<String, Failure> {
    let Some(address) = gateway.admin else {
        let message = format!("{}: `admin` is \"off\", so the gateway cannot be asked", path.display());
        return Err(Failure::new(Exit::Usage, message));
    };
    // A gateway that listens on every address listens on loopback as well.
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, address.port()).to_string())
}

fn token_place(gateway: &Gateway, path: &Path) -> Result<PathBuf, Failure> {
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
