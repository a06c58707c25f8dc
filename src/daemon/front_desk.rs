//! Where the admin API listens, and who is let in there.

use std::fs::{self, Permissions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use crate::admin::api::Token;
use crate::admin::{Door, Guard};
use crate::config::model::{AdminAddress, Gateway};
use crate::daemon::RunError;
use crate::store::Store;

/// An open front desk. The file of a socket goes with it.
pub(super) struct FrontDesk {
    pub(super) door: Door,
    pub(super) guard: Guard,
    pub(super) file: Option<SocketFile>,
}

/// The file of a unix socket; removed when it is dropped.
pub(super) struct SocketFile(PathBuf);

impl FrontDesk {
    /// Binds the address; `None` when the file says `"off"`.
    pub(super) async fn open(gateway: &Gateway, store: &dyn Store) -> Result<Option<Self>, RunError> {
        let Some(address) = &gateway.admin else { return Ok(None) };
        let failed = |source| RunError::Admin { address: address.to_string(), source };
        let desk = match address {
            AdminAddress::Tcp(place) => {
                let guard = Guard::new(Token::new(&store.admin_token()?)?);
                let listener = TcpListener::bind(place).await.map_err(failed)?;
                // With port 0 the system chose one.
                let place = listener.local_addr().map_err(failed)?;
                welcome(&guard, place);
                Self { door: Door::Tcp(listener), guard, file: None }
            }
            AdminAddress::Unix(path) => {
                let listener = bind(path, gateway.admin_mode).map_err(failed)?;
                let file = Some(SocketFile(path.clone()));
                Self { door: Door::Unix(listener), guard: Guard::without_token().map_err(failed)?, file }
            }
        };
        tracing::info!(%address, "the admin API listens");
        Ok(Some(desk))
    }
}

/// Tells whoever started the gateway how to see the page. A link lets in who comes first, so that it is told to a terminal
/// only: what reads a log is more than one.
fn welcome(guard: &Guard, address: std::net::SocketAddr) {
    match guard.link().filter(|_| io::stderr().is_terminal()) {
        Some(link) => {
            tracing::info!("the admin page, for one browser within five minutes: http://{address}{}", link.path)
        }
        None => tracing::info!("the admin page: `tidegate open` prints a link to it"),
    }
}

/// A listener whose file has this mode from the moment on at which it is there.
fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there"));
        }
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(mode))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever took its place meanwhile listens; what is left would say so of nobody.
        if UnixStream::connect(&self.0).is_err() {
            _ = fs::remove_file(&self.0);
        }
    }
}
