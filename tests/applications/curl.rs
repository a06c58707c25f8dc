//! curl with its cookie jar: a client that obeys paths, expiry and deletion of cookies as browsers do.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::program::system;
use crate::support::DEADLINE;
use crate::walk::Client;

pub(crate) struct Curl {
    gateway: SocketAddr,
    jar: NamedTempFile,
}

impl Curl {
    pub(crate) fn new(gateway: SocketAddr) -> Self {
        Self { gateway, jar: NamedTempFile::new().unwrap() }
    }

    /// The same cookies, to another port of this host.
    pub(crate) fn past_the_gateway(self, address: SocketAddr) -> Self {
        Self { gateway: address, ..self }
    }

    /// The status and the body of the answer to a POST.
    pub(crate) fn post(&self, target: &str) -> (u16, String) {
        let output = Command::new(system("/usr/bin/curl", "curl"))
            .args(["--silent", "--show-error", "--request", "POST", "--data", "", "--write-out", "\n%{http_code}"])
            .arg("--max-time")
            .arg(DEADLINE.as_secs().to_string())
            .arg("--cookie")
            .arg(self.jar.path())
            .arg("--cookie-jar")
            .arg(self.jar.path())
            .arg(format!("http://{}{target}", self.gateway))
            .output()
            .unwrap();
        assert!(output.status.success(), "{target}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// The value of a cookie in the jar.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        let jar = fs::read_to_string(self.jar.path()).unwrap();
        let cookies = jar.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        cookies.filter(|fields| fields.len() == 7 && fields[5] == name).map(|fields| fields[6].to_owned()).next()
    }
}

impl Client for Curl {
    /// `POST /what`.
    async fn act(&mut self, what: &str) -> Value {
        let (status, body) = self.post(&format!("/{what}"));
        assert_eq!(status, 200, "{what}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{what}: {error} in {body}"))
    }
}
