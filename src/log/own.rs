//! The gateway's own log: events of `tracing` on standard error.

use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt as format, reload};

/// Why a directive such as `info,tidegate=debug` is refused; the operator's to solve.
#[derive(Debug, thiserror::Error)]
#[error("`{directive}` is no log directive ({reason}); write `info`, `debug`, or `info,tidegate::control=debug`")]
pub struct BadDirective {
    directive: String,
    reason: String,
}

/// The handle on the log of this process.
#[derive(Clone)]
pub struct OwnLog(reload::Handle<EnvFilter, Registry>);

impl fmt::Debug for OwnLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnLog(..)")
    }
}

/// Starts the log on standard error; coloured only on a terminal and without `NO_COLOR`.
///
/// # Errors
/// The directive makes no sense. A second call in one process fails as well: there is one log.
pub fn init(directive: &str) -> Result<OwnLog, BadDirective> {
    let (filter, handle) = reload::Layer::new(parse(directive)?);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = format::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(true);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| BadDirective { directive: directive.to_owned(), reason: error.to_string() })?;
    Ok(OwnLog(handle))
}

impl OwnLog {
    /// Puts another directive in force, at a reload.
    ///
    /// # Errors
    /// It makes no sense; then the one before stays.
    pub fn change(&self, directive: &str) -> Result<(), BadDirective> {
        let filter = parse(directive)?;
        self.0
            .reload(filter)
            .map_err(|error| BadDirective { directive: directive.to_owned(), reason: error.to_string() })
    }
}

/// Whether a directive makes sense; for the check of the file.
///
/// # Errors
/// Tells why it does not.
pub fn check(directive: &str) -> Result<(), BadDirective> {
    parse(directive).map(|_| ())
}

fn parse(directive: &str) -> Result<EnvFilter, BadDirective> {
    EnvFilter::builder()
        .parse(directive)
        .map_err(|error| BadDirective { directive: directive.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives() {
        for good in ["info", "warn,tidegate=debug", "tidegate::control=trace", "off"] {
            check(good).unwrap();
        }
        for bad in ["tidegate=loud", "a=b=c", "in fo=debug,=="] {
            let message = check(bad).unwrap_err().to_string();
            assert!(message.contains(bad) && message.contains("write `info`"), "{message}");
        }
    }
}
