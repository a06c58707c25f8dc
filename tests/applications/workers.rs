//! Real applications as processes of the gateway's own, by the files of `config/examples/workers`: what in them names a
//! place of the reader's machine is put where the test has it, and the rest is taken as it stands.

use std::path::Path;

use crate::curl::Curl;
use crate::program::{installed, node, python, source};
use crate::support::{File, Gateway, base_port, lives};
use crate::walk::{at, counts};

/// The `[[service]]` of an example. Each pair is a text that has to be in it, and what stands there instead.
fn example(name: &str, places: &[(&str, String)]) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/workers").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = text[text.find("[[service]]").expect("it has a service")..].to_owned();
    let base = format!("base_port = {}", base_port());
    for (from, to) in places.iter().chain([&("base_port = 8800", base)]) {
        assert!(text.contains(from), "{from:?} is not in {name}");
        text = text.replace(from, to);
    }
    let mut file = File::new([]);
    file.tail = text;
    file
}

/// Somebody works through a roll, and the version on which he worked ends with his session.
async fn roll(gateway: &Gateway, service: &str) {
    let (mut early, mut late) = (Curl::new(gateway.address), Curl::new(gateway.address));
    at(&mut early, "open", "1").await;
    counts(&mut early, "1", 1).await;
    let former: Vec<u32> = gateway.status().await.workers(service, 1).iter().filter_map(|one| one.pid).collect();
    assert_eq!(former.len(), 2);
    gateway.cli(&format!("roll {service}")).unwrap();
    gateway.until("the next one is active", |status| status.active(service) == Some(2)).await;
    counts(&mut early, "1", 2).await;
    at(&mut late, "open", "2").await;
    counts(&mut late, "2", 1).await;
    at(&mut early, "leave", "1").await;
    gateway.until("the former one is retired", |status| status.state(service, 1) == "retired").await;
    assert!(former.iter().all(|pid| !lives(*pid)));
    at(&mut early, "open", "2").await;
}

#[tokio::test]
async fn node_as_workers() {
    // Fails where its packages are not installed.
    node("express/server.js");
    let modules = installed("node").join("node_modules");
    let places = [
        ("directory = \"/srv/shop/current\"", format!("directory = \"{}\"", source("express").display())),
        ("NODE_ENV = \"production\"", format!("NODE_ENV = \"production\", NODE_PATH = \"{}\"", modules.display())),
        ("user = \"shop\"\n", String::new()),
        ("memory = \"512MiB\"", "memory = \"4GiB\"".to_owned()),
    ];
    let gateway = Gateway::ready(example("node.toml", &places)).await;
    roll(&gateway, "shop").await;
}

#[tokio::test]
async fn asgi_as_workers() {
    // Fails where its packages are not installed.
    python();
    let middleware = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/asgi");
    let variables = format!(
        "PYTHONUNBUFFERED = \"1\", PYTHONDONTWRITEBYTECODE = \"1\", PYTHONPATH = \"{}\", INSTANCE = \"{{generation}}\"",
        middleware.display()
    );
    let places = [
        (
            "\"venv/bin/uvicorn\", \"desk:app\"",
            format!("\"{}\", \"application:application\"", installed("python/bin/uvicorn").display()),
        ),
        ("directory = \"/srv/desk/current\"", format!("directory = \"{}\"", source("asgi").display())),
        ("PYTHONUNBUFFERED = \"1\"", variables),
        ("path = \"/healthz\", ", String::new()),
        ("user = \"desk\"\n", String::new()),
    ];
    let gateway = Gateway::ready(example("asgi.toml", &places)).await;
    roll(&gateway, "desk").await;
}

#[tokio::test]
async fn the_demo_as_workers() {
    let own = crate::support::executable();
    let places = [("command = [\"tidegate\"", format!("command = [\"{}\"", own.display()))];
    let gateway = Gateway::ready(example("demo.toml", &places)).await;
    assert_eq!(gateway.status().await.workers("demo", 1).len(), 2);
}
