use super::*;
use crate::admin::api::{Recovered, sample};
use crate::ids::{BackendName, ServiceName};

#[test]
fn a_service_with_two_generations() {
    let expected = "\
tidegate 0.1.0, running for 2d 3h, process 4242
configuration /etc/tidegate/tidegate.toml, loaded 1h 0m ago
state /var/lib/tidegate, durable, 1.5 MiB of bindings
1221 sessions, 87 connections

app: new sessions go to generation 8
 GENERATION  STATE     SINCE  SESSIONS  REQUESTS  TUNNELS  BACKENDS
          8  active    1h 0m      1204         3        1  127.0.0.1:8808
                                                           10.0.0.3:8808 drain
          7  detached  2d 3h        17         0        0  127.0.0.1:8807
 7: 4 of its sessions seen once
";
    let text = render(&sample::status(), false);
    assert_eq!(text, expected);
}

#[test]
fn a_ramp_shows_its_share() {
    let mut status = sample::status();
    let service = &mut status.services[0];
    service.active = Some(7);
    service.generations[1].state = Lifecycle::Active;
    (service.generations[0].state, service.generations[0].share) = (Lifecycle::Ready, Some(10));
    let text = render(&status, false);
    assert!(text.contains("app: new sessions go to generation 7, 10% of them to 8\n"), "{text}");
    assert!(text.contains("\n          8  ready 10%  1h 0m"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
    assert!(render(&status, true).contains("\x1b[36mready\x1b[0m 10%"));
    status.services[0].generations[0].share = Some(0);
    let text = render(&status, false);
    assert!(text.contains("app: new sessions go to generation 7, forced ones to 8 as well\n"), "{text}");
}

#[test]
fn no_service() {
    let mut status = sample::status();
    status.services.clear();
    assert!(render(&status, false).ends_with("87 connections\n\nno service is configured\n"));
}

#[test]
fn what_is_wrong_is_said() {
    let mut status = sample::status();
    status.gateway.reload_error = Some("tidegate.toml:3:1: unknown key\n  write `listen`".to_owned());
    status.gateway.unsure = true;
    status.gateway.unsure_until = Some(sample::at(184_200));
    status.gateway.durable = false;
    status.gateway.durability = Some("the disk is full".to_owned());
    status.gateway.undurable = 1;
    status.gateway.recovered = Some(Recovered { sessions: 1_204, lost: 12, complete: false });
    let service = &mut status.services[0];
    service.active = None;
    (service.waiting, service.waited_in_vain) = (2, 1);
    service.generations[0].backends[0].max_requests = Some(50);
    service.generations[0].state = Lifecycle::Failed;
    service.generations[0].trouble = Some("127.0.0.1:8808 refused the connection".to_owned());
    service.generations[1].deadline = Some(sample::at(183_690));
    let text = render(&status, false);
    for wanted in [
        "! the last SIGHUP changed nothing:\n    tidegate.toml:3:1: unknown key\n      write `listen`\n",
        "state /var/lib/tidegate, not durable",
        "! unsure for another 10m 0s: ",
        "! not durable: the disk is full\n",
        "recovered 1204 sessions at the start, 12 lost: generation or backend gone\n",
        "! the log of bindings was not whole",
        "! 1 answer went out before",
        "app: no generation is active yet\n",
        " ! 8: 127.0.0.1:8808 refused the connection\n",
        " ! 7 ends by force in 1m 30s\n",
        " ! 2 requests wait for a backend\n",
        " 1 request turned away since the start, for want of a backend\n",
        "/50\n",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
    let red = render(&status, true);
    assert!(red.contains("\x1b[31m! not durable: the disk is full\x1b[0m\n"), "{red}");
    // What is in the way of a snapshot alone is no loss.
    status.gateway.durable = true;
    assert!(render(&status, false).contains(", durable, 1.5 MiB of bindings\nrecovered"));
    assert!(render(&status, false).contains("\n! the disk is full\n"));
    status.services[0].in_file = false;
    assert!(render(&status, false).contains("app: not in the file any more, serves its open sessions\n"));
}

/// The table of a service, without what stands above it.
fn table(service: Service) -> String {
    let text = generations(&service, sample::at(183_600), false);
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= usize::from(WIDTH), "{widest} columns:\n{text}");
    text
}

/// Where the last column begins beside the widest number of a generation in these tests.
const LAST: usize = 60;

#[test]
fn long_names_and_large_numbers_fit() {
    let mut service = sample::status().services.remove(0);
    let generation = &mut service.generations[0];
    generation.number = 10_000_000_000;
    generation.sessions = 10_000_000;
    generation.requests = 123_456;
    generation.backends = vec![sample::backend(&"a-very-long-host-name.".repeat(6))];
    generation.backends[0].address = "unix:/run/app/with/a/long/path/to/its/socket.sock".to_owned();
    generation.backends[0].intent = Intent::Down;
    let text = table(service);
    // Wrapped, not cut: the last column holds every character of both names.
    let last: String =
        text.lines().skip(1).flat_map(|line| line.chars().skip(LAST)).filter(|c| !c.is_whitespace()).collect();
    assert!(last.contains(&"a-very-long-host-name.".repeat(6)), "{text}");
    assert!(last.contains("unix:/run/app/with/a/long/path/to/its/socket.sockdown"), "{text}");
    assert!(text.contains(" 10000000000  active    1h 0m  10000000    123456        1  "), "{text}");
}

#[test]
fn many_backends_are_counted() {
    let mut service = sample::status().services.remove(0);
    service.generations[0].backends = (0..30).map(|index| sample::backend(&format!("b{index}"))).collect();
    let text = table(service);
    assert!(text.contains("b7\n") && !text.contains("b8\n") && text.contains("and 22 more"), "{text}");
}

#[test]
fn two_hundred_generations() {
    let mut service = sample::status().services.remove(0);
    service.generations = (1..=200)
        .rev()
        .map(|number| {
            let state = match number {
                200 => Lifecycle::Active,
                190..200 => Lifecycle::Detached,
                _ => Lifecycle::Retired,
            };
            sample::generation(number, state, number)
        })
        .collect();
    let text = table(service);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 10 + 1 + RETIRED + 1, "{text}");
    assert!(lines[1].trim_start().starts_with("200  active"), "{text}");
    assert_eq!(lines.last(), Some(&" and 186 retired generations before them"));
    // Every row has its state in the same column.
    let columns: Vec<_> = lines[1..lines.len() - 1].iter().map(|line| line.find(['a', 'd', 'r'])).collect();
    assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
}

#[test]
fn colours_change_nothing_but_the_state() {
    let status = sample::status();
    let (plain, coloured) = (render(&status, false), render(&status, true));
    assert!(!plain.contains('\x1b'));
    assert!(coloured.contains("\x1b[32mactive\x1b[0m") && coloured.contains("\x1b[33mdetached\x1b[0m"));
    let mut without = coloured;
    for escape in ["\x1b[32m", "\x1b[33m", "\x1b[0m"] {
        without = without.replace(escape, "");
    }
    assert_eq!(without, plain);
}

#[test]
fn spans() {
    for (seconds, text) in
        [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3_599, "59m 59s"), (3_660, "1h 1m"), (200_000, "2d 7h")]
    {
        assert_eq!(span(seconds), text);
    }
    assert_eq!(age(sample::at(10), sample::at(0)), "0s", "a wall clock that was set back");
}

#[test]
fn a_backend_with_a_name_shows_its_address() {
    let mut service = sample::status().services.remove(0);
    service.name = ServiceName::new("named");
    service.generations[1].backends[0].name = BackendName::new("left");
    assert!(table(service).contains("left 127.0.0.1:8807"));
}

#[test]
fn sentences_are_wrapped_between_words() {
    let text = "a path/that/is/longer/than/the/whole/width/of/the/terminal/for/which/all/of/this/is/made end of it";
    assert_eq!(
        wrapped("! ", text),
        [
            "! a",
            "  path/that/is/longer/than/the/whole/width/of/the/terminal/for/which/all/of/this/is/made",
            "  end of it"
        ]
    );
    let words = "word ".repeat(40);
    let lines = wrapped("! ", &words);
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.len() <= usize::from(WIDTH)), "{lines:?}");
    assert_eq!(lines.concat().matches("word").count(), 40);
}

#[test]
fn who_is_not_well_is_told_with_the_reason() {
    let mut status = sample::status();
    let backends = &mut status.services[0].generations[0].backends;
    backends[0].health = Health::Up;
    backends[1].intent = Intent::Up;
    backends[1].health = Health::Down;
    backends[1].health_since = Some(sample::at(183_590));
    backends[1].health_reason = Some("3 checks in a row failed: no answer within 2s".to_owned());
    let mut third = sample::backend("c");
    third.ejected_until = Some(sample::at(183_609));
    third.ejection_reason = Some("5 requests in a row failed, the last one by status 503".to_owned());
    backends.push(third);
    let text = render(&status, false);
    for wanted in [
        "  127.0.0.1:8808\n",
        "  10.0.0.3:8808\n",
        "  unhealthy\n",
        "  c ejected\n",
        " ! 8: 10.0.0.3:8808 is unhealthy for 10s: 3 checks in a row failed: no answer\n      within 2s\n",
        " ! 8: c is ejected for another 9s: 5 requests in a row failed, the last one by\n      status 503\n",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
    // Many are counted.
    let ailing = status.services[0].generations[0].backends[1].clone();
    status.services[0].generations[0].backends = vec![ailing; 30];
    assert!(render(&status, false).contains(" ! 8: and 22 more backends\n"));
}

#[test]
fn sizes() {
    for (bytes, text) in [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1_023, "1023 bytes"),
        (1_536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (3 << 30, "3.0 GiB"),
    ] {
        assert_eq!(size(bytes), text);
    }
}

#[test]
fn a_service_of_plain_tcp_says_where_it_listens() {
    let mut status = sample::status();
    let listen = ["127.0.0.1:3050", "[::1]:3050"].map(|address| address.parse().unwrap());
    (status.services[0].mode, status.services[0].listen) = (Mode::Tcp, listen.to_vec());
    let text = render(&status, false);
    assert!(text.contains("\napp (tcp at 127.0.0.1:3050, [::1]:3050): new sessions go to generation 8\n"), "{text}");
}
