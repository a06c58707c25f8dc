//! Commands of the operator's: run without a shell, bounded in time and in what is kept of their output.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::config::model::{Address, Hook};
use crate::ids::GenerationId;
use crate::log::printable;

/// Lines of output that go into the log: the last ones.
const LINES: usize = 50;

/// Bytes of a line that are kept.
const LINE: usize = 1_024;

/// After the command's end, output of what it left running is read for this long.
const AFTERMATH: Duration = Duration::from_millis(200);

/// What a hook is told, in its environment and in its arguments.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    kind: &'static str,
    generation: GenerationId,
    backends: String,
    in_use: String,
}

impl Facts {
    pub(super) fn new(kind: &'static str, generation: &GenerationId, backends: &[Address], in_use: &[Address]) -> Self {
        let list = |addresses: &[Address]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        Self { kind, generation: generation.clone(), backends: list(backends), in_use: list(in_use) }
    }

    /// Replaces `{service}` and `{generation}`; text that a value brings in is not looked at again.
    fn fill(&self, argument: &str) -> String {
        let number = self.generation.number.to_string();
        let parts = argument.split("{service}").map(|part| part.replace("{generation}", &number));
        parts.collect::<Vec<_>>().join(self.generation.service.as_str())
    }
}

/// Runs a hook to its end. Dropping the future kills it and all that it started in its process group.
///
/// # Errors
/// What became of it instead of exit status 0, with its last line of output: to be read after "its hook …".
pub(super) async fn run(hook: &Hook, facts: &Facts) -> Result<(), String> {
    let Some((program, arguments)) = hook.command.split_first() else { return Err("names no command".to_owned()) };
    let program = facts.fill(program);
    let mut command = Command::new(&program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    let mut child = command
        .args(arguments.iter().map(|argument| facts.fill(argument)))
        .env("TIDEGATE_SERVICE", facts.generation.service.as_str())
        .env("TIDEGATE_GENERATION", facts.generation.number.to_string())
        .env("TIDEGATE_BACKENDS", &facts.backends)
        .env("TIDEGATE_ADDRESSES_IN_USE", &facts.in_use)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("could not be run: {program}: {error}"))?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let mut tail = Tail::default();
    let status = {
        let (mut stdout, mut stderr) = (Stream::new(child.stdout.take()), Stream::new(child.stderr.take()));
        let ended = tokio::time::timeout(hook.timeout, follow(&mut child, &mut stdout, &mut stderr, &mut tail)).await;
        stdout.finish(&mut tail);
        stderr.finish(&mut tail);
        ended
    };
    for line in &tail.0 {
        tracing::info!(generation = %facts.generation, hook = facts.kind, "{line}");
    }
    let last = tail.0.back().map_or_else(String::new, |line| format!("; its last line was: {line}"));
    match status {
        Ok(Ok(status)) => {
            group.0 = None;
            if status.success() { Ok(()) } else { Err(format!("ended with {status}{last}")) }
        }
        Ok(Err(error)) => Err(format!("could not be waited for: {error}{last}")),
        Err(_) => {
            drop(group);
            // Killed with its group: reaped here, so that no zombie stays.
            let _ = child.wait().await;
            Err(format!("was killed after {:?}{last}", hook.timeout))
        }
    }
}

/// What in the environment is for the gateway alone: systemd's words to it, its sockets, its token.
fn is_ours(name: &OsStr) -> bool {
    let name = name.as_bytes();
    [&b"NOTIFY_SOCKET"[..], b"TIDEGATE_TOKEN", b"TIDEGATE_INIT"].contains(&name)
        || [&b"WATCHDOG_"[..], b"LISTEN_"].iter().any(|start| name.starts_with(start))
}

/// Kills what is left of a hook when it is given up.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may be gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Waits for the end and reads both outputs all the while, so that a full pipe stops nobody.
async fn follow(
    child: &mut tokio::process::Child,
    stdout: &mut Stream<tokio::process::ChildStdout>,
    stderr: &mut Stream<tokio::process::ChildStderr>,
    tail: &mut Tail,
) -> std::io::Result<ExitStatus> {
    let status = loop {
        tokio::select! {
            biased;
            bytes = stdout.read() => stdout.take(bytes, tail),
            bytes = stderr.read() => stderr.take(bytes, tail),
            status = child.wait() => break status?,
        }
    };
    let rest = async {
        while stdout.is_open() || stderr.is_open() {
            tokio::select! {
                bytes = stdout.read() => stdout.take(bytes, tail),
                bytes = stderr.read() => stderr.take(bytes, tail),
            }
        }
    };
    // What a child of the hook still holds open does not hold the roll.
    let _ = tokio::time::timeout(AFTERMATH, rest).await;
    Ok(status)
}

/// One of a hook's outputs, cut into lines.
struct Stream<R> {
    pipe: Option<R>,
    buffer: Box<[u8; LINE]>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Stream<R> {
    fn new(pipe: Option<R>) -> Self {
        Self { pipe, buffer: Box::new([0; LINE]), line: Vec::new() }
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Bytes that came; zero at the end, and for ever waiting after it. Cancel-safe.
    async fn read(&mut self) -> usize {
        match &mut self.pipe {
            Some(pipe) => pipe.read(&mut self.buffer[..]).await.unwrap_or(0),
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, bytes: usize, tail: &mut Tail) {
        if bytes == 0 {
            self.pipe = None;
            self.finish(tail);
        }
        for index in 0..bytes {
            match self.buffer[index] {
                b'\n' => self.finish(tail),
                byte if self.line.len() < LINE => self.line.push(byte),
                _ => {}
            }
        }
    }

    fn finish(&mut self, tail: &mut Tail) {
        let line = std::mem::take(&mut self.line);
        tail.push(String::from_utf8_lossy(&line).trim_end());
    }
}

/// The last lines.
#[derive(Default)]
struct Tail(VecDeque<String>);

impl Tail {
    fn push(&mut self, line: &str) {
        if line.is_empty() {
            return;
        }
        if self.0.len() >= LINES {
            self.0.pop_front();
        }
        self.0.push_back(printable(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GenerationNumber, ServiceName};

    fn shell(script: &str, timeout: Duration) -> Hook {
        Hook { command: ["/bin/sh", "-c", script, "{service}@{generation}"].map(str::to_owned).to_vec(), timeout }
    }

    fn facts() -> Facts {
        let generation = GenerationId { service: ServiceName::new("{generation}"), number: GenerationNumber(7) };
        let address = |port| Address::Tcp { host: "127.0.0.1".to_owned(), port };
        Facts::new("on_retired", &generation, &[address(1), address(2)], &[address(2)])
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn is_told_the_facts_in_arguments_and_environment() {
        let script = r#"test "$0" = "{generation}@7" || exit 1
            test "$TIDEGATE_SERVICE@$TIDEGATE_GENERATION" = "{generation}@7" || exit 2
            test "$TIDEGATE_BACKENDS" = "127.0.0.1:1 127.0.0.1:2" || exit 3
            test "$TIDEGATE_ADDRESSES_IN_USE" = "127.0.0.1:2" || exit 4"#;
        // The script is an argument too: its own placeholders are filled, so the facts are compared by name.
        let script = script.replace("{generation}", "$(printf '{%s}' generation)");
        assert_eq!(run(&shell(&script, LONG), &facts()).await, Ok(()));
    }

    #[tokio::test]
    async fn a_failure_tells_status_and_last_line() {
        let hook = shell("echo first; echo 'no disk' >&2; exit 3", LONG);
        let why = run(&hook, &facts()).await.unwrap_err();
        assert!(why.contains("exit status: 3"), "{why}");
        assert!(why.contains("first") || why.contains("no disk"), "{why}");
        let nothing = Hook { command: vec!["/nowhere/at/all".to_owned()], timeout: LONG };
        let why = run(&nothing, &facts()).await.unwrap_err();
        assert!(why.contains("could not be run: /nowhere/at/all"), "{why}");
    }

    #[tokio::test]
    async fn much_output_neither_blocks_nor_grows() {
        let script = "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done; \
                      head -c 100000 /dev/zero | tr '\\0' x; exit 1";
        let why = run(&shell(script, LONG), &facts()).await.unwrap_err();
        assert!(why.ends_with('x') && why.len() < LINE + 100, "{}", why.len());
    }

    #[tokio::test]
    async fn the_time_limit_ends_the_whole_group() {
        let root = tempfile::tempdir().unwrap();
        let alive = root.path().join("alive");
        // The grandchild holds a lock as long as it lives, and tells its pid.
        let script = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", alive.display());
        let why = run(&shell(&script, Duration::from_millis(300)), &facts()).await.unwrap_err();
        assert!(why.starts_with("was killed after 300ms"), "{why}");
        let Ok(pid) = std::fs::read_to_string(&alive) else { return };
        let stat = format!("/proc/{}/stat", pid.trim());
        let gone = async {
            // Gone, or a zombie that nobody has reaped yet.
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, gone).await.expect("the grandchild was killed with its group");
    }

    #[tokio::test]
    async fn what_it_leaves_running_does_not_hold_it() {
        let root = tempfile::tempdir().unwrap();
        let pid = root.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; exit 0", pid.display());
        assert_eq!(run(&shell(&script, LONG), &facts()).await, Ok(()));
        let pid: i32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).expect("a hook may start a daemon");
    }
}
