//! What operators do step by step, with users at work all the while.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use support::{App, Browser, File, Gateway, Service, eventually};
use tokio::task::JoinHandle;

/// People who log in, work and log out, and notice everything.
struct Users {
    tasks: Vec<JoinHandle<Result<(), String>>>,
    leave: Arc<AtomicBool>,
    logins: Arc<AtomicU64>,
}

impl Users {
    fn come(gateway: &Gateway, count: usize) -> Self {
        let (leave, logins) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let user = |_| tokio::spawn(work(Browser::new(gateway.address), Arc::clone(&leave), Arc::clone(&logins)));
        Self { tasks: (0..count).map(user).collect(), leave, logins }
    }

    /// Waits until everybody has logged in again a few times.
    async fn go_on(&self) {
        let wanted = self.logins.load(Ordering::SeqCst) + 3 * self.tasks.len() as u64;
        eventually("users go on", async || {
            let logins = self.logins.load(Ordering::SeqCst);
            if logins >= wanted { Ok(()) } else { Err(format!("{logins} of {wanted} logins")) }
        })
        .await;
    }

    async fn leave(self) {
        self.leave.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap().unwrap_or_else(|error| panic!("a user met an error: {error}"));
        }
    }
}

async fn work(mut browser: Browser, leave: Arc<AtomicBool>, logins: Arc<AtomicU64>) -> Result<(), String> {
    while !leave.load(Ordering::SeqCst) {
        browser.try_login().await?;
        logins.fetch_add(1, Ordering::SeqCst);
        for _ in 0..fastrand::u32(1..20) {
            browser.try_count().await?;
        }
        browser.try_logout().await?;
    }
    Ok(())
}

/// Sessions on a backend of generation 1.
async fn empty(gateway: &Gateway, app: &str) {
    let has = |status: &support::Status| {
        let generation = status.generation("app", 1);
        let backends = generation.into_iter().flat_map(|generation| &generation.backends);
        backends
            .filter(|backend| backend.address == app)
            .map(|backend| backend.sessions + backend.requests)
            .sum::<u64>()
    };
    gateway.until("the node is empty", |status| has(status) == 0).await;
}

/// One node is taken out, updated and put back with the next version; then the other one is drained, and the old version
/// is taken off it once nobody works there any more.
#[tokio::test]
async fn two_nodes_are_updated_one_after_the_other() {
    let (one, two) = (App::start("node 1", 1).await, App::start("node 2", 1).await);
    let (first, second) = (one.address.to_string(), two.address.to_string());
    let folder = tempfile::tempdir().unwrap();
    let undeployed = folder.path().join("undeployed");
    let script = "echo \"{generation} was on $TIDEGATE_BACKENDS, in use $TIDEGATE_ADDRESSES_IN_USE\" >> \"$0\"";
    let hook = format!("['sh', '-c', '{script}', '{}']", undeployed.display());
    let service = || Service::app().set("on_retired", &hook);
    let node = |address: &str, status: &str| format!("{{ address = \"{address}\", status = \"{status}\" }}");
    let both = |status: &str| format!("[{}, {}]", node(&first, "up"), node(&second, status));
    let mut gateway = Gateway::ready(File::new([service().generation_of(1, &both("up"))])).await;
    let users = Users::come(&gateway, 40);
    // Somebody who stays for long, on the node that is updated last.
    let mut patient = loop {
        let mut browser = Browser::new(gateway.address);
        if browser.login().await.backend == "node 1" {
            break browser;
        }
        browser.logout().await;
    };
    users.go_on().await;

    // Node 2 takes nobody new, empties, and goes down. It is no roll.
    gateway.reload([service().generation_of(1, &both("drain"))]).await;
    empty(&gateway, &second).await;
    gateway.reload([service().generation_of(1, &both("down"))]).await;
    users.go_on().await;
    assert_eq!(two.sessions(), 0);
    let address = two.stop().await;

    // It comes back with version 2, as the next generation; node 1 goes on with those who are on it.
    let updated = App::start_on(address, "node 2", 2).await;
    let old = format!("[{}]", node(&first, "up"));
    gateway.reload([service().generation_of(1, &old).generation_of(2, &format!("[{}]", node(&second, "up")))]).await;
    gateway.active(2).await;
    users.go_on().await;
    assert_eq!(patient.count().await.backend, "node 1");
    assert_eq!(Browser::new(gateway.address).login().await.generation, 2);
    gateway.sessions(1, 1).await;
    assert!(!undeployed.exists(), "somebody is on version 1");
    assert_eq!(gateway.status().await.state("app", 1), "detached");

    // With the last of them version 1 is over, and the hook says where it may be undeployed.
    patient.logout().await;
    gateway.state(1, "retired").await;
    eventually("the hook has been told", async || {
        let text = std::fs::read_to_string(&undeployed).unwrap_or_default();
        // Node 2 is version 2's by now: only node 1 is free of version 1.
        let told = format!("1 was on {first} {second}, in use {second}");
        if text.trim() == told { Ok(()) } else { Err(text) }
    })
    .await;
    users.go_on().await;
    users.leave().await;
    assert!(updated.requests() > 0 && gateway.status().await.lost() == 0);
}
