//! Included files, variables and profiles with the built gateway: at the start, at SIGHUP, and for those who ask.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::process::{Output, Stdio};

use support::{App, File, Gateway, Service, Wire, command, free_address};
use tempfile::TempDir;

const HEAD: &str = "include = [\"services/*.toml\"]\nenv_file = \"tidegate.env\"\n";

/// A folder in which `app` is in the main file and `other` in an included one; each has its backend from a variable.
fn folder(app: SocketAddr, other: SocketAddr) -> (TempDir, File) {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("services")).unwrap();
    let text = Service::new("other").set("hosts", "[\"other.test\"]").backends(["${OTHER}"]).to_string();
    fs::write(folder.path().join("services/other.toml"), text).unwrap();
    fs::write(folder.path().join("tidegate.env"), format!("# backends\nAPP={app}\nOTHER='{other}'\n")).unwrap();
    // Laid over the file: who answers, and that they say so.
    let production = "[gateway]\nmax_headers = 40\n[[service]]\nname = \"app\"\nsession.announce = true\n";
    fs::write(folder.path().join("tidegate.production.toml"), production).unwrap();
    let mut file = File::new([Service::app().backends(["${APP}"])]);
    file.head = HEAD.to_owned();
    (folder, file)
}

/// The backend that answers to a host, and what is announced.
async fn asked(gateway: &Gateway, host: &str) -> (String, Option<String>) {
    let mut wire = Wire::open(gateway.address).await;
    wire.send(format!("GET /where HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let answer = wire.answer().await;
    let backend = answer.json()["backend"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    let announced = answer.head.get("tidegate-generation").map(str::to_owned);
    (backend, announced)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn sighup_reads_every_file_anew() {
    let (one, two) = (App::start("one", 1).await, App::start("two", 1).await);
    let (folder, file) = folder(one.address, two.address);
    let gateway = Gateway::start_with(&[("TIDEGATE_PROFILE", "production")], folder, file).await;
    gateway.all_active().await;
    assert_eq!(asked(&gateway, "app.test").await, ("one".to_owned(), Some("app@1; newest=1".to_owned())));
    assert_eq!(asked(&gateway, "other.test").await, ("two".to_owned(), None));

    // The file of variables: both services swap their backends.
    let variables = gateway.folder().join("tidegate.env");
    fs::write(&variables, format!("APP={}\nOTHER={}\n", two.address, one.address)).unwrap();
    gateway.hup().await.unwrap();
    let both = |status: &support::Status| status.active("app") == Some(2) && status.active("other") == Some(2);
    gateway.until("both have rolled", both).await;
    assert_eq!(asked(&gateway, "app.test").await.0, "two");
    assert_eq!(asked(&gateway, "other.test").await.0, "one");

    // An included file: its service alone rolls, to what the file says itself.
    let included = gateway.folder().join("services/other.toml");
    let service = Service::new("other").set("hosts", "[\"other.test\"]");
    fs::write(&included, service.clone().backends([two.address]).to_string()).unwrap();
    gateway.hup().await.unwrap();
    let third = |status: &support::Status| status.active("app") == Some(2) && status.active("other") == Some(3);
    gateway.until("the included service has rolled", third).await;

    // One more file for the pattern, and the profile's announces no longer.
    let more = Service::new("more").set("hosts", "[\"more.test\"]").backends(["${APP}"]);
    fs::write(gateway.folder().join("services/more.toml"), more.to_string()).unwrap();
    fs::write(gateway.folder().join("tidegate.production.toml"), "[gateway]\nmax_headers = 41\n").unwrap();
    gateway.hup().await.unwrap();
    gateway.until("the new service is active", |status| status.active("more") == Some(1)).await;
    assert_eq!(asked(&gateway, "app.test").await, ("two".to_owned(), None));

    // A fault in any of them changes nothing, and is told with its file and place.
    let good = [&included, &variables, &gateway.folder().join("tidegate.production.toml")]
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()));
    let bad = [
        (format!("{}idle = 1\n", service.backends([one.address])), "services/other.toml:7:1", "service[0].idle"),
        (format!("APP={}\nOTHER\n", one.address), "tidegate.env:2:1", "without `=`"),
        ("[gateway]\nmax_header = 41\n".to_owned(), "tidegate.production.toml:2:1", "write `max_header"),
    ];
    let before = gateway.status().await;
    for ((path, text), (faulty, place, word)) in good.iter().zip(bad) {
        fs::write(path, faulty).unwrap();
        let report = gateway.hup().await.expect_err("a file is bad");
        assert!(report.contains(place) && report.contains(word), "no {place:?} and {word:?} in {report}");
        assert_eq!(gateway.status().await.gateway.loaded_at, before.gateway.loaded_at, "no file was taken over");
        // Who asks with the same files is answered nevertheless.
        let status = command(gateway.folder(), "status").args(["--profile", "production"]).output().unwrap();
        assert!(status.status.success() && self::text(&status).contains("more"), "{}", self::text(&status));
        fs::write(path, text).unwrap();
    }
    for path in ["services", "tidegate.env", "tidegate.production.toml"] {
        let path = gateway.folder().join(path);
        fs::rename(&path, path.with_extension("away")).unwrap();
        let report = gateway.hup().await;
        fs::rename(path.with_extension("away"), &path).unwrap();
        // Without the folder, the pattern matches nothing: services that are no longer there drain.
        assert_eq!(report.is_ok(), path.ends_with("services"), "{path:?}: {report:?}");
    }
    gateway.hup().await.unwrap();
    assert_eq!(asked(&gateway, "app.test").await.0, "two");
    assert_eq!(asked(&gateway, "other.test").await.0, "two");
}

#[tokio::test]
async fn the_environment_goes_before_the_file_and_stays_as_it_was() {
    let (one, two) = (App::start("one", 1).await, App::start("two", 1).await);
    let (folder, file) = folder(one.address, one.address);
    let address = two.address.to_string();
    let gateway = Gateway::start_with(&[("APP", &address)], folder, file).await;
    gateway.all_active().await;
    assert_eq!(asked(&gateway, "app.test").await, ("two".to_owned(), None), "no profile, nothing announced");
    assert_eq!(asked(&gateway, "other.test").await.0, "one");
    fs::write(gateway.folder().join("tidegate.env"), "APP=127.0.0.1:1\nOTHER=127.0.0.1:1\n").unwrap();
    gateway.hup().await.unwrap();
    assert_eq!(gateway.status().await.active("app"), Some(1), "what the file says of APP does not count");
    assert_eq!(asked(&gateway, "app.test").await.0, "two");
}

#[tokio::test]
async fn check_says_what_was_read() {
    let (folder, file) = folder(free_address(), free_address());
    let check = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = command(folder.path(), "check");
        command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
        command.output().unwrap()
    };
    fs::write(folder.path().join("tidegate.toml"), file.to_string()).unwrap();
    let output = check(&["--profile", "production"], &[("APP", "127.0.0.1:9"), ("UNUSED", "1")]);
    let (told, path) = (text(&output), |name: &str| folder.path().join(name).display().to_string());
    assert!(output.status.success(), "{told}");
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with(&format!("{}: OK, 2 services (app, other) on ", path("tidegate.toml"))), "{told}");
    assert_eq!(lines[1], format!("  included: {}", path("services/other.toml")));
    assert_eq!(lines[2], format!("  laid over: {}", path("tidegate.production.toml")));
    assert_eq!(lines[3], format!("  variables from: {}", path("tidegate.env")));
    let before = format!("APP (which goes before {}:2)", path("tidegate.env"));
    assert_eq!(lines[4], format!("  from the environment of this command: {before}"));
    assert!(lines[5].contains("a running gateway has the environment of its start"), "{told}");

    // By its name in the environment; an empty one is none.
    let output = check(&[], &[("TIDEGATE_PROFILE", "")]);
    assert!(output.status.success() && !text(&output).contains("laid over"), "{}", text(&output));
    for (arguments, variables, word) in [
        (&["--profile", "test"][..], &[][..], "tidegate.test.toml"),
        (&[], &[("TIDEGATE_PROFILE", "test")], "tidegate.test.toml"),
        (&[], &[("TIDEGATE_PROFILE", "../x")], "a profile's name has"),
        (&["--profile", ""], &[], "a profile's name has"),
        (&["--profile", "a/b"], &[], "a profile's name has"),
        (&[], &[("APP", "hunter2!")], "does not fit here"),
    ] {
        let output = check(arguments, variables);
        let told = text(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {variables:?}: {told}");
        assert!(told.contains(word) && !told.contains("hunter2"), "no {word:?} in {told}");
    }
}
