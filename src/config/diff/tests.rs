use super::*;
use crate::config::parse;

fn model(text: &str) -> Model {
    parse("t.toml", text).unwrap_or_else(|report| panic!("{report}")).model
}

fn told(old: &str, new: &str) -> Vec<String> {
    diff(&model(old), &model(new)).lines
}

const A: &str = "[[service]]\nname = \"a\"\nbackends = [\"127.0.0.1:1\"]\n";
const B: &str = "[[service]]\nname = \"b\"\npath = \"/b\"\nbackends = [\"127.0.0.1:2\"]\n";

#[test]
fn the_order_of_services_and_comments_change_nothing() {
    let changes = diff(&model(&format!("{A}{B}")), &model(&format!("# new\n{B}{A}")));
    assert!(changes.is_empty());
    assert_eq!(changes.to_string(), "nothing changed");
}

#[test]
fn listeners_services_and_keys_are_told_in_plain_words() {
    let old = format!("[gateway]\nlisten = [\"127.0.0.1:80\", \"127.0.0.1:81\"]\nidle_timeout = \"75s\"\n{A}{B}");
    let new = format!(
        "[gateway]\nlisten = [\"127.0.0.1:81\", \"127.0.0.1:82\"]\nidle_timeout = \"90s\"\n\
         max_header_size = \"64KiB\"\n{B}max_body_size = \"none\"\nsession = {{ cookie = \"s\" }}\n\
         [[service]]\nname = \"c\"\nbackends = [\"127.0.0.1:3\"]\n"
    );
    assert_eq!(
        told(&old, &new),
        [
            "listener 127.0.0.1:80: removed",
            "listener 127.0.0.1:82: added",
            "gateway.max_header_size: 32KiB -> 64KiB",
            "gateway.idle_timeout: 1m15s -> 1m30s",
            "service a: removed, serves its sessions to their end",
            "service b: session.sources: none -> cookie s",
            "service b: max_body_size: 1GiB -> none",
            "service c: added, 127.0.0.1:3",
        ]
    );
}

#[test]
fn a_weight_does_not_roll_and_a_backend_does() {
    let with = |backends: &str| format!("[[service]]\nname = \"a\"\nbackends = [{backends}]\n");
    let one = with("{ address = \"127.0.0.1:1\", weight = 1 }");
    let heavy = with("{ address = \"127.0.0.1:1\", weight = 5 }");
    assert_eq!(told(&one, &heavy), ["service a: backend 127.0.0.1:1 weight: 1 -> 5"]);
    let leaving = with("{ address = \"127.0.0.1:1\", status = \"drain\" }");
    assert_eq!(told(&one, &leaving), ["service a: backend 127.0.0.1:1 status: up -> drain"]);
    let other = with("{ address = \"127.0.0.1:9\", name = \"x\" }");
    assert_eq!(told(&one, &other), ["service a: rolls to a new generation, backends 127.0.0.1:1 -> x (127.0.0.1:9)"]);
    assert_eq!(told(&with("\"h:1\", \"h:2\""), &with("\"h:2\", \"h:1\"")), [""; 0]);
}

#[test]
fn the_order_of_backends_counts_for_crc32_modulo_alone() {
    let with = |rest: &str| format!("[[service]]\nname = \"a\"\n{rest}");
    let hash = "balance = { hash = { query = \"uid\" }, method = \"crc32_modulo\" }\nslow_start = \"0s\"\n";
    let (old, new) = (with("backends = [\"h:1\", \"h:2\"]\n"), with("backends = [\"h:2\", \"h:1\"]\n"));
    assert_eq!(
        told(&old, &format!("{new}{hash}")),
        [
            "service a: order of backends: h:1, h:2 -> h:2, h:1",
            "service a: balance: random_two -> crc32_modulo of the query key uid"
        ]
    );
}

#[test]
fn generations_are_held_against_each_other_by_number() {
    let with = |rest: &str| format!("[[service]]\nname = \"a\"\n{rest}");
    let old = with(
        "[[service.generation]]\nid = 6\nbackends = [\"h:6\"]\n\
         [[service.generation]]\nid = 7\nbackends = [\"h:7\"]\n",
    );
    let new = with(
        "[[service.generation]]\nid = 7\nbackends = [\"h:70\"]\n\
         [[service.generation]]\nid = 8\nbackends = [\"h:8\"]\n",
    );
    assert_eq!(
        told(&old, &new),
        [
            "service a: generation 6 removed",
            "service a@7: backend h:7 removed, drains",
            "service a@7: backend h:70 added",
            "service a: generation 8 added, backends h:8",
        ]
    );
    assert_eq!(told(&old, &A.replace("[\"127.0.0.1:1\"]", "[\"h:9\"]")).len(), 1);
}

#[test]
fn what_a_reload_cannot_change_is_named() {
    let old = model(A);
    let text = "[gateway]\nthreads = 1000\nexpected_sessions = 5\nstate = \"memory\"\nadmin = \"127.0.0.1:1\"\n\
                token_file = \"/t\"\nlog = \"debug\"\n[[service]]\nname = \"a\"\nbackends = [\"127.0.0.1:2\"]";
    let new = model(text);
    let keys = |new: &Model| needs_restart(&old.gateway, &new.gateway).collect::<Vec<_>>();
    assert_eq!(keys(&new), ["threads", "expected_sessions", "state", "admin", "token_file"]);
    let text = format!("[gateway]\nstate_wait = \"20ms\"\nstate_sync = \"always\"\n{A}");
    assert_eq!(keys(&model(&text)), ["state_wait", "state_sync"]);
    assert_eq!(told(A, &text), ["gateway.state_wait: 50ms -> 20ms", "gateway.state_sync: 1s -> always"]);
    assert_eq!(keys(&old), [""; 0]);
}
