//! What can be typed.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser};

use crate::config::Profile;
use crate::ids::{GenerationId, GenerationNumber, ServiceName};

/// Reads the program's arguments; ends the program itself on `--help`, `--version` and mistakes (code 2).
pub fn parse() -> Command {
    Program::parse().command
}

/// A session-affine reverse proxy: everyone finishes on the version on which they started.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    about,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 the answer is no or the work failed, 2 wrong usage or a bad file, 3 the gateway cannot be reached."
)]
pub(super) struct Program {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// A verb and what it needs.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run the gateway. SIGHUP reloads the file, SIGTERM drains and ends
    Run(ConfigArguments),
    /// Say whether a configuration makes sense, with all its faults, and what was read
    Check(ConfigArguments),
    /// Show services, generations and backends of the running gateway
    Status(StatusArguments),
    /// Start the next generation of a service whose workers the gateway runs. It takes over once it is ready
    Roll(RollArguments),
    /// Give all new sessions to the generation that is ready beside the active one, which is detached
    Promote(PromoteArguments),
    /// Make an older generation active again, for all new sessions. The active one is detached, its sessions go on
    Rollback(RollbackArguments),
    /// Abort the ramp of a generation that is ready, or give up one that is starting. Its sessions go on
    Detach(DetachArguments),
    /// Make a token that lets a tester into a generation that is ready or active. Needs the file, but no gateway
    Force(ForceArguments),
    /// Look at what a gateway keeps on the disk, be it running or not
    State {
        /// What to do with it
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Run a small stateful web application to try the gateway with
    DemoApp {
        /// The port on which it listens
        #[arg(long, value_name = "N")]
        port: u16,
        /// The generation that it says it is
        #[arg(long, value_name = "G")]
        generation: u64,
        /// The address on which it listens
        #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
        address: IpAddr,
    },
    /// Become a worker, by what standard input says; for the gateway alone
    #[command(hide = true)]
    LaunchWorker,
}

/// Which configuration is meant.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArguments {
    /// The gateway's configuration [default: /etc/tidegate/tidegate.toml, then config/tidegate.toml]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Lay FILE.NAME.toml, which stands beside FILE.toml, over it [default: TIDEGATE_PROFILE, if that is set]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<Profile>,
}

/// What `state` can do.
#[derive(Debug, clap::Subcommand)]
pub enum StateCommand {
    /// Show what is there: sessions by backend, records, files, damage. Reads only
    Inspect(StateArguments),
    /// Say whether everything is as it was written; the code is 1 if not. Reads only
    Verify(StateArguments),
    /// Replace the log of bindings by one snapshot. Refused while a gateway runs on it
    Compact(StateArguments),
}

/// Arguments of `state`.
#[derive(Debug, Args)]
pub struct StateArguments {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Names the state directory
    #[command(flatten)]
    pub config: ConfigArguments,
    /// The state directory, instead of the configuration's
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "profile"])]
    pub state: Option<PathBuf>,
}

/// Arguments of `roll`.
#[derive(Debug, Args)]
pub struct RollArguments {
    /// The service
    #[arg(value_name = "SERVICE", value_parser = service)]
    pub service: ServiceName,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: StatusArguments,
}

/// Arguments of `promote`.
#[derive(Debug, Args)]
pub struct PromoteArguments {
    /// The service; or the generation, as in app@8, which is promoted only if it is the one that is ready
    #[arg(value_name = "SERVICE[@GENERATION]")]
    pub named: Named,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: StatusArguments,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// The service, for the youngest generation that is older than the active one; or a detached generation, as in app@7
    #[arg(value_name = "SERVICE[@GENERATION]")]
    pub named: Named,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: StatusArguments,
}

/// Arguments of `detach`.
#[derive(Debug, Args)]
pub struct DetachArguments {
    /// The generation, as in app@8
    #[arg(value_name = "SERVICE@GENERATION", value_parser = generation)]
    pub generation: GenerationId,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: StatusArguments,
}

/// Arguments of `force`.
#[derive(Debug, Args)]
pub struct ForceArguments {
    /// The generation, as in app@8
    #[arg(value_name = "SERVICE@GENERATION", value_parser = generation)]
    pub generation: GenerationId,
    /// How long the token is good for, from 1s to 720h
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = life)]
    pub life: Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Holds the secret of the service's `force`
    #[command(flatten)]
    pub config: ConfigArguments,
}

/// A service, or a generation of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The service.
    pub service: ServiceName,
    /// The generation, where one was typed.
    pub generation: Option<GenerationNumber>,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, number) = match text.split_once('@') {
            Some((service, number)) => (service, Some(number)),
            None => (text, None),
        };
        // As the file has them; a path of the admin API is made of it.
        if service.is_empty() || !service.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err("a service is named by letters, digits, `-`, `_` and `.`, as in the file".to_owned());
        }
        let generation = number.map(|number| number.parse().map(GenerationNumber)).transpose();
        let generation = generation.map_err(|_| format!("write a number behind the @, as in {service}@8"))?;
        Ok(Self { service: ServiceName::new(service), generation })
    }
}

fn service(text: &str) -> Result<ServiceName, String> {
    match text.parse()? {
        Named { service, generation: None } => Ok(service),
        Named { service, generation: Some(_) } => {
            Err(format!("name the service alone, as in {service}: its next generation gets the next number"))
        }
    }
}

fn generation(text: &str) -> Result<GenerationId, String> {
    let Named { service, generation } = text.parse()?;
    match generation {
        Some(number) => Ok(GenerationId { service, number }),
        None => Err(format!("name its generation as well, as in {service}@8")),
    }
}

/// The longest life of a token: what is good for longer gets lost.
const LONGEST_LIFE: Duration = Duration::from_secs(30 * 24 * 3_600);

fn life(text: &str) -> Result<Duration, String> {
    let life = text.parse::<jiff::SignedDuration>().ok().and_then(|life| Duration::try_from(life).ok());
    life.filter(|life| (Duration::from_secs(1)..=LONGEST_LIFE).contains(life))
        .ok_or_else(|| "write a time from 1s to 720h, such as 30m or 8h".to_owned())
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Print what the admin API answers, as JSON
    #[arg(long)]
    pub json: bool,
    /// Names the admin address and the token
    #[command(flatten)]
    pub config: ConfigArguments,
    /// The admin address, as host:port, instead of the configuration's
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_ADMIN")]
    pub admin: Option<String>,
    /// The file that holds the token, instead of the configuration's (or the token itself in TIDEGATE_TOKEN)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}
