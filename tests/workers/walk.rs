//! The walk of z2's wiki page "How to Gateway": two applications' sessions on several generations of workers.

use super::{command, file, service};
use crate::support::{Browser, Gateway, Service, Status, base_port, lives, workers_of};

/// What status says of all workers: `app@1 detached 0 ready`.
fn workers(status: &Status) -> Vec<String> {
    let mut list = Vec::new();
    for generation in &status.service("app").expect("the service").generations {
        for worker in generation.backends.iter().filter_map(|backend| backend.worker.as_ref()) {
            list.push(format!("app@{} {} {} {}", generation.number, generation.state, worker.instance, worker.state));
        }
    }
    list
}

fn walked(keys: &str) -> Service {
    let worker = format!("{{ command = {}, base_port = {}{keys} }}", command(&[]), base_port());
    service(&worker).session("cookie = \"sid\", end = [{ path = \"/never\" }], idle_timeout = \"3s\"")
}

#[tokio::test]
async fn sessions_stay_on_their_workers_and_these_end_with_the_last_of_them() {
    let gateway = Gateway::ready(crate::support::File::new([walked("")])).await;
    // The page of the administrator, whose session is not used any more, and the one of the gateway, which is.
    let mut page = Browser::new(gateway.address);
    assert_eq!(page.login().await.generation, 1);
    let status = gateway.status().await;
    assert_eq!(workers(&status), ["app@1 active 0 ready"]);
    let first = status.pid("app", 1);
    let mut administration = Browser::new(gateway.address);
    assert_eq!(administration.login().await.generation, 1);
    administration.count().await;

    // Detach and synchronise: the next worker is started, the page is still served from the first one.
    gateway.cli("roll app").unwrap();
    let status = gateway.active(2).await;
    assert_eq!(workers(&status), ["app@2 active 0 ready", "app@1 detached 0 ready"]);
    assert_eq!(page.count().await.generation, 1);
    // Logging off moves it.
    page.logout().await;
    assert_eq!(page.login().await.generation, 2);

    // Once more. The page keeps the second worker alive, as the administrator's session does the first.
    gateway.cli("roll app").unwrap();
    let status = gateway.active(3).await;
    let second = status.pid("app", 2);
    administration.count().await;
    assert_eq!(
        workers(&gateway.status().await),
        ["app@3 active 0 ready", "app@2 detached 0 ready", "app@1 detached 0 ready"]
    );
    assert_eq!(page.count().await.generation, 2);
    page.logout().await;
    let status = gateway.state(2, "retired").await;
    assert!(!lives(second), "the worker in the middle has served its purpose");
    assert_eq!(page.login().await.generation, 3);
    if status.state("app", 1) == "detached" {
        assert!(lives(first));
    }

    // The oldest one ends when its session has expired.
    gateway.state(1, "retired").await;
    assert!(!lives(first));
    let status = gateway.status().await;
    assert_eq!(workers(&status), ["app@3 active 0 ready"]);
    assert_eq!(workers_of(gateway.folder()).into_iter().collect::<Vec<_>>(), [status.pid("app", 3)]);
}

#[tokio::test]
async fn ports_follow_the_generation_and_pass_over_what_is_held() {
    // The second generation's port is somebody else's.
    let (base, stranger) = loop {
        let base = base_port();
        if let Ok(stranger) = std::net::TcpListener::bind(("127.0.0.1", base + 2)) {
            break (base, stranger);
        }
    };
    let worker = format!(
        "{{ command = {}, ports = {{ http = {base}, debug = \"auto\" }}, port_range = 16, environment = {{ DEBUG = \"{{port.debug}}\" }} }}",
        command(&[])
    );
    let gateway = Gateway::ready(file(&worker)).await;
    let port = |status: &Status, number| status.workers("app", number)[0].ports.clone();
    assert_eq!(port(&gateway.status().await, 1)["http"], base + 1);
    gateway.cli("roll app").unwrap();
    let status = gateway.active(2).await;
    let ports = port(&status, 2);
    assert_eq!(ports["http"], base + 3);
    drop(stranger);
    gateway.cli("roll app").unwrap();
    let status = gateway.active(3).await;
    assert_eq!(port(&status, 3)["http"], if status.state("app", 2) == "retired" { base + 3 } else { base + 4 });

    // What a worker is told in its environment is what status says.
    let told = Browser::new(gateway.address).get("/where").await.json();
    let variable = |name: &str| told["environment"][name].as_str().unwrap_or_default().to_owned();
    let worker = gateway.status().await.workers("app", 3)[0].clone();
    assert_eq!(variable("PORT"), worker.ports["http"].to_string());
    assert_eq!(variable("TIDEGATE_PORT_DEBUG"), worker.ports["debug"].to_string());
    assert_eq!(variable("DEBUG"), variable("TIDEGATE_PORT_DEBUG"));
    assert_eq!((variable("TIDEGATE_SERVICE"), variable("TIDEGATE_GENERATION")), ("app".into(), "3".into()));
}

#[tokio::test]
async fn a_unix_socket_does_as_well() {
    let words = command(&[]).replace("{port}", "{socket}");
    let worker =
        format!("{{ command = {words}, instances = 2, socket = \"%FOLDER%/{{generation}}-{{instance}}.sock\" }}");
    let gateway = Gateway::ready(file(&worker)).await;
    let mut browser = Browser::new(gateway.address);
    let home = browser.login().await;
    gateway.cli("roll app").unwrap();
    gateway.active(2).await;
    assert_eq!(browser.count().await, home);
    browser.logout().await;
    gateway.state(1, "retired").await;
    assert_eq!(browser.login().await.generation, 2);
}

#[tokio::test]
async fn rolls_come_one_after_the_other_however_many_are_asked_for() {
    let gateway = Gateway::ready(file(&super::worker(&[], ""))).await;
    let told = gateway.cli("roll app").unwrap();
    assert!(told.contains("app@2 is starting"), "{told}");
    let told = gateway.cli("roll app").unwrap();
    assert!(told.contains("another roll of app begins when that to app@2 is done"), "{told}");
    assert_eq!(gateway.cli("roll app").unwrap(), told, "they make one");
    gateway.active(3).await;
    gateway.state(2, "retired").await;
    assert_eq!(gateway.status().await.service("app").unwrap().active, Some(3));
    assert!(!gateway.kinds().await.iter().any(|kind| kind == "failed"));
    let refusal = gateway.cli("roll nobody").unwrap_err();
    assert!(refusal.contains("there is no service nobody"), "{refusal}");
}

#[tokio::test]
async fn a_rollback_takes_new_sessions_to_the_workers_before() {
    let gateway = Gateway::ready(file(&super::worker(&[], ""))).await;
    let mut old = Browser::new(gateway.address);
    assert_eq!(old.login().await.generation, 1);
    let refusal = gateway.cli("rollback app").unwrap_err();
    assert!(refusal.contains("app has no older generation"), "{refusal}");
    gateway.cli("roll app").unwrap();
    let bad = gateway.active(2).await.pid("app", 2);
    let mut new = Browser::new(gateway.address);
    assert_eq!(new.login().await.generation, 2);

    let told = gateway.cli("rollback app").unwrap();
    assert!(told.contains("app@1 takes the new sessions again; app@2 is detached"), "{told}");
    assert_eq!(Browser::new(gateway.address).login().await.generation, 1);
    assert_eq!((old.count().await.generation, new.count().await.generation), (1, 2), "nobody is moved");
    // The file still says what generation 2 was started with, and rolls nothing.
    gateway.hup().await.unwrap();
    let status = gateway.status().await;
    assert_eq!(workers(&status), ["app@2 detached 0 ready", "app@1 active 0 ready"]);
    // There and back by name, which an older one that is active already refuses.
    let refusal = gateway.cli("rollback app@1").unwrap_err();
    assert!(refusal.contains("app@1 is active already"), "{refusal}");
    gateway.cli("rollback app@2").unwrap();
    assert_eq!(gateway.status().await.service("app").unwrap().active, Some(2));
    gateway.cli("rollback app").unwrap();

    new.logout().await;
    gateway.state(2, "retired").await;
    assert!(!lives(bad));
    gateway.cli("roll app").unwrap();
    gateway.active(3).await;
}
