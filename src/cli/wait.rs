//! `tidegate wait`: until a generation is where it is wanted, with a progress bar.
//!
//! It asks again and again rather than hold a stream, so that a restart of the gateway in between does no harm.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use jiff::Timestamp;

use crate::admin::api::{Generation, GenerationSessions, History, Service, SessionCounts};
use crate::cli::arguments::{Named, Until, WaitArguments};
use crate::cli::client::Call;
use crate::cli::gateway::Gateway;
use crate::cli::table::{count, span};
use crate::cli::{Exit, Failure, print};
use crate::clock;
use crate::fleet::lifecycle::Lifecycle;
use crate::ids::{GenerationId, ServiceName};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Between two counts of sessions by age.
const COUNT: u64 = 5_000_000_000;
/// A gateway that does not answer may be restarting; after this time (nanoseconds) it is taken for gone.
const AWAY: u64 = 60_000_000_000;
/// Between two lines where there is no terminal to draw on.
const LINE: u64 = 30_000_000_000;
/// Columns of the bar.
const BAR: u64 = 16;

/// What is waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Goal {
    named: Named,
    until: Until,
}

/// How far it is.
#[derive(Clone, PartialEq, Debug)]
enum Progress {
    Reached(String),
    /// It cannot come any more by itself.
    Missed(String),
    /// These are in the way.
    Waiting(Vec<Generation>),
}

pub(super) fn wait(arguments: WaitArguments) -> Result<(), Failure> {
    let gateway = Gateway::of(arguments.gateway)?;
    watch(&gateway, &Goal { named: arguments.named, until: arguments.until }, arguments.timeout)
}

/// Waits until a generation takes the new sessions.
pub(super) fn until_active(gateway: &Gateway, id: &GenerationId) -> Result<(), Failure> {
    let named = Named { service: id.service.clone(), generation: Some(id.number) };
    watch(gateway, &Goal { named, until: Until::Active }, None)
}

/// Waits until what is starting takes the new sessions.
pub(super) fn for_the_next(gateway: &Gateway, service: &ServiceName) -> Result<(), Failure> {
    let named = Named { service: service.clone(), generation: None };
    watch(gateway, &Goal { named, until: Until::Active }, None)
}

fn watch(gateway: &Gateway, goal: &Goal, timeout: Option<Duration>) -> Result<(), Failure> {
    let began = clock::monotonic_nanos();
    let path = format!("/v1/services/{}", goal.named.service);
    let mut screen = Screen::new();
    let mut away = None;
    let mut peaks = Peaks::default();
    loop {
        let now = clock::monotonic_nanos();
        match gateway.read::<Service>(&Call::get(&path)) {
            Ok(service) => {
                away = None;
                match goal.progress(&service) {
                    Progress::Reached(text) => {
                        screen.clear();
                        return tell(gateway, goal, &text);
                    }
                    Progress::Missed(why) => {
                        screen.clear();
                        return Err(Failure::new(Exit::Failed, why));
                    }
                    Progress::Waiting(generations) => {
                        peaks.look(gateway, &path, &generations, now);
                        screen.draw(&peaks.line(goal, &generations), now);
                    }
                }
            }
            Err(failure) if failure.exit == Exit::Unreachable => {
                if now.saturating_sub(*away.get_or_insert(now)) > AWAY {
                    screen.clear();
                    return Err(failure);
                }
                screen.draw("the gateway does not answer; it may be restarting", now);
            }
            Err(failure) => {
                screen.clear();
                return Err(failure);
            }
        }
        let waited = Duration::from_nanos(clock::monotonic_nanos().saturating_sub(began));
        if let Some(timeout) = timeout.filter(|timeout| waited >= *timeout) {
            screen.clear();
            let message = format!("{goal} did not come within {}", span(timeout.as_secs()));
            return Err(Failure::new(Exit::TimedOut, message));
        }
        std::thread::sleep(timeout.map_or(LOOK, |timeout| LOOK.min(timeout.saturating_sub(waited))));
    }
}

fn tell(gateway: &Gateway, goal: &Goal, text: &str) -> Result<(), Failure> {
    if !gateway.wants_json() {
        return print(&format!("{text}\n"));
    }
    let Named { service, generation } = &goal.named;
    let value = serde_json::json!({ "service": service, "generation": generation, "reached": goal.until.word() });
    print(&format!("{value:#}\n"))
}

impl Until {
    fn word(self) -> &'static str {
        match self {
            Until::Active => "active",
            Until::Retired => "retired",
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Named { service, generation } = &self.named;
        match (generation, self.until) {
            (Some(number), until) => write!(f, "{service}@{number} {}", until.word()),
            (None, Until::Active) => write!(f, "{service} with an active generation and none that starts"),
            (None, Until::Retired) => write!(f, "{service} with all older generations retired"),
        }
    }
}

impl Goal {
    fn progress(&self, service: &Service) -> Progress {
        match self.named.generation {
            Some(number) => self.of_generation(service, number.0),
            None => self.of_service(service),
        }
    }

    fn of_generation(&self, service: &Service, number: u64) -> Progress {
        let id = format!("{}@{number}", service.name);
        let known = service.generations.iter().find(|generation| generation.number == number);
        let Some(generation) = known else {
            let is_past = service.generations.iter().any(|other| other.number > number);
            return match (is_past, self.until) {
                // Only the latest of those that are retired are listed.
                (true, Until::Retired) => Progress::Reached(format!("{id} is retired")),
                (true, Until::Active) => Progress::Missed(format!("{id} is retired")),
                (false, _) => Progress::Missed(format!("there is no generation {id}")),
            };
        };
        let why = generation.trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        match (self.until, generation.state) {
            (Until::Active, Lifecycle::Active) => Progress::Reached(format!("{id} takes the new sessions")),
            (Until::Retired, Lifecycle::Retired) => Progress::Reached(format!("{id} is retired")),
            (_, Lifecycle::Failed) => Progress::Missed(format!("{id} failed to start{why}")),
            (Until::Active, state @ (Lifecycle::Detached | Lifecycle::Retiring | Lifecycle::Retired)) => {
                Progress::Missed(format!("{id} is {state}: another generation takes the new sessions"))
            }
            (Until::Active, Lifecycle::Starting | Lifecycle::Ready)
            | (
                Until::Retired,
                Lifecycle::Starting | Lifecycle::Ready | Lifecycle::Active | Lifecycle::Detached | Lifecycle::Retiring,
            ) => Progress::Waiting(vec![generation.clone()]),
        }
    }

    fn of_service(&self, service: &Service) -> Progress {
        let in_state = |states: &[Lifecycle]| -> Vec<Generation> {
            service.generations.iter().filter(|generation| states.contains(&generation.state)).cloned().collect()
        };
        let waits = match self.until {
            Until::Active => in_state(&[Lifecycle::Starting]),
            Until::Retired => in_state(&[Lifecycle::Detached, Lifecycle::Retiring]),
        };
        if !waits.is_empty() {
            return Progress::Waiting(waits);
        }
        let name = &service.name;
        if self.until == Until::Retired {
            return Progress::Reached(format!("all older generations of {name} are retired"));
        }
        if let Some(failed) = in_state(&[Lifecycle::Failed]).first() {
            let why = failed.trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            return Progress::Missed(format!("{name}@{} failed to start{why}", failed.number));
        }
        match service.active {
            Some(number) => Progress::Reached(format!("{name}@{number} takes the new sessions")),
            None => Progress::Missed(format!("{name} has no active generation, and none that starts")),
        }
    }
}

/// What is shown beside the counts of this moment.
#[derive(Default)]
struct Peaks {
    /// As many sessions as there were at one time, as far as anybody knows.
    peak: u64,
    counted: Option<u64>,
    idle: Option<u64>,
    empties_at: Option<Timestamp>,
    at: Option<Timestamp>,
}

impl Peaks {
    fn look(&mut self, gateway: &Gateway, path: &str, generations: &[Generation], now: u64) {
        let is_first = self.counted.is_none();
        let sessions = generations.iter().map(|generation| generation.sessions).sum();
        self.peak = self.peak.max(sessions);
        if self.counted.is_some_and(|counted| now.saturating_sub(counted) < COUNT) {
            return;
        }
        self.counted = Some(now);
        let is_one = |number: u64| generations.iter().any(|generation| generation.number == number);
        if is_first && let Ok(history) = gateway.read::<History>(&Call::get(format!("{path}/history"))) {
            let lines = history.generations.iter().filter(|line| is_one(line.number));
            let peak = lines.map(|line| line.sessions.iter().max().copied().unwrap_or(0)).sum();
            self.peak = self.peak.max(peak);
        }
        if let Ok(counts) = gateway.read::<SessionCounts>(&Call::get(format!("{path}/sessions"))) {
            let own = || counts.generations.iter().filter(|one: &&GenerationSessions| is_one(one.number));
            self.idle = own().filter_map(|one| one.longest_idle_seconds).max();
            self.empties_at = own().filter_map(|one| one.empties_at).max();
            self.at = Some(counts.at);
        }
    }

    /// One line for what is in the way.
    fn line(&self, goal: &Goal, generations: &[Generation]) -> String {
        let sum = |of: fn(&Generation) -> u64| generations.iter().map(of).sum::<u64>();
        let (sessions, requests, tunnels) = (sum(|g| g.sessions), sum(|g| g.requests), sum(|g| g.tunnels));
        let name = &goal.named.service;
        let who = match generations {
            [one] => format!("{name}@{} {}", one.number, one.state),
            several => format!("{name}: {} generations", several.len()),
        };
        if generations.iter().all(|one| one.state == Lifecycle::Starting) {
            let why = generations.iter().find_map(|one| one.trouble.as_deref());
            return format!("{who}{}", why.map(|why| format!(": {why}")).unwrap_or_default());
        }
        if generations.iter().all(|one| one.state == Lifecycle::Active) {
            let sessions = count(sessions, "session");
            return format!("{who}, with {sessions}: it goes once another generation takes the new ones");
        }
        let gone = self.peak.saturating_sub(sessions);
        let full = usize::try_from((gone * BAR).checked_div(self.peak).unwrap_or(BAR)).unwrap_or(0);
        let rest = usize::try_from(BAR).unwrap_or(0).saturating_sub(full);
        let mut line = format!("{who} [{}{}] {sessions} of {} left", "#".repeat(full), "-".repeat(rest), self.peak);
        // Writing to a text does not fail.
        if requests > 0 {
            _ = write!(line, ", {}", count(requests, "request"));
        }
        if tunnels > 0 {
            _ = write!(line, ", {}", count(tunnels, "tunnel"));
        }
        if sessions > 0 {
            if let Some(idle) = self.idle {
                _ = write!(line, "; idle {} at most", span(idle));
            }
            if let (Some(end), Some(at)) = (self.empties_at, self.at) {
                let left = u64::try_from(end.as_second() - at.as_second()).unwrap_or(0);
                _ = write!(line, "; empty in {} if nobody comes back", span(left));
            }
        }
        if let Some(deadline) = generations.iter().filter_map(|one| one.deadline).min() {
            let left = u64::try_from(deadline.as_second() - api_now(self.at).as_second()).unwrap_or(0);
            _ = write!(line, "; ended by force in {}", span(left));
        }
        line
    }
}

/// The gateway's clock, as far as it was seen.
fn api_now(at: Option<Timestamp>) -> Timestamp {
    at.unwrap_or_else(|| crate::admin::api::moment(clock::wall()))
}

/// Where progress is drawn: a line that changes, or a line now and then.
struct Screen {
    is_terminal: bool,
    drawn: Option<(u64, String)>,
}

impl Screen {
    fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), drawn: None }
    }

    fn draw(&mut self, line: &str, now: u64) {
        if self.is_terminal {
            let width = rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col));
            let line: String = line.chars().take(width.max(20) - 1).collect();
            // A terminal that is gone is no reason to stop waiting.
            _ = write!(io::stderr(), "\r\x1b[K{line}");
        } else {
            let is_due = |(at, text): &(u64, String)| *text != line && now.saturating_sub(*at) >= LINE;
            if !self.drawn.as_ref().is_none_or(is_due) {
                return;
            }
            _ = writeln!(io::stderr(), "{line}");
        }
        self.drawn = Some((now, line.to_owned()));
    }

    fn clear(&mut self) {
        if self.is_terminal && self.drawn.is_some() {
            _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::sample;

    fn goal(named: &str, until: Until) -> Goal {
        Goal { named: named.parse().unwrap(), until }
    }

    fn service(states: &[(u64, Lifecycle)]) -> Service {
        let mut service = sample::status().services.remove(0);
        service.generations = states.iter().map(|(number, state)| sample::generation(*number, *state, 3)).collect();
        let active = states.iter().find(|(_, state)| *state == Lifecycle::Active);
        service.active = active.map(|(number, _)| *number);
        service
    }

    #[test]
    fn each_state_leads_to_the_right_end() {
        use Lifecycle::{Active, Detached, Failed, Ready, Retired, Retiring, Starting};
        let word = |progress| match progress {
            Progress::Reached(_) => "reached",
            Progress::Missed(_) => "missed",
            Progress::Waiting(_) => "waiting",
        };
        for (state, active, retired) in [
            (Starting, "waiting", "waiting"),
            (Ready, "waiting", "waiting"),
            (Active, "reached", "waiting"),
            (Detached, "missed", "waiting"),
            (Retiring, "missed", "waiting"),
            (Retired, "missed", "reached"),
            (Failed, "missed", "missed"),
        ] {
            let service = service(&[(7, state)]);
            assert_eq!(word(goal("app@7", Until::Active).progress(&service)), active, "{state}");
            assert_eq!(word(goal("app@7", Until::Retired).progress(&service)), retired, "{state}");
        }
        let old = service(&[(90, Active)]);
        assert_eq!(word(goal("app@7", Until::Retired).progress(&old)), "reached", "it is no longer listed");
        assert_eq!(word(goal("app@7", Until::Active).progress(&old)), "missed");
        assert_eq!(word(goal("app@91", Until::Retired).progress(&old)), "missed", "there is none yet");
    }

    #[test]
    fn a_service_is_waited_for_as_a_whole() {
        use Lifecycle::{Active, Detached, Failed, Retired, Starting};
        let of = |until, states: &[(u64, Lifecycle)]| goal("app", until).progress(&service(states));
        assert_eq!(of(Until::Active, &[(8, Active)]), Progress::Reached("app@8 takes the new sessions".to_owned()));
        assert!(matches!(of(Until::Active, &[(9, Starting), (8, Active)]), Progress::Waiting(list) if list.len() == 1));
        let failed = of(Until::Active, &[(9, Failed), (8, Active)]);
        assert!(matches!(failed, Progress::Missed(why) if why.starts_with("app@9 failed to start")));
        assert!(matches!(of(Until::Active, &[]), Progress::Missed(_)));
        let waits = of(Until::Retired, &[(9, Active), (8, Detached), (7, Detached), (6, Retired)]);
        assert!(matches!(waits, Progress::Waiting(list) if list.len() == 2));
        assert!(matches!(of(Until::Retired, &[(9, Active), (6, Retired)]), Progress::Reached(_)));
    }

    #[test]
    fn the_line_says_what_is_left() {
        let goal = goal("app@7", Until::Retired);
        let mut generation = sample::generation(7, Lifecycle::Detached, 30);
        (generation.requests, generation.tunnels, generation.deadline) = (1, 2, Some(sample::at(7_200)));
        let peaks = Peaks {
            peak: 120,
            counted: None,
            idle: Some(720),
            empties_at: Some(sample::at(1_680)),
            at: Some(sample::at(0)),
        };
        assert_eq!(
            peaks.line(&goal, &[generation]),
            "app@7 detached [############----] 30 of 120 left, 1 request, 2 tunnels; idle 12m 0s at most; \
             empty in 28m 0s if nobody comes back; ended by force in 2h 0m"
        );
        let active = sample::generation(7, Lifecycle::Active, 30);
        let line = peaks.line(&goal, &[active]);
        assert_eq!(line, "app@7 active, with 30 sessions: it goes once another generation takes the new ones");
        let empty = sample::generation(7, Lifecycle::Retiring, 0);
        assert_eq!(Peaks::default().line(&goal, &[empty]), "app@7 retiring [################] 0 of 0 left");
    }
}
