//! Disks that are full, broken, read-only, slow, gone, or without power.

use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::medium::{Faults, Ram, open, read};
use super::*;

/// A journal on a disk in memory, with a table.
struct World {
    ram: Arc<Ram>,
    journal: Journal,
    table: Arc<Table>,
    next: u64,
}

impl World {
    fn new(options: Options) -> Self {
        let ram = Ram::new();
        let (_, journal) = open(&ram, options);
        let table = Table::new();
        journal.append(&[slot_named(1)]);
        journal.attach(table.weak());
        let mut world = Self { ram, journal, table, next: 0 };
        assert_eq!(world.bind(), Outcome::Durable);
        world
    }

    fn tell(&mut self) -> Ticket {
        self.next += 1;
        self.table.tell(&self.journal, bound(self.next, 1))
    }

    fn bind(&mut self) -> Outcome {
        let ticket = self.tell();
        outcome(&self.journal, ticket)
    }

    /// Appends until no more is accepted.
    fn overflow(&mut self) {
        let missed = self.journal.status().missed;
        for _ in 0..10_000 {
            if self.journal.status().missed > missed {
                return;
            }
            self.tell();
        }
        panic!("the buffer has no limit");
    }

    fn assert_bad(&mut self) {
        self.tell();
        eventually("the status says so", || !self.journal.status().durable);
        assert!(self.journal.status().why.is_some());
        assert_eq!(self.bind(), Outcome::NotDurable);
    }

    fn assert_healed(&mut self) {
        eventually("it heals", || self.journal.status().why.is_none());
        assert!(self.journal.status().durable);
        assert_eq!(self.bind(), Outcome::Durable);
        let recovered = read(&self.ram.files());
        assert!(recovered.report.complete, "{:?}", recovered.report);
        assert_eq!(Model::recovered(&recovered), self.table.model());
    }

    fn assert_unsure_if_killed(&self) {
        let report = read(&self.ram.files()).report;
        assert!(!report.complete && report.damage > 0, "{report:?}");
    }
}

fn small() -> Options {
    Options { buffer: 400, ..options() }
}

#[test]
fn a_full_disk_costs_nothing_if_it_has_room_again_in_time() {
    let mut world = World::new(options());
    world.ram.fill();
    world.assert_bad();
    world.ram.fault(Faults::default());
    world.assert_healed();
    let status = world.journal.status();
    assert_eq!((status.missed, status.snapshots), (0, 0));
}

#[test]
fn a_write_that_fails_beyond_the_buffer_is_healed_by_a_snapshot() {
    for errno in [Errno::NOSPC, Errno::IO, Errno::ROFS] {
        let mut world = World::new(small());
        world.ram.fault(Faults { write: Some(errno), ..Faults::default() });
        world.overflow();
        world.assert_bad();
        assert!(world.journal.status().missed > 0);
        world.ram.fault(Faults::default());
        world.assert_healed();
        assert!(world.journal.status().snapshots > 0);
    }
}

#[test]
fn a_place_that_cannot_be_written_is_left_for_another_file() {
    let mut world = World::new(options());
    world.ram.fault(Faults { write: Some(Errno::IO), ..Faults::default() });
    world.tell();
    eventually("it is given up", || world.journal.status().missed > 0);
    world.ram.fault(Faults::default());
    world.assert_healed();
    assert!(world.journal.status().snapshots > 0);
}

#[test]
fn a_start_after_a_death_on_a_full_disk_is_unsure() {
    let mut world = World::new(small());
    world.ram.fill();
    world.overflow();
    world.assert_bad();
    eventually("the log is marked", || !read(&world.ram.files()).report.complete);
    world.assert_unsure_if_killed();
    world.ram.fault(Faults::default());
    world.assert_healed();
}

#[test]
fn a_start_after_a_death_before_the_healing_snapshot_is_unsure() {
    let mut world = World::new(small());
    world.ram.fault(Faults { write: Some(Errno::IO), ..Faults::default() });
    world.overflow();
    world.ram.fault(Faults { rename: Some(Errno::IO), ..Faults::default() });
    eventually("facts are accepted again", || world.bind() == Outcome::Durable);
    assert!(!world.journal.status().durable, "what the gap took is still missing");
    world.assert_unsure_if_killed();
    // What came behind the gap is there all the same.
    let recovered = Model::recovered(&read(&world.ram.files()));
    assert!(recovered.0.contains_key(&hash(world.next).0));
    world.ram.fault(Faults::default());
    world.assert_healed();
}

#[test]
fn a_sync_that_fails_is_not_asked_again() {
    let options = [options(), Options { sync: Sync::Always, ..options() }];
    for options in options {
        let mut world = World::new(options);
        world.ram.fault(Faults { sync: Some(Errno::IO), ..Faults::default() });
        world.tell();
        world.assert_bad();
        world.ram.fault(Faults::default());
        world.assert_healed();
        assert!(world.journal.status().snapshots > 0, "what the failed sync dropped was written anew");
    }
}

#[test]
fn a_read_only_start_is_not_durable_and_heals() {
    let ram = Ram::new();
    ram.fault(Faults { create: Some(Errno::ROFS), ..Faults::default() });
    let (recovered, journal) = open(&ram, options());
    assert!(recovered.report.fresh);
    let table = Table::new();
    journal.append(&[slot_named(1)]);
    journal.attach(table.weak());
    let mut world = World { ram, journal, table, next: 0 };
    world.assert_bad();
    world.ram.fault(Faults::default());
    world.assert_healed();
}

#[test]
fn a_log_that_somebody_removed_is_made_again() {
    let mut world = World::new(options());
    world.ram.unlink_all();
    world.tell();
    eventually("it is missed and made anew", || world.journal.status().snapshots > 0);
    world.assert_healed();
}

#[test]
fn nobody_waits_for_a_disk_that_stands_still() {
    let mut world = World::new(Options { wait: Duration::from_millis(10), ..options() });
    world.ram.stalled.store(true, Ordering::Release);
    let first = world.tell();
    eventually("the disk is asked", || world.ram.waiting.load(Ordering::Acquire) > 0);
    eventually("it is known not to answer", || !world.journal.status().durable);
    assert!(world.journal.status().why.unwrap().contains("not answered"));
    assert_eq!(outcome(&world.journal, first), Outcome::NotDurable);
    assert_eq!(world.bind(), Outcome::NotDurable);
    world.ram.stalled.store(false, Ordering::Release);
    eventually("it answers", || world.journal.status().durable);
    eventually("all is written", || outcome(&world.journal, first) == Outcome::Durable);
    eventually("and read", || Model::recovered(&read(&world.ram.files())) == world.table.model());
    assert_eq!(world.journal.status().missed, 0);
}

#[test]
fn whoever_stops_waiting_leaves_nothing_behind() {
    let mut world = World::new(options());
    world.ram.stalled.store(true, Ordering::Release);
    let tickets: Vec<Ticket> = (0..50).map(|_| world.tell()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut waits: Vec<_> = tickets.iter().map(|ticket| Box::pin(world.journal.written(*ticket))).collect();
        for wait in &mut waits {
            assert!(futures_util::FutureExt::now_or_never(wait.as_mut()).is_none());
        }
        assert_eq!(world.journal.waiting().waiters(), 50);
        waits.truncate(10);
        assert_eq!(world.journal.waiting().waiters(), 10);
        world.ram.stalled.store(false, Ordering::Release);
        for wait in waits {
            assert_eq!(tokio::time::timeout(Duration::from_secs(20), wait).await, Ok(Outcome::Durable));
        }
    });
    assert_eq!(world.journal.waiting().waiters(), 0);
}

#[test]
fn nobody_waits_for_a_journal_that_has_ended() {
    let mut world = World::new(options());
    assert!(world.journal.close(Duration::from_secs(20)));
    assert_eq!(world.bind(), Outcome::NotDurable);
}

#[test]
fn a_stall_longer_than_the_buffer_is_healed_by_a_snapshot() {
    let mut world = World::new(Options { wait: Duration::from_millis(10), ..small() });
    world.ram.stalled.store(true, Ordering::Release);
    world.tell();
    eventually("the disk is asked", || world.ram.waiting.load(Ordering::Acquire) > 0);
    world.overflow();
    assert_eq!(world.bind(), Outcome::NotDurable);
    world.ram.stalled.store(false, Ordering::Release);
    eventually("it heals", || world.journal.status().durable);
    eventually("and is whole", || {
        let recovered = read(&world.ram.files());
        recovered.report.complete && Model::recovered(&recovered) == world.table.model()
    });
    assert!(world.journal.status().missed > 0 && world.journal.status().snapshots > 0);
}

#[test]
fn short_writes_are_carried_on() {
    let mut world = World::new(options());
    world.ram.fault(Faults { piece: Some(3), ..Faults::default() });
    for _ in 0..20 {
        assert_eq!(world.bind(), Outcome::Durable);
    }
    world.assert_healed();
    assert_eq!(world.journal.status().snapshots, 0);
}

#[test]
fn a_snapshot_that_cannot_be_made_leaves_the_log_as_it_is() {
    let mut world = World::new(Options { log_min: 2_000, log_ratio: 1, ..options() });
    world.ram.fault(Faults { rename: Some(Errno::NOSPC), ..Faults::default() });
    eventually("it is wanted", || {
        let ticket =
            world.table.tell(&world.journal, Fact::Touched { hash: hash(1), seen: Seconds(9), confirmed: true });
        outcome(&world.journal, ticket) == Outcome::Durable && world.journal.status().why.is_some()
    });
    assert!(world.journal.status().durable, "new sessions are kept all the same");
    let long = world.journal.status().log_bytes;
    world.ram.fault(Faults::default());
    world.assert_healed();
    assert!(world.journal.status().snapshots > 0 && world.journal.status().log_bytes < long);
}

#[test]
fn a_power_loss_costs_nothing_that_was_synced_and_leaves_what_was_once_so() {
    for sync in [Sync::Always, Sync::Every(Duration::from_millis(1))] {
        let mut world = World::new(Options { sync, ..options() });
        let mut facts = vec![bound(1, 1)];
        for round in 0..60 {
            assert_eq!(world.bind(), Outcome::Durable);
            facts.push(bound(world.next, 1));
            let recovered = read(&world.ram.after_power_loss(round * 7));
            assert!(recovered.report.complete, "{:?}", recovered.report);
            let model = Model::recovered(&recovered);
            let count = (0..=facts.len()).find(|count| Model::of(&facts[..*count]) == model);
            let count = count.expect("a state that was");
            assert!(sync != Sync::Always || count == facts.len());
        }
        eventually("it is synced", || Model::recovered(&read(&world.ram.after_power_loss(0))) == world.table.model());
    }
}
