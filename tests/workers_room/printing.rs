//! What becomes of what they print.

use std::fs;
use std::path::PathBuf;

use tidegate::config::model::worker::Output;
use tidegate::ids::GenerationNumber;

use crate::house::{House, LONG, is_alive, logged, order, shell, worker};
use crate::support::eventually;

fn output(max_size: u64, keep: u32, log_lines: u32) -> Output {
    Output { max_size, keep, log_lines }
}

fn former(path: &std::path::Path, number: u32) -> PathBuf {
    format!("{}.{number}", path.display()).into()
}

#[tokio::test]
async fn lines_go_into_the_log_without_control_characters() {
    let house = House::new();
    let id = worker("lines", 1);
    let script = r#"printf 'one\n\033[31mred\tand\rover\n\n\377\n'; printf 'half'; printf ' a line\n'; head -c 3000 /dev/zero | tr '\0' x; echo; printf 'no end'"#;
    house.start(&order(id.clone(), shell(script)));
    let (_, lines) = house.exited(&id).await;
    let long = "x".repeat(1_024);
    assert_eq!(lines, ["one", " [31mred and over", "\u{fffd}", "half a line", &long, "no end"]);
    let log = logged("lines");
    for line in &lines {
        let found = log
            .iter()
            .filter(|logged| {
                logged.ends_with("instance=0") && logged.contains(&format!("worker: {line} service=lines generation=7"))
            })
            .count();
        assert_eq!(found, 1, "{line:?} in {log:?}");
    }
}

#[tokio::test]
async fn the_next_life_appends_and_begins_its_own_lines() {
    let house = House::new();
    for life in 1..=2 {
        let id = worker("lives", life);
        house.start(&order(id.clone(), shell(&format!("echo life {life}"))));
        assert_eq!(house.exited(&id).await.1, [format!("life {life}")]);
    }
    assert_eq!(fs::read_to_string(house.output(&worker("lives", 1))).unwrap(), "life 1\nlife 2\n");
}

#[tokio::test]
async fn a_flood_fills_neither_disk_nor_log() {
    let house = House::new();
    let id = worker("flood", 1);
    let mut definition = shell("exec yes 0123456789012345678901234567890123456789");
    definition.output = output(200_000, 2, 5);
    let began = tokio::time::Instant::now();
    house.started(&order(id.clone(), definition)).await;
    let path = house.output(&id);
    eventually("there are two former files and a note", async || {
        let noted = logged("flood").iter().any(|line| line.contains("left out what was printed faster"));
        (noted && former(&path, 2).exists()).then_some(()).ok_or(format!("noted: {noted}"))
    })
    .await;
    house.stop(&id, LONG);
    house.stopped(&id).await;
    let most = 5 * (began.elapsed().as_secs() as usize + 2);
    let lines = logged("flood").iter().filter(|line| line.contains("worker: 0123456789")).count();
    assert!(lines >= 5 && lines <= most, "{lines} lines, {most} were allowed");
    assert!(!former(&path, 3).exists());
    for number in 1..=2 {
        let length = fs::metadata(former(&path, number)).unwrap().len();
        assert!(length <= 200_000 + 2 * 256 * 1024, "{length}");
    }
    let log = logged("flood");
    let note = log.iter().find(|line| line.contains("left out")).unwrap();
    assert!(note.contains(&path.display().to_string()) && note.contains("lines="), "{note}");
    assert_eq!(house.workers.lines(&id).len(), 50);
}

#[tokio::test]
async fn a_file_that_is_too_long_becomes_a_former_one() {
    let house = House::new();
    let id = worker("rotation", 1);
    let place = house.folder.path().display();
    let script = format!(
        "for i in 1 2 3 4; do echo part $i 0123456789; while [ ! -e {place}/go$i ]; do sleep 0.01; done; done; echo end"
    );
    let mut definition = shell(&script);
    definition.output = output(10, 2, 100);
    house.started(&order(id.clone(), definition)).await;
    let path = house.output(&id);
    let part = |number| format!("part {number} 0123456789\n");
    for number in 1..=4 {
        // Of a former file, the last bytes are kept.
        let text = part(number);
        let kept = &text[text.len() - 10..];
        eventually("it is a former one", async || {
            let found = fs::read_to_string(former(&path, 1)).unwrap_or_default();
            let is_empty = fs::read(&path).is_ok_and(|text| text.is_empty());
            let lines = house.workers.lines(&id).len();
            (found == kept && is_empty && lines == number).then_some(()).ok_or(format!("{found:?} {is_empty} {lines}"))
        })
        .await;
        fs::write(house.path(&format!("go{number}")), "").unwrap();
    }
    let (_, lines) = house.exited(&id).await;
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "end\n", "it goes on at the start");
    assert!(former(&path, 2).exists() && !former(&path, 3).exists());
}

#[tokio::test]
async fn a_file_that_vanishes_is_noted_and_read_on() {
    let house = House::new();
    let id = worker("vanished", 1);
    let go = house.path("go");
    let script =
        format!("echo here; while [ ! -e {0} ]; do sleep 0.01; done; echo there; exec sleep 600", go.display());
    let pid = house.started(&order(id.clone(), shell(&script))).await;
    let has = async |count: usize| {
        eventually("it printed", async || {
            let lines = house.workers.lines(&id);
            (lines.len() == count).then_some(()).ok_or(format!("{lines:?}"))
        })
        .await;
    };
    has(1).await;
    fs::remove_file(house.output(&id)).unwrap();
    fs::write(go, "").unwrap();
    has(2).await;
    assert!(is_alive(pid));
    house.stop(&id, LONG);
    house.stopped(&id).await;
}

#[tokio::test]
async fn the_output_of_the_last_generations_stays() {
    let house = House::new();
    let mut used = worker("gone", 1);
    used.generation.number = GenerationNumber(2);
    house.started(&order(used.clone(), shell("exec sleep 600"))).await;
    for number in (1..=8).filter(|number| *number != 2) {
        let mut id = worker("gone", 1);
        id.generation.number = GenerationNumber(number);
        house.start(&order(id.clone(), shell("echo here")));
        house.exited(&id).await;
        house.workers.forget(&id.generation);
        assert_eq!(house.workers.lines(&id), Vec::<String>::new());
    }
    let folders = || {
        let names = fs::read_dir(house.path("workers")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort_unstable();
        names
    };
    let expected = ["gone@2", "gone@5", "gone@6", "gone@7", "gone@8"];
    eventually("older ones are removed", async || {
        (folders() == expected).then_some(()).ok_or(format!("{:?}", folders()))
    })
    .await;
    house.stop(&used, LONG);
    house.stopped(&used).await;
}
