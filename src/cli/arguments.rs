//! What can be typed.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Args, Parser};

use crate::config::Profile;

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
