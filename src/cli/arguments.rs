//! What can be typed.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Args, Parser};

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
    Run {
        /// The configuration [default: /etc/tidegate/tidegate.toml, then config/tidegate.toml]
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say whether a configuration makes sense, with all its faults
    Check {
        /// The configuration [default: /etc/tidegate/tidegate.toml, then config/tidegate.toml]
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show services, generations and backends of the running gateway
    Status(StatusArguments),
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

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Print what the admin API answers, as JSON
    #[arg(long)]
    pub json: bool,
    /// The gateway's configuration, which names the admin address and the token
    /// [default: /etc/tidegate/tidegate.toml, then config/tidegate.toml]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The admin address, as host:port, instead of the configuration's
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_ADMIN")]
    pub admin: Option<String>,
    /// The file that holds the token, instead of the configuration's (or the token itself in TIDEGATE_TOKEN)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}
