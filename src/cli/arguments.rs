//! What can be typed.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser};

use crate::config::Profile;
use crate::ids::{GenerationId, GenerationNumber, ServiceName};

/// Reads the program's arguments; ends the program itself on `--help`, `--version` and mistakes (code 2).
pub fn parse() -> Command {
    Program::parse().command
}

/// The completions of a shell, as a script for it.
pub(super) fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Program::command(), "tidegate", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page, in roff: the program, then each verb.
pub(super) fn manual() -> String {
    let mut page = Vec::new();
    let mut program = Program::command();
    program.build();
    // Writing to memory does not fail.
    _ = clap_mangen::Man::new(program.clone()).render(&mut page);
    for verb in program.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let man = clap_mangen::Man::new(verb.clone());
        _ = writeln!(page, ".SH \"TIDEGATE {}\"", verb.get_name().to_uppercase());
        _ = man.render_description_section(&mut page).and_then(|()| man.render_options_section(&mut page));
    }
    String::from_utf8_lossy(&page).into_owned()
}

/// A session-affine reverse proxy: everyone finishes on the version on which they started.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    about,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 the answer is no or the work failed, 2 wrong usage or a bad file, 3 the gateway cannot be reached, 4 the time to wait is over."
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
    Check(CheckArguments),
    /// Show services, generations and backends of the running gateway
    Status(GatewayArguments),
    /// Start the next generation of a service whose workers the gateway runs. It takes over once it is ready
    Roll(RollArguments),
    /// Give all new sessions to the generation that is ready beside the active one, which is detached
    Promote(PromoteArguments),
    /// Make an older generation active again, for all new sessions. The active one is detached, its sessions go on
    Rollback(RollbackArguments),
    /// Abort the ramp of a generation that is ready, or give up one that is starting. Its sessions go on
    Detach(DetachArguments),
    /// Retire a detached generation. With --now, what is on it is ended
    Retire(RetireArguments),
    /// Wait until a generation is active or retired, with a progress bar. For deploy scripts
    Wait(WaitArguments),
    /// Change what is wanted of a backend, until the file says something else of it
    Backend(BackendArguments),
    /// Count sessions by generation, backend and age; find or end one by its id
    Sessions(SessionsArguments),
    /// Turn new sessions of a service away, or take them again. Open ones go on
    Maintenance(MaintenanceArguments),
    /// Show what happened in the last 24 hours
    Events(EventsArguments),
    /// Show everything live, until q is pressed
    Top(GatewayArguments),
    /// Read the configuration again, as SIGHUP does, and say what came of it
    Reload(ReloadArguments),
    /// Print a link that lets one browser into the admin page, once
    Open(GatewayArguments),
    /// Make a token that lets a tester into a generation that is ready or active. Needs the file, but no gateway
    Force(ForceArguments),
    /// Look at what a gateway keeps on the disk, be it running or not
    State {
        /// What to do with it
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Print the completions for a shell
    Completions {
        /// Which one
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
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

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Say what SIGHUP would do now. The running gateway is asked
    #[arg(long)]
    pub diff: bool,
    /// Whom to ask, and which file
    #[command(flatten)]
    pub gateway: GatewayArguments,
}

/// What is wanted of a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum BackendVerb {
    /// It takes sessions
    Up,
    /// It gets no new sessions; its own go on
    Drain,
    /// It gets nothing any more; its sessions are lost ones
    Down,
}

/// Arguments of `backend`.
#[derive(Debug, Args)]
pub struct BackendArguments {
    /// What is wanted
    pub verb: BackendVerb,
    /// Its generation, as in app@8
    #[arg(value_name = "SERVICE@GENERATION", value_parser = generation)]
    pub generation: GenerationId,
    /// Its name, as status shows it
    pub backend: String,
    /// With down: lose the sessions that it has
    #[arg(long)]
    pub now: bool,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: GatewayArguments,
}

/// Arguments of `retire`.
#[derive(Debug, Args)]
pub struct RetireArguments {
    /// The generation, as in app@7
    #[arg(value_name = "SERVICE@GENERATION", value_parser = generation)]
    pub generation: GenerationId,
    /// End its open sessions, requests and tunnels
    #[arg(long)]
    pub now: bool,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: GatewayArguments,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Until {
    /// It takes the new sessions
    Active,
    /// It is gone
    Retired,
}

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub struct WaitArguments {
    /// A generation, as in app@7; or a service, for what is starting (active) or for all older generations (retired)
    #[arg(value_name = "SERVICE[@GENERATION]")]
    pub named: Named,
    /// What to wait for
    #[arg(long, value_name = "STATE", default_value = "retired")]
    pub until: Until,
    /// Give up after this time, such as 90s or 2h; the code is 4 then
    #[arg(long, value_name = "TIME", value_parser = patience)]
    pub timeout: Option<Duration>,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: GatewayArguments,
}

/// What `sessions` does with one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum SessionVerb {
    /// Say where it is
    Find,
    /// End it
    End,
}

/// Arguments of `sessions`.
#[derive(Debug, Args)]
pub struct SessionsArguments {
    /// The service
    #[arg(value_name = "SERVICE", value_parser = service)]
    pub service: ServiceName,
    /// Find or end the one whose id is read from standard input
    pub verb: Option<SessionVerb>,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: GatewayArguments,
}

/// On or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Switch {
    /// New sessions are turned away
    On,
    /// New sessions are taken
    Off,
}

/// Arguments of `maintenance`.
#[derive(Debug, Args)]
pub struct MaintenanceArguments {
    /// Whether it begins or ends
    pub switch: Switch,
    /// The service
    #[arg(value_name = "SERVICE", value_parser = service)]
    pub service: ServiceName,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: GatewayArguments,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct EventsArguments {
    /// Only those of this service
    #[arg(value_name = "SERVICE", value_parser = service)]
    pub service: Option<ServiceName>,
    /// Only those that somebody should look at
    #[arg(long)]
    pub trouble: bool,
    /// Go on with new ones as they come
    #[arg(long, short)]
    pub follow: bool,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: GatewayArguments,
}

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub struct ReloadArguments {
    /// Say only what it would do
    #[arg(long)]
    pub dry_run: bool,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: GatewayArguments,
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
    /// Any text that is one deploy's own: asked again with the same one, nothing rolls a second time
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Wait until the new generation takes the new sessions, or has failed
    #[arg(long)]
    pub wait: bool,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: GatewayArguments,
}

/// Arguments of `promote`.
#[derive(Debug, Args)]
pub struct PromoteArguments {
    /// The service; or the generation, as in app@8, which is promoted only if it is the one that is ready
    #[arg(value_name = "SERVICE[@GENERATION]")]
    pub named: Named,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: GatewayArguments,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// The service, for the youngest generation that is older than the active one; or a detached generation, as in app@7
    #[arg(value_name = "SERVICE[@GENERATION]")]
    pub named: Named,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: GatewayArguments,
}

/// Arguments of `detach`.
#[derive(Debug, Args)]
pub struct DetachArguments {
    /// The generation, as in app@8
    #[arg(value_name = "SERVICE@GENERATION", value_parser = generation)]
    pub generation: GenerationId,
    /// Whom to ask
    #[command(flatten)]
    pub gateway: GatewayArguments,
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

fn patience(text: &str) -> Result<Duration, String> {
    let time = text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(|| "write a time such as 90s, 5m or 2h".to_owned())
}

fn life(text: &str) -> Result<Duration, String> {
    let life = text.parse::<jiff::SignedDuration>().ok().and_then(|life| Duration::try_from(life).ok());
    life.filter(|life| (Duration::from_secs(1)..=LONGEST_LIFE).contains(life))
        .ok_or_else(|| "write a time from 1s to 720h, such as 30m or 8h".to_owned())
}

/// Which gateway is asked, and how its answer is printed.
#[derive(Clone, Debug, Args)]
pub struct GatewayArguments {
    /// Print what the admin API answers, as JSON
    #[arg(long)]
    pub json: bool,
    /// Names the admin address and the token
    #[command(flatten)]
    pub config: ConfigArguments,
    /// The admin address, as host:port or unix:/path, instead of the configuration's
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_ADMIN")]
    pub admin: Option<String>,
    /// The file that holds the token, instead of the configuration's (or the token itself in TIDEGATE_TOKEN)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}
