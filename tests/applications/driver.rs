//! Clients that are programs of their own: one process drives several of them, told by lines of JSON.

use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Mutex;

use crate::program::{node, system};
use crate::support::within;
use crate::walk::Client;

/// The process. With the last of its clients its input ends, and it puts away what it has opened and ends by itself.
struct Process {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// A program that drives clients. It reads `{"client": …, "what": …}` a line, makes a client at its first mention, and
/// answers each line by one: what the client saw, or `{"error": …}`.
#[derive(Clone)]
pub(crate) struct Driver(Arc<Mutex<Process>>);

/// A program of this test's folder that drives Chromium.
pub(crate) fn chromium(program: &str, arguments: &[&str]) -> Command {
    system("/usr/bin/chromium", "chromium");
    let mut command = node(program);
    command.args(arguments);
    command
}

impl Driver {
    pub(crate) fn start(command: Command) -> Self {
        let mut child = tokio::process::Command::from(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the driver starts");
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self(Arc::new(Mutex::new(Process { input, output })))
    }

    pub(crate) fn client(&self, name: &'static str) -> Driven {
        Driven { driver: self.clone(), name }
    }
}

/// One client of a driver.
pub(crate) struct Driven {
    driver: Driver,
    name: &'static str,
}

impl Driven {
    /// As [`Client::act`], and an error is what it saw.
    pub(crate) async fn try_act(&mut self, what: &str) -> Result<Value, String> {
        let mut process = self.driver.0.lock().await;
        let line = json!({ "client": self.name, "what": what }).to_string() + "\n";
        process.input.write_all(line.as_bytes()).await.expect("the driver reads");
        let mut answer = String::new();
        let read = process.output.read_line(&mut answer);
        within(&format!("{} does {what}", self.name), read).await.unwrap();
        let answer: Value =
            serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{what}: {error} in {answer:?}"));
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer),
        }
    }
}

impl Client for Driven {
    async fn act(&mut self, what: &str) -> Value {
        self.try_act(what).await.unwrap_or_else(|error| panic!("{} does {what}: {error}", self.name))
    }
}
