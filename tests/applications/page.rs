//! The admin page in a real browser, against a live gateway: `tests/page/drive.mjs` says what is done there.

use std::path::Path;

use crate::description::demo;
use crate::program::{installed, node, system};
use crate::support::{File, Gateway};

#[tokio::test]
async fn an_operator_steers_by_the_page() {
    let browser = system("/usr/bin/chromium", "chromium");
    let gateway = Gateway::ready(File::new([demo("app")])).await;
    let link = gateway.cli("open").unwrap();
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    let mut command = node("../page/drive.mjs");
    command
        .env("PAGE_LINK", link.trim())
        .env("PAGE_MODULES", installed("node"))
        .env("PAGE_AXE", installed("node/node_modules/axe-core/axe.min.js"))
        .env("PAGE_SHOTS", &shots)
        .env("PAGE_SITE", format!("http://{}", gateway.address))
        .env("PAGE_BROWSER", browser);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (told, complaint) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{told}{complaint}\n{}\nlook at {}", gateway.log(), shots.display());
    assert_eq!(told.lines().filter(|line| line.starts_with("ok: ")).count(), 14, "{told}");
    // What the page did is what happened.
    let kinds = gateway.kinds().await;
    for kind in ["rolled", "rolled_back", "retired", "maintenance_began", "maintenance_ended", "backend_drain"] {
        assert!(kinds.iter().any(|known| known == kind), "{kind} is not among {kinds:?}");
    }
    for shot in ["main-light-1280.png", "main-dark-1280.png", "main-light-360.png", "retire-dark-360.png"] {
        assert!(shots.join(shot).exists(), "there is no {shot}");
    }
}
