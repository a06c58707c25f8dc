//! Prometheus itself reads the page, and what is shipped for it fits.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Browser, Socket, Wire, eventually, free_address};
use crate::{before_app, text};

const PROMETHEUS: &str = "/usr/bin/prometheus";
const PROMTOOL: &str = "/usr/bin/promtool";

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Runs promtool with this on its standard input.
fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(PROMTOOL)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{PROMTOOL} of the package prometheus: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Metrics that a text names, as they are exported.
fn named(text: &str, families: &BTreeSet<String>) -> BTreeSet<String> {
    let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
    words
        .filter(|word| word.starts_with("tidegate_") || word.starts_with("process_"))
        .map(|word| {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
            of_histogram.filter(|family| families.contains(*family)).unwrap_or(word).to_owned()
        })
        .collect()
}

/// The names of all families of a page.
fn families(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn promtool_finds_no_fault_in_the_page() {
    let (_app, gateway) = before_app().await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let page = text(&gateway).await;
    let output = promtool(&["check", "metrics"], &page);
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    // It does find some where there are some.
    let output = promtool(&["check", "metrics"], &page.replace("tidegate_requests_total", "tidegate_requests"));
    assert!(!output.status.success());
}

#[tokio::test]
async fn loopback_reads_the_page_and_nothing_else_without_a_token() {
    let (_app, gateway) = before_app().await;
    assert!(text(&gateway).await.starts_with("# HELP tidegate_"));
    let admin: SocketAddr = gateway.file.get("admin").trim_matches('"').parse().unwrap();
    for (path, host, expected) in [
        ("/metrics", admin.to_string(), 200),
        ("/metrics/", admin.to_string(), 401),
        ("/v1/status", admin.to_string(), 401),
        ("/metrics", format!("rebound.test:{}", admin.port()), 403),
    ] {
        let mut wire = Wire::open(admin).await;
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(wire.answer().await.status(), expected, "{path} of {host}");
    }
}

#[test]
fn promtool_finds_no_fault_in_the_rules() {
    for arguments in [["check", "rules", "config/prometheus-alerts.yml"], ["check", "config", "config/prometheus.yml"]]
    {
        let path = file(arguments[2]);
        let output = promtool(&[arguments[0], arguments[1], path.to_str().unwrap()], "");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    let folder = TempDir::new().unwrap();
    let tests = folder.path().join("alerts.yml");
    let rules = file("config/prometheus-alerts.yml");
    fs::write(&tests, read("tests/metrics/alerts.yml").replace("RULES", rules.to_str().unwrap())).unwrap();
    let output = promtool(&["test", "rules", tests.to_str().unwrap()], "");
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn what_is_shipped_names_what_is_exported() {
    let (_app, gateway) = before_app().await;
    let families = families(&text(&gateway).await);
    assert!(families.len() > 40, "{families:?}");
    for name in ["config/prometheus-alerts.yml", "config/grafana-dashboard.json", "README.md"] {
        let named = named(&read(name), &families);
        assert!(named.len() > 10, "{name} names {named:?}");
        let unknown: Vec<_> = named.difference(&families).collect();
        assert!(unknown.is_empty(), "{name} names what the gateway does not export: {unknown:?}");
    }
    let told = named(&read("README.md"), &families);
    let untold: Vec<_> = families.difference(&told).collect();
    assert!(untold.is_empty(), "the README does not tell of {untold:?}");
}

/// A running Prometheus, which ends with the test.
struct Prometheus {
    _folder: TempDir,
    _process: tokio::process::Child,
    address: SocketAddr,
}

impl Prometheus {
    /// With the shipped files: the example's address is the gateway's, and what takes 15 s there takes one.
    async fn start(gateway: &str) -> Self {
        let (folder, address) = (TempDir::new().unwrap(), free_address());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = read("config/prometheus.yml");
        assert!(config.contains("\"127.0.0.1:9180\"") && config.contains("scrape_interval: 15s"));
        let config = config.replace("127.0.0.1:9180", gateway).replace("scrape_interval: 15s", "scrape_interval: 1s");
        fs::write(path("prometheus.yml"), config).unwrap();
        fs::write(path("prometheus-alerts.yml"), read("config/prometheus-alerts.yml")).unwrap();
        let process = tokio::process::Command::new(PROMETHEUS)
            .arg(format!("--config.file={}", path("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", path("data")))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{PROMETHEUS} of the package prometheus: {error}"));
        Self { _folder: folder, _process: process, address }
    }

    async fn ask(&self, target: &str) -> Result<Value, String> {
        let mut wire = Wire::connect(self.address).await.map_err(|error| error.to_string())?;
        let head = format!("GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        wire.try_send(head).await.map_err(|error| error.to_string())?;
        let answer = wire.try_answer("GET").await.map_err(|error| error.to_string())?;
        if answer.status() == 200 { Ok(answer.json()) } else { Err(format!("{target}: {}", answer.text())) }
    }

    async fn query(&self, expression: &str) -> Result<Value, String> {
        let target = format!("/api/v1/query?query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC));
        let answer = self.ask(&target).await?;
        Ok(answer["data"]["result"].clone())
    }

    /// Waits until an expression has one series with this value.
    async fn finds(&self, expression: &str, value: &str) {
        eventually("Prometheus knows it", async || {
            let result = self.query(expression).await?;
            match result.as_array().map(Vec::as_slice) {
                Some([only]) if only["value"][1] == value => Ok(()),
                _ => Err(format!("{expression}: {result}")),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn prometheus_reads_it_and_knows_the_dashboard() {
    let (_app, gateway) = before_app().await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    browser.count().await;
    let _tab = Socket::tab(gateway.address, browser.id.as_deref().unwrap()).await;
    let prometheus = Prometheus::start(gateway.file.get("admin").trim_matches('"')).await;
    prometheus.finds("up{job=\"tidegate\"}", "1").await;
    prometheus.finds(r#"tidegate_sessions{service="app",generation="1",state="active"}"#, "1").await;
    prometheus.finds("tidegate_tunnels", "1").await;
    prometheus.finds(r#"tidegate_request_duration_seconds_bucket{service="app",le="+Inf"}"#, "2").await;
    // What it takes for a name and a kind is what was meant.
    let kinds = prometheus.ask("/api/v1/metadata").await.unwrap();
    for (name, kind) in [
        ("tidegate_sessions", "gauge"),
        ("tidegate_requests_total", "counter"),
        ("tidegate_upstream_duration_seconds", "histogram"),
    ] {
        assert_eq!(kinds["data"][name][0]["type"], kind, "{name}");
    }

    let rules = prometheus.ask("/api/v1/rules").await.unwrap();
    let alerts = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert!(alerts.len() > 10, "{rules}");
    for alert in alerts {
        let annotations = &alert["annotations"];
        for wanted in ["summary", "description"] {
            assert!(annotations[wanted].as_str().is_some_and(|text| text.len() > 20), "{alert}");
        }
    }

    let dashboard: Value = serde_json::from_str(&read("config/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets: Vec<_> = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten().collect();
    assert!(targets.len() > 30, "{dashboard}");
    let rolls = &dashboard["annotations"]["list"][0];
    let mut found = 0;
    for query in targets.into_iter().chain([rolls]) {
        let mut expression = query["expr"].as_str().unwrap().to_owned();
        for (variable, value) in [("$job", ".*"), ("$instance", ".*"), ("$service", ".*"), ("$__rate_interval", "1m")] {
            expression = expression.replace(variable, value);
        }
        assert!(!expression.contains('$'), "{expression} has a variable that no template sets");
        let result = prometheus.query(&expression).await.unwrap_or_else(|error| panic!("{expression}: {error}"));
        found += usize::from(!result.as_array().unwrap().is_empty());
    }
    assert!(found > 15, "only {found} of the dashboard's queries find something");
    let variables: Vec<_> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(variables, ["datasource", "job", "instance", "service"]);
}
