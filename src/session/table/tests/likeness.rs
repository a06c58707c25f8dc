//! Random sequences against a table that is a map and a list of rules.

use super::*;

const MAX: usize = 6;
const IDS: u64 = 12;
const SHARDS: u64 = 2;

#[derive(Clone, Debug)]
struct Session {
    backend: usize,
    opened: u64,
    last_seen: u64,
    pins: u64,
    once: bool,
    tunneled: bool,
}

impl Session {
    fn over(&self, now: u64, detached: &[bool]) -> Option<Closing> {
        if now > self.opened + AGE {
            return Some(Closing::Age);
        }
        let (limit, closing) = match self {
            Session { tunneled: true, .. } => (TUNNEL, Closing::LastTunnel),
            Session { once: true, backend, .. } if detached[*backend] => (ONCE, Closing::Unconfirmed),
            _ => (IDLE, Closing::Idle),
        };
        (self.pins == 0 && now > self.last_seen + limit).then_some(closing)
    }
}

#[derive(Default)]
struct Likeness {
    now: u64,
    /// By number; an id may be bound again while a request of the former session is under way.
    sessions: HashMap<u64, Session>,
    ids: HashMap<u64, u64>,
    given: u64,
    detached: [bool; 3],
    closed: HashMap<Closing, u64>,
    refused: u64,
}

impl Likeness {
    fn close(&mut self, id: u64, closing: Closing) {
        self.ids.remove(&id);
        *self.closed.entry(closing).or_default() += 1;
    }

    fn close_what_is_over(&mut self) {
        let over = |(&id, number): (&u64, &u64)| Some((id, self.sessions[number].over(self.now, &self.detached)?));
        let over: Vec<_> = self.ids.iter().filter_map(over).collect();
        for (id, closing) in over {
            self.close(id, closing);
        }
    }

    /// Those of which any may be evicted for an id.
    fn evictable(&self, for_id: u64) -> Vec<u64> {
        let idle = |&(_, number): &(&u64, &u64)| self.sessions[number].once && self.sessions[number].pins == 0;
        for ahead in 0..SHARDS {
            let here = |&(id, _): &(&u64, &u64)| id % SHARDS == (for_id + ahead) % SHARDS;
            let found: Vec<_> = self.ids.iter().filter(here).filter(idle).collect();
            if let Some(oldest) = found.iter().map(|(_, number)| self.sessions[number].last_seen).min() {
                let oldest = |(_, number): &(&u64, &u64)| self.sessions[number].last_seen == oldest;
                return found.into_iter().filter(oldest).map(|(id, _)| *id).collect();
            }
        }
        Vec::new()
    }

    fn count(&self, of: impl Fn(&Session) -> bool) -> u64 {
        self.ids.values().filter(|number| of(&self.sessions[number])).count() as u64
    }
}

#[derive(Clone, Debug)]
enum Step {
    Bind(u64, usize),
    Pin(u64, bool),
    Unpin(usize),
    Tunnel(usize),
    Close(u64),
    Pass(u64),
    Detach(usize),
    Reopen(usize),
    Rearm,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..IDS, 0..3_usize).prop_map(|(id, backend)| Step::Bind(id, backend)),
        4 => (0..IDS, any::<bool>()).prop_map(|(id, touches)| Step::Pin(id, touches)),
        8 => any::<usize>().prop_map(Step::Unpin),
        1 => any::<usize>().prop_map(Step::Tunnel),
        1 => (0..IDS).prop_map(Step::Close),
        6 => prop_oneof![4 => 1..4_u64, 2 => 4..30_u64, 1 => 400..600_u64].prop_map(Step::Pass),
        2 => (0..3_usize).prop_map(Step::Detach),
        1 => (0..3_usize).prop_map(Step::Reopen),
        1 => Just(Step::Rearm),
    ]
}

struct Held {
    pin: Pin<Arc<Table>>,
    id: u64,
    number: u64,
    touches: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn the_table_does_what_the_rules_say(steps in prop::collection::vec(step(), 1..120)) {
        let world = World::new(SHARDS as usize, MAX);
        let backends: Vec<_> = (1..=3).map(|number| world.strict(number)).collect();
        let mut like = Likeness { now: u64::from(world.clock.now().0), ..Likeness::default() };
        let mut pins: Vec<Held> = Vec::new();
        for step in steps {
            match step {
                Step::Bind(id, backend) => bind(&world, &backends, &mut like, &mut pins, id, backend)?,
                Step::Pin(id, touches) => {
                    let pin = if touches { world.pin(id) } else { world.poll(id) };
                    let number = like.ids.get(&id).copied();
                    prop_assert_eq!(pin.is_some(), number.is_some());
                    let (Some(pin), Some(number)) = (pin, number) else { continue };
                    let now = like.now;
                    let session = like.sessions.get_mut(&number).expect("known");
                    let idle = if session.pins == 0 { now - session.last_seen } else { 0 };
                    prop_assert_eq!(u64::from(pin.idle_before()), idle);
                    session.pins += 1;
                    session.once = false;
                    session.last_seen = if touches { now } else { session.last_seen };
                    pins.push(Held { pin, id, number, touches });
                }
                Step::Unpin(pin) if !pins.is_empty() => {
                    let held = pins.swap_remove(pin % pins.len());
                    let session = like.sessions.get_mut(&held.number).expect("known");
                    session.pins -= 1;
                    session.last_seen = if held.touches { like.now } else { session.last_seen };
                    let over = session.over(like.now, &like.detached);
                    if let Some(over) = over && like.ids.get(&held.id) == Some(&held.number) {
                        like.close(held.id, over);
                    }
                }
                Step::Tunnel(pin) if !pins.is_empty() => {
                    let pin = pin % pins.len();
                    pins[pin].pin.become_tunnel();
                    pins[pin].touches = true;
                    let session = like.sessions.get_mut(&pins[pin].number).expect("known");
                    (session.tunneled, session.once) = (true, false);
                }
                Step::Unpin(_) | Step::Tunnel(_) => {}
                Step::Close(id) => {
                    let known = like.ids.contains_key(&id);
                    prop_assert_eq!(world.table.close(hash(id), Closing::Deleted), known);
                    if known {
                        like.close(id, Closing::Deleted);
                    }
                }
                Step::Pass(seconds) => {
                    for _ in 0..seconds {
                        world.pass(1);
                        like.now += 1;
                        like.close_what_is_over();
                        prop_assert_eq!(world.table.sessions(), like.ids.len() as u64, "at {}", like.now);
                    }
                }
                Step::Detach(backend) => {
                    like.detached[backend] = true;
                    world.detach(&backends[backend]);
                    like.close_what_is_over();
                }
                Step::Reopen(backend) => like.detached[backend] = !backends[backend].gate.reopen(),
                Step::Rearm => world.table.rearm(),
            }
            alike(&world, &backends, &like)?;
        }
    }
}

fn bind(
    world: &World,
    backends: &[Arc<Backend>],
    like: &mut Likeness,
    pins: &mut Vec<Held>,
    id: u64,
    backend: usize,
) -> Result<(), TestCaseError> {
    let Some(lease) = backends[backend].gate.enter() else {
        prop_assert!(like.detached[backend]);
        return Ok(());
    };
    let evictable = if like.ids.len() < MAX { Vec::new() } else { like.evictable(id) };
    let known = like.ids.get(&id).copied();
    let (pin, number) = match Table::bind(&world.table, hash(id), &backends[backend], 0, lease) {
        Bind::Known(pin, _) => {
            let number = known.ok_or_else(|| TestCaseError::fail("it was not bound"))?;
            let session = like.sessions.get_mut(&number).expect("known");
            (session.pins, session.once, session.last_seen) = (session.pins + 1, false, like.now);
            (pin, number)
        }
        Bind::Full(_) => {
            prop_assert!(known.is_none() && like.ids.len() >= MAX && evictable.is_empty());
            like.refused += 1;
            return Ok(());
        }
        Bind::New(pin) => {
            prop_assert!(known.is_none());
            if like.ids.len() >= MAX {
                let gone: Vec<_> = like.ids.keys().copied().filter(|&other| !world.is_open(other)).collect();
                prop_assert!(gone.len() == 1 && evictable.contains(&gone[0]), "{:?} of {:?}", gone, evictable);
                like.close(gone[0], Closing::Evicted);
            }
            let (now, number) = (like.now, like.given);
            let session = Session { backend, opened: now, last_seen: now, pins: 1, once: true, tunneled: false };
            like.sessions.insert(number, session);
            like.ids.insert(id, number);
            like.given += 1;
            (pin, number)
        }
    };
    pins.push(Held { pin, id, number, touches: true });
    Ok(())
}

fn alike(world: &World, backends: &[Arc<Backend>], like: &Likeness) -> Result<(), TestCaseError> {
    for id in 0..IDS {
        prop_assert_eq!(world.is_open(id), like.ids.contains_key(&id), "{}", id);
    }
    for (index, backend) in backends.iter().enumerate() {
        prop_assert_eq!(sessions(backend), like.count(|session| session.backend == index));
        prop_assert_eq!(unconfirmed(backend), like.count(|session| session.backend == index && session.once));
        let open: u64 = like.ids.values().map(|number| u64::from(like.sessions[number].backend == index)).sum();
        let hidden = |(number, session): &(&u64, &Session)| {
            session.backend == index && session.pins > 0 && !like.ids.values().any(|open| open == *number)
        };
        prop_assert_eq!(backend.gate.holders(), open + like.sessions.iter().filter(hidden).count() as u64);
    }
    prop_assert_eq!(world.table.sessions(), like.ids.len() as u64);
    prop_assert_eq!(world.table.unconfirmed(), like.count(|session| session.once));
    prop_assert_eq!(world.table.refused(), like.refused);
    let closings = [Closing::Idle, Closing::Age, Closing::Unconfirmed, Closing::LastTunnel, Closing::Evicted];
    for closing in closings {
        prop_assert_eq!(
            world.table.closed_by(closing),
            like.closed.get(&closing).copied().unwrap_or(0),
            "{:?}",
            closing
        );
    }
    Ok(())
}
