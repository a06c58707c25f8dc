//! Answers that break off: clients can tell, the session stays, and the backend is ejected as the file says.

use super::backend::Process;
use super::clients::{Ledger, backend, ejected, logged, newcomers, of, sessions, tally};
use super::support::{File, Gateway, Http2, Service, eventually};

/// Sessions at each backend.
const EACH: usize = 2;

fn service(ejection: &str, backends: [&Process; 2]) -> Service {
    Service::app()
        .backends(backends.map(|one| one.address))
        .set("balance", "\"round_robin\"")
        .set("wait_for_backend", "\"none\"")
        .set("backend_idle_timeout", "\"500ms\"")
        .set("ejection", ejection)
}

/// How an answer begins that breaks off, and what its client sees: without a whole head it can be told in words.
const BEGINNINGS: [(&str, &str); 3] = [("/length", "cut"), ("/chunks", "cut"), ("/head", "502")];

#[tokio::test]
async fn a_client_can_tell_half_an_answer() {
    let (those, others) = (Process::start("a").await, Process::start("b").await);
    let gateway = Gateway::ready(File::new([service("\"off\"", [&those, &others])])).await;
    let ledger = Ledger::default();
    let (mut clients, _) = sessions(&gateway, &ledger, ["a", "b"], EACH).await;
    let mut expected = 0;
    for (beginning, seen) in BEGINNINGS {
        for ending in ["close", "reset"] {
            let target = format!("{beginning}?{ending}");
            for method in ["GET", "POST"] {
                for client in &mut clients {
                    assert_eq!(client.ask(method, &target).await, seen, "{method} {target}");
                    assert_eq!(client.ask(method, "/where").await, "200 own", "its session is where it was");
                    let http2 = Http2::open(gateway.address).await;
                    assert_eq!(client.ask_over(&http2, method, &target).await, seen, "{method} {target} over HTTP/2");
                    // Other streams go on.
                    assert_eq!(client.ask_over(&http2, method, "/where").await, "200 own");
                    expected += 2;
                }
            }
        }
    }
    ledger.audit([&those.heard(), &others.heard()]);
    assert_eq!(ledger.count("cut") + ledger.count("502"), expected);
    logged(&gateway, "the backend broke its response off", 200, expected * 2 / 3).await;
    logged(&gateway, "the server behind this gateway broke the connection off", 502, expected / 3).await;
    assert_eq!(gateway.sessions(1, 2 * EACH as u64).await.lost(), 0);
}

#[tokio::test]
async fn half_an_answer_of_one_who_is_killed_is_no_whole_one() {
    let (mut dies, lives) = (Process::start("a").await, Process::start("b").await);
    let gateway = Gateway::ready(File::new([service("\"off\"", [&dies, &lives])])).await;
    let ledger = Ledger::default();
    let (those, _) = sessions(&gateway, &ledger, ["a", "b"], EACH).await;
    let mut flights = Vec::new();
    for client in &those {
        for (beginning, _) in BEGINNINGS {
            for method in ["GET", "POST"] {
                let (mut plain, stream, http2) = (client.tab(), client.tab(), Http2::open(gateway.address).await);
                flights.push(tokio::spawn(async move { plain.ask(method, beginning).await }));
                flights.push(tokio::spawn(async move { stream.ask_over(&http2, method, beginning).await }));
            }
        }
    }
    let count = flights.len();
    eventually("all are in flight", async || {
        let heard = dies.heard().iter().filter(|heard| heard.target != "/login").count();
        if heard == count { Ok(()) } else { Err(format!("{heard} of {count}")) }
    })
    .await;
    dies.kill();
    let mut outcomes = Vec::new();
    for flight in flights {
        outcomes.push(flight.await.unwrap());
    }
    assert_eq!(tally(outcomes), of([("502", count / 3), ("cut", count * 2 / 3)]));
    assert_eq!(newcomers(&gateway, &ledger, "b", 10).await, of([("200 own", 10)]));
    dies.restart().await;
    for mut client in those {
        assert_eq!(client.ask("POST", "/where").await, "200 own");
    }
    ledger.audit([&dies.heard(), &lives.heard()]);
    let status = gateway.sessions(1, 2 * EACH as u64).await;
    assert_eq!((status.lost(), backend(&status, dies.address).requests), (0, 0));
}

#[tokio::test]
async fn so_many_halves_in_a_row_eject() {
    const ERRORS: usize = 3;
    for (beginning, words) in [
        ("/length?close", "the answer broke off"),
        ("/chunks?reset", "the answer broke off"),
        ("/head?close", "the connection broke before the answer"),
    ] {
        let (halves, whole) = (Process::start("a").await, Process::start("b").await);
        let ejection = format!("{{ errors = {ERRORS}, duration = \"1h\", max_duration = \"1h\" }}");
        let gateway = Gateway::ready(File::new([service(&ejection, [&halves, &whole])])).await;
        let ledger = Ledger::default();
        let (mut clients, _) = sessions(&gateway, &ledger, ["a", "b"], 1).await;
        let client = &mut clients[0];
        // One less than it takes, and what ends the row.
        for _ in 1..ERRORS {
            client.ask("POST", beginning).await;
        }
        assert_eq!(client.ask("GET", "/where").await, "200 own");
        for _ in 0..ERRORS {
            assert_eq!(backend(&gateway.status().await, halves.address).ejected_until, None);
            client.ask("POST", beginning).await;
        }
        let why = ejected(&gateway, halves.address, true).await.unwrap();
        assert_eq!(why, format!("{ERRORS} requests in a row failed, the last one by {words}"));
        assert_eq!(newcomers(&gateway, &ledger, "b", 10).await, of([("200 own", 10)]));
        // Bound sessions go where they belong.
        assert_eq!(client.ask("POST", "/where").await, "200 own");
        ledger.audit([&halves.heard(), &whole.heard()]);
    }
}
