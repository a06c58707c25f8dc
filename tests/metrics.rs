//! `/metrics`: its figures are what was done, Prometheus reads them, and what is shipped for it names none that is not
//! there.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "metrics/counts.rs"]
mod counts;
#[path = "metrics/shipped.rs"]
mod shipped;
mod support;

use std::collections::BTreeMap;

use support::{App, File, Gateway, Service, Wire, eventually};

/// A gateway before one application.
async fn before_app() -> (App, Gateway) {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    (app, gateway)
}

/// The page, as loopback gets it without a token.
async fn text(gateway: &Gateway) -> String {
    let admin: std::net::SocketAddr = gateway.file.get("admin").trim_matches('"').parse().unwrap();
    let mut wire = Wire::open(admin).await;
    wire.send(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.head.get("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    answer.text()
}

/// The page's samples by series.
#[derive(Debug)]
struct Page(BTreeMap<String, f64>);

impl Page {
    async fn of(gateway: &Gateway) -> Self {
        let text = text(gateway).await;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is no sample")));
        Self(samples.map(|(series, value)| (series.to_owned(), value.parse().unwrap())).collect())
    }

    #[track_caller]
    fn get(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0.keys()))
    }

    fn has(&self, expected: &[(&str, f64)]) -> Result<(), String> {
        let wrong: Vec<String> = expected
            .iter()
            .filter(|(series, value)| self.0.get(*series) != Some(value))
            .map(|(series, value)| format!("{series} is {:?}, not {value}", self.0.get(*series)))
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }
}

/// Waits until the page has these samples. The end of an answer is counted a moment after the client has it.
async fn shows(gateway: &Gateway, expected: &[(&str, f64)]) -> Page {
    eventually("the page shows what was done", async || {
        let page = Page::of(gateway).await;
        page.has(expected).map(|()| page)
    })
    .await
}
