//! A start as the gateway orders it: everything that the process needs to become the program that it is to be.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Resource;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::{Order, identity, output, place};
use crate::config::model::Address;
use crate::config::model::worker::{HTTP, Limits, fill};
use crate::fleet::worker::{Site, WorkerId};
use crate::log::printable;

/// The verb by which the gateway's own program is told to become a worker.
pub(super) const VERB: &str = "launch-worker";

/// Of the document.
const VERSION: u32 = 1;

/// More than any reason takes.
const REASON: u64 = 4_096;

/// What the gateway writes to the standard input of the process that it starts.
#[derive(Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) version: u32,
    /// The process that wrote this; if it is gone, nothing is started.
    pub(super) gateway: u32,
    pub(super) worker: WorkerId,
    pub(super) site: Site,
    pub(super) token: String,
    /// Program and arguments, filled in.
    pub(super) command: Vec<String>,
    /// Variables on top of what is left of the gateway's.
    pub(super) environment: BTreeMap<String, String>,
    pub(super) directory: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    /// In the order in which they are to be set.
    pub(super) limits: Vec<(Bound, u64)>,
    /// To be set as well if it cannot join its control group.
    #[serde(default)]
    pub(super) instead: Vec<(Bound, u64)>,
    /// Descriptors that it may have open unless it asks for more; `None` for as many as the gateway.
    #[serde(default)]
    pub(super) descriptors: Option<u64>,
    /// The file of its output.
    pub(super) output: PathBuf,
    /// The file of its identity.
    pub(super) identity: PathBuf,
    /// The control group that it is to join.
    pub(super) control_group: Option<PathBuf>,
}

/// What a process may use, each process by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bound {
    OpenFiles,
    Processes,
    FileSize,
    CoreSize,
    Data,
}

impl Bound {
    pub(super) fn resource(self) -> Resource {
        match self {
            Bound::OpenFiles => Resource::Nofile,
            Bound::Processes => Resource::Nproc,
            Bound::FileSize => Resource::Fsize,
            Bound::CoreSize => Resource::Core,
            Bound::Data => Resource::Data,
        }
    }

    /// As the configuration calls it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Bound::OpenFiles => "open_files",
            Bound::Processes => "processes",
            Bound::FileSize => "file_size",
            Bound::CoreSize => "core_size",
            Bound::Data => "memory",
        }
    }
}

/// The limits of each process, and those that a control group can see to instead.
fn bounds(limits: &Limits) -> [Vec<(Bound, u64)>; 2] {
    let own = [
        (Bound::OpenFiles, limits.open_files),
        (Bound::FileSize, limits.file_size),
        (Bound::CoreSize, limits.core_size),
    ];
    // Memory last: the process that sets it needs some itself.
    let shared = [(Bound::Processes, limits.processes), (Bound::Data, limits.memory)];
    let given = |(bound, limit): (Bound, Option<u64>)| Some((bound, limit?));
    [own.into_iter().filter_map(given).collect(), shared.into_iter().filter_map(given).collect()]
}

/// What a placeholder stands for.
pub(super) fn fact(worker: &WorkerId, site: Option<&Site>, name: &str) -> Option<String> {
    let port = |family: &str| site.and_then(|site| site.ports.get(family)).map(u16::to_string);
    match name {
        "service" => Some(worker.generation.service.as_str().to_owned()),
        "generation" => Some(worker.generation.number.to_string()),
        "instance" => Some(worker.instance.to_string()),
        "port" => port(HTTP),
        "socket" => match &site?.address {
            Address::Unix(path) => Some(path.to_string_lossy().into_owned()),
            Address::Tcp { .. } => None,
        },
        _ => port(name.strip_prefix("port.")?),
    }
}

/// The document of an order.
pub(super) fn document(
    order: &Order,
    root: &Path,
    token: &str,
    control_group: Option<PathBuf>,
    descriptors: Option<u64>,
) -> Launch {
    let Order { worker, definition, site } = order;
    let launch = &definition.launch;
    let fact = |name: &str| fact(worker, Some(site), name);
    let mut environment: BTreeMap<String, String> =
        launch.environment.0.iter().map(|(name, value)| (name.clone(), fill(value, &fact))).collect();
    let mut tell = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            environment.insert(name.to_owned(), value);
        }
    };
    tell("TIDEGATE_SERVICE", fact("service"));
    tell("TIDEGATE_GENERATION", fact("generation"));
    tell("TIDEGATE_INSTANCE", fact("instance"));
    tell("TIDEGATE_PORT", fact("port"));
    tell("PORT", fact("port"));
    tell("TIDEGATE_SOCKET", fact("socket"));
    tell("TIDEGATE_WORKER", Some(token.to_owned()));
    let [mut limits, mut instead] = bounds(&launch.limits);
    if control_group.is_none() {
        limits.append(&mut instead);
    }
    for (family, port) in site.ports.iter().filter(|(family, _)| *family != HTTP) {
        let name = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let family: String = family.chars().map(name).collect();
        tell(&format!("TIDEGATE_PORT_{family}"), Some(port.to_string()));
    }
    Launch {
        descriptors: descriptors.filter(|_| launch.limits.open_files.is_none()),
        version: VERSION,
        gateway: std::process::id(),
        worker: worker.clone(),
        site: site.clone(),
        token: token.to_owned(),
        command: launch.command.iter().map(|argument| fill(argument, &fact)).collect(),
        environment,
        directory: launch.directory.clone(),
        user: launch.user.clone(),
        group: launch.group.clone(),
        limits,
        instead,
        output: output::file(root, worker),
        identity: identity::file(root, worker),
        control_group,
    }
}

/// A process that was started and has not been told yet what it is to be.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) child: Child,
    document: Vec<u8>,
}

/// Why a process could not be started.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: String,
    /// Whether somebody else is where it was to listen.
    pub(super) is_displaced: bool,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { why, is_displaced: false }
    }
}

/// Makes place for a worker and starts the process that is to become it. Blocks.
pub(super) fn launch(program: &Path, launch: &Launch) -> Result<Launched, Refused> {
    if let Address::Unix(path) = &launch.site.address {
        clear_socket(path)?;
    }
    // Whoever has it by now would be taken for the worker.
    place::try_site(&launch.site).map_err(|why| Refused { why, is_displaced: true })?;
    if let Some(folder) = launch.output.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let document = serde_json::to_vec(launch).map_err(|error| error.to_string())?;
    let child = Command::new(program)
        .arg0("tidegate")
        .arg(VERB)
        // By this it can be found before it has a session of its own.
        .env("TIDEGATE_WORKER", &launch.token)
        .stdin(Stdio::piped())
        // Tells why it could not become the program; closed when it has.
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(Launched { child, document })
}

/// Removes a socket's file that nobody listens at.
fn clear_socket(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("its socket {}: {error}", path.display())),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(format!("its socket {}: there is something else of that name", path.display()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(format!("its socket {}: somebody listens there", path.display())),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(format!("its socket {}: {error}", path.display()))
                }
                _ => Ok(()),
            }
        }
        Err(error) => Err(format!("its socket {}: {error}", path.display())),
    }
}

/// The two ends of a conversation with a process that is being started.
#[derive(Debug)]
pub(super) struct Conversation {
    orders: pipe::Sender,
    reason: pipe::Receiver,
    document: Vec<u8>,
}

impl Conversation {
    /// Takes it from the child. Needs the runtime.
    pub(super) fn of(launched: Launched) -> (Child, io::Result<Self>) {
        let Launched { mut child, document } = launched;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let conversation = || {
            let missing = || io::Error::from(ErrorKind::BrokenPipe);
            let orders = pipe::Sender::from_owned_fd(stdin.ok_or_else(missing)?.into())?;
            let reason = pipe::Receiver::from_owned_fd(stdout.ok_or_else(missing)?.into())?;
            Ok(Self { orders, reason, document })
        };
        let conversation = conversation();
        (child, conversation)
    }

    /// Tells it what to be, and hears whether it has become that.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn held(self) -> Result<(), String> {
        let Self { mut orders, reason, document } = self;
        // If it is gone already, what it says, and how it ended, tells more.
        let _ = orders.write_all(&document).await;
        drop(orders);
        let mut text = Vec::new();
        let _ = reason.take(REASON).read_to_end(&mut text).await;
        let text = String::from_utf8_lossy(&text);
        match text.trim() {
            "" => Ok(()),
            reason => Err(printable(reason)),
        }
    }
}
