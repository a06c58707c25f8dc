//! `tidegate force`: a tester's token, and how to use it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::arguments::ForceArguments;
use crate::cli::{Exit, Failure, print, selection};
use crate::clock;
use crate::config::model::{Force, Gateway, HostPattern, Model, Service};
use crate::config::{self, report::Report};
use crate::ids::GenerationId;
use crate::session::force::mint;

/// All that is told.
#[derive(Debug, Serialize)]
struct Pass {
    token: String,
    service: String,
    generation: u64,
    until: Timestamp,
    /// A command that asks with the token.
    curl: String,
    /// What sets the cookie in a browser's console.
    #[serde(skip_serializing_if = "Option::is_none")]
    console: Option<String>,
    /// An address for a browser.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

pub(super) fn force(arguments: ForceArguments) -> Result<(), Failure> {
    let selection = selection(arguments.config)?;
    let loaded = config::load(&selection).map_err(|report: Report| Failure::report(&report))?;
    let pass = pass(&loaded.model, &arguments.generation, arguments.life, clock::wall_seconds())
        .map_err(|why| Failure::new(Exit::Usage, format!("{}: {why}", selection.file.display())))?;
    if arguments.json {
        let value = serde_json::to_value(&pass).map_err(|error| Failure::new(Exit::Failed, error))?;
        return print(&format!("{value:#}\n"));
    }
    print(&shown(&pass))
}

fn pass(model: &Model, id: &GenerationId, life: Duration, now: u64) -> Result<Pass, String> {
    let service = model.services.iter().find(|service| service.name == id.service);
    let service = service.ok_or_else(|| {
        let names: Vec<&str> = model.services.iter().map(|service| service.name.as_str()).collect();
        format!("there is no service {}; there is {}", id.service, names.join(", "))
    })?;
    let none = || {
        let example =
            "`force = { cookie = \"try\", header = \"X-Try-Generation\", secret_file = \"/etc/tidegate/force\" }`";
        format!("the service {} lets nobody in by a token; add {example} and send SIGHUP", id.service)
    };
    let force = service.force.as_ref().ok_or_else(none)?;
    let not_after = now.saturating_add(life.as_secs());
    let token = mint(&force.secret, id, not_after).ok_or_else(none)?;
    let until = i64::try_from(not_after).ok().and_then(|second| Timestamp::from_second(second).ok());
    let until = until.ok_or("the clock of this machine is wrong")?;
    let own = own_address(&model.gateway);
    Ok(Pass {
        curl: curl(service, force, &token, own),
        console: force
            .cookie
            .as_ref()
            .map(|name| format!("document.cookie = \"{name}={token}; path=/; max-age={}\"", life.as_secs())),
        url: force.query.as_ref().map(|key| url(service, key, &token, own)),
        token,
        service: id.service.to_string(),
        generation: id.number.0,
        until,
    })
}

fn shown(pass: &Pass) -> String {
    let Pass { token, service, generation, until, curl, console, url } = pass;
    let mut text =
        format!("{token}\n\nopens sessions on {service}@{generation} until {until}, while that is ready or active\n");
    text.push_str("open sessions stay where they are: take a private window, or log out before\n\n");
    text.push_str(&format!("{curl}\n"));
    for (what, line) in [("in a browser's console", console), ("in a browser", url)] {
        if let Some(line) = line {
            text.push_str(&format!("\n{what}:\n{line}\n"));
        }
    }
    text
}

fn curl(service: &Service, force: &Force, token: &str, own: SocketAddr) -> String {
    let host = match host(service) {
        Some(host) => format!(" -H {}", quoted(&format!("Host: {host}"))),
        None => String::new(),
    };
    let base = format!("http://{own}{}", service.path);
    match (&force.header, &force.cookie, &force.query) {
        (Some(name), ..) => format!("curl -i -H {}{host} {}", quoted(&format!("{name}: {token}")), quoted(&base)),
        (None, Some(name), _) => format!("curl -i -b {}{host} {}", quoted(&format!("{name}={token}")), quoted(&base)),
        (None, None, key) => {
            let key = key.as_deref().unwrap_or_default();
            format!("curl -i{host} {}", quoted(&format!("{base}?{key}={token}")))
        }
    }
}

/// As far as the file tells: a balancer in front may answer to another port.
fn url(service: &Service, key: &str, token: &str, own: SocketAddr) -> String {
    let authority = match (host(service), own.port()) {
        (Some(host), 80) => host,
        (Some(host), port) => format!("{host}:{port}"),
        (None, _) => own.to_string(),
    };
    format!("http://{authority}{}?{key}={token}", service.path)
}

/// A name to which the service answers.
fn host(service: &Service) -> Option<String> {
    service.hosts.first().map(|host| match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Below(name) => format!("www.{name}"),
    })
}

/// Where this machine reaches the gateway. One that listens on every address listens on loopback as well.
fn own_address(gateway: &Gateway) -> SocketAddr {
    let first = gateway.listen.first().copied().unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 80)));
    let ip = match first.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, first.port())
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GenerationNumber, ServiceName};
    use crate::session::force::read;

    fn model(force: &str) -> Model {
        let text = format!(
            "[gateway]\nlisten = [\"0.0.0.0:8080\"]\n[[service]]\nname = \"app\"\nhosts = [\"*.example.com\"]\npath = \"/shop\"\n\
             backends = [\"127.0.0.1:1\"]\n{force}"
        );
        config::parse("t.toml", &text).expect("the file is good").model
    }

    fn id(service: &str) -> GenerationId {
        GenerationId { service: ServiceName::new(service), number: GenerationNumber(8) }
    }

    const NOW: u64 = 1_795_237_800;

    #[test]
    fn the_token_is_the_services_and_the_lines_carry_it() {
        let model =
            model("force = { cookie = \"try\", header = \"X-Try\", query = \"try\", secret = \"0123456789abcdef\" }");
        let pass = pass(&model, &id("app"), Duration::from_secs(60), NOW).expect("there is a secret");
        let secret = &model.services[0].force.as_ref().expect("there is one").secret;
        let read = |now| read(secret, &ServiceName::new("app"), pass.token.as_bytes(), now);
        assert_eq!(read(NOW + 59), Ok(GenerationNumber(8)));
        assert!(read(NOW + 60).is_err());
        let token = &pass.token;
        let text = shown(&pass);
        assert!(text.starts_with(&format!("{token}\n")), "{text}");
        for wanted in [
            format!("curl -i -H 'x-try: {token}' -H 'Host: www.example.com' 'http://127.0.0.1:8080/shop'\n"),
            format!("document.cookie = \"try={token}; path=/; max-age=60\"\n"),
            format!("http://www.example.com:8080/shop?try={token}\n"),
            "app@8 until 2026-11-21T05:11:00Z".to_owned(),
        ] {
            assert!(text.contains(&wanted), "{wanted} is not in\n{text}");
        }
        assert!(!text.contains("0123456789abcdef"));
    }

    #[test]
    fn what_lacks_is_said() {
        let model = model("");
        let why = |service: &str| pass(&model, &id(service), Duration::from_secs(60), NOW).expect_err("it lacks");
        assert!(why("app").contains("lets nobody in"), "{}", why("app"));
        assert!(why("shop").contains("there is no service shop; there is app"), "{}", why("shop"));
    }
}
