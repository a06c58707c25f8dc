//! What a restart has to know of services, generations and backends.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{BackendName, GenerationNumber, ServiceName};

/// Every service that was ever configured; a name's numbers are kept for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetRecord {
    /// The services, in no particular order.
    pub services: Vec<ServiceRecord>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceRecord {
    /// Its name.
    pub name: ServiceName,
    /// The lowest number that no generation has had yet.
    pub next: GenerationNumber,
    /// The last list of the shorthand `backends = […]`; `None` when the file numbered the generations.
    pub listed: Option<Vec<IdentityRecord>>,
    /// How long a session may be idle, in milliseconds: a start without the bindings waits that long before it
    /// retires. Zero for a service without sessions.
    pub idle_timeout_ms: u64,
    /// The hook that a retirement still owes, should the file no longer name the service.
    pub on_retired: Option<HookRecord>,
    /// Its rules as the file gave them last, by which its open sessions are found should the file no longer name it;
    /// opaque here.
    #[serde(default)]
    pub rules: Option<Arc<serde_json::Value>>,
    /// Whether an operator has ordered maintenance or its end since the file said otherwise; absent when nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<bool>,
    /// What the file said of its workers when it last rolled by that; opaque here. Absent from services whose backends are
    /// somebody else's, and from records that are older than workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Arc<serde_json::Value>>,
    /// Whether another roll waits for the one that is under way.
    #[serde(default, skip_serializing_if = "is_false")]
    pub queued: bool,
    /// Generations that are not retired, ascending by number.
    pub generations: Vec<GenerationRecord>,
    /// The latest generations that are gone, ascending by number.
    pub past: Vec<PastRecord>,
}

/// A generation that is not retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationRecord {
    /// Its number.
    pub number: GenerationNumber,
    /// What it was doing.
    pub state: StateRecord,
    /// When it came into that state, in wall-clock milliseconds.
    pub since_ms: u64,
    /// When it was detached, in wall-clock milliseconds.
    pub detached_ms: Option<u64>,
    /// Whether `on_starting` has succeeded for it: the hook runs once per roll.
    pub started_hook: bool,
    /// Whether its ramp ended before it was active. Absent where not, and from records that are older than ramps.
    #[serde(default, skip_serializing_if = "is_false")]
    pub aborted: bool,
    /// What its workers are; opaque here. Absent where the gateway runs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Arc<serde_json::Value>>,
    /// How many processes each instance has had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lives: Vec<u32>,
    /// Its backends, the vanished ones that still drain among them.
    pub backends: Vec<BackendRecord>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The states that are written down. A program that is older than ramps refuses a record with `ready` in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateRecord {
    /// Its backends were not ready yet.
    Starting,
    /// It took its share of the new sessions beside the active one.
    Ready,
    /// It took the new sessions.
    Active,
    /// It served its open sessions.
    Detached,
    /// Its last session had closed, its hook had not succeeded yet.
    Retiring,
    /// It did not get ready in time.
    Failed,
}

/// One backend of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendRecord {
    /// Its name.
    pub name: BackendName,
    /// Where it listens.
    pub address: AddressRecord,
    /// What its paths begin with in place of the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Where clients find it by themselves, where that is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<AddressRecord>,
    /// Its share of new sessions.
    pub weight: u32,
    /// How many requests it may have under way, zero for as many as come; absent where the service's rule holds, and from
    /// records that are older than limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
    /// Whether it takes none: the file says so by `status`, or it vanished from the file.
    pub drain: bool,
    /// What the file says of a backend that takes none; `None` for one that takes them or has vanished. Absent from
    /// records that are older than statuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusRecord>,
    /// What the file says of it, where an operator has ordered something else since; what he ordered stands in `drain`
    /// and `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filed: Option<IntentRecord>,
    /// Whether it has been found ready.
    pub ready: bool,
    /// Its process, where the gateway runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerRecord>,
}

/// A backend's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerRecord {
    /// Which of its generation's.
    pub instance: u32,
    /// How many processes the instance has had with this one.
    pub life: u32,
    /// Its ports by family.
    pub ports: BTreeMap<String, u16>,
    /// Whether it was stopped with the gateway, in order.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stopped: bool,
}

/// Why a backend that the file lists takes no new sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusRecord {
    /// It serves its own.
    Drain,
    /// It serves nobody.
    Down,
}

/// What an operator wants of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntentRecord {
    /// It takes sessions.
    Up,
    /// It serves its own.
    Drain,
    /// It serves nobody.
    Down,
}

/// A backend's identity within its generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRecord {
    /// Its name.
    pub name: BackendName,
    /// Where it listens.
    pub address: AddressRecord,
    /// What its paths begin with in place of the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// Where a backend listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressRecord {
    /// Host name or address, and port.
    Tcp {
        /// The name or address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket's path.
    Unix(PathBuf),
}

impl fmt::Display for AddressRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What tells a backend from all others that its generation has ever had: by its name alone, one that drains could be
/// taken for another one that the file lists in its place.
pub fn known_as(name: &BackendName, address: &impl fmt::Display, prefix: Option<&str>) -> BackendName {
    let place = format!("{address}{}", prefix.unwrap_or_default());
    if name.as_str() == place { name.clone() } else { BackendName::new(&format!("{name} ({place})")) }
}

/// A generation that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastRecord {
    /// Its number.
    pub number: GenerationNumber,
    /// Whether its number is used up: it was active, or an operator gave it up. If not, the file may start it again.
    pub spent: bool,
    /// When it went, in wall-clock milliseconds.
    pub retired_ms: u64,
    /// The backends it had: its number with others is an error.
    pub backends: Vec<IdentityRecord>,
}

/// A command that is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookRecord {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The longest time of one run, in milliseconds.
    pub timeout_ms: u64,
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::frame;

    fn name() -> impl Strategy<Value = String> {
        prop::collection::vec(any::<char>(), 1..8).prop_map(String::from_iter)
    }

    fn address() -> impl Strategy<Value = AddressRecord> {
        prop_oneof![
            (name(), any::<u16>()).prop_map(|(host, port)| AddressRecord::Tcp { host, port }),
            name().prop_map(|path| AddressRecord::Unix(path.into())),
        ]
    }

    fn identities() -> impl Strategy<Value = Vec<IdentityRecord>> {
        let one = (name(), address(), prop::option::of(name())).prop_map(|(name, address, prefix)| IdentityRecord {
            name: BackendName::new(&name),
            address,
            prefix,
        });
        prop::collection::vec(one, 0..4)
    }

    fn generation() -> impl Strategy<Value = GenerationRecord> {
        let state = prop::sample::select(vec![
            StateRecord::Starting,
            StateRecord::Ready,
            StateRecord::Active,
            StateRecord::Detached,
            StateRecord::Retiring,
            StateRecord::Failed,
        ]);
        let status = prop::sample::select(vec![None, Some(StatusRecord::Drain), Some(StatusRecord::Down)]);
        let filed = prop::sample::select(vec![None, Some(IntentRecord::Up), Some(IntentRecord::Drain)]);
        let status = (status, filed);
        let prefix = prop::option::of(name());
        let public = prop::option::of(address());
        let counts = (any::<u32>(), any::<Option<u32>>());
        let ports = prop::collection::btree_map(name(), any::<u16>(), 0..3);
        let worker = prop::option::of((any::<[u32; 2]>(), ports, any::<bool>()));
        let worker = worker.prop_map(|worker| {
            worker.map(|([instance, life], ports, stopped)| WorkerRecord { instance, life, ports, stopped })
        });
        let backend = (name(), address(), (prefix, public), counts, any::<bool>(), status, any::<bool>(), worker)
            .prop_map(
                |(name, address, (prefix, public), (weight, max_requests), drain, (status, filed), ready, worker)| {
                    BackendRecord {
                        name: BackendName::new(&name),
                        address,
                        prefix,
                        public,
                        weight,
                        max_requests,
                        drain,
                        status,
                        filed,
                        ready,
                        worker,
                    }
                },
            );
        let backends = prop::collection::vec(backend, 0..4);
        let lives = prop::collection::vec(any::<u32>(), 0..3);
        (any::<u64>(), state, any::<u64>(), any::<Option<u64>>(), any::<[bool; 2]>(), (lives, backends)).prop_map(
            |(number, state, since_ms, detached_ms, [started_hook, aborted], (lives, backends))| GenerationRecord {
                number: GenerationNumber(number),
                state,
                since_ms,
                detached_ms,
                started_hook,
                aborted,
                worker: None,
                lives,
                backends,
            },
        )
    }

    fn service() -> impl Strategy<Value = ServiceRecord> {
        let hook = (prop::collection::vec(name(), 0..3), any::<u64>())
            .prop_map(|(command, timeout_ms)| HookRecord { command, timeout_ms });
        let past = (any::<u64>(), any::<bool>(), any::<u64>(), identities()).prop_map(
            |(number, spent, retired_ms, backends)| PastRecord {
                number: GenerationNumber(number),
                spent,
                retired_ms,
                backends,
            },
        );
        (
            name(),
            any::<u64>(),
            prop::option::of(identities()),
            (any::<u64>(), any::<Option<bool>>()),
            prop::option::of(hook),
            prop::collection::vec(generation(), 0..4),
            prop::collection::vec(past, 0..4),
        )
            .prop_map(|(name, next, listed, (idle_timeout_ms, maintenance), on_retired, generations, past)| {
                ServiceRecord {
                    name: ServiceName::new(&name),
                    next: GenerationNumber(next),
                    listed,
                    idle_timeout_ms,
                    on_retired,
                    rules: None,
                    maintenance,
                    worker: None,
                    queued: false,
                    generations,
                    past,
                }
            })
    }

    /// Any record whatever.
    pub(crate) fn fleet() -> impl Strategy<Value = FleetRecord> {
        prop::collection::vec(service(), 0..4).prop_map(|services| FleetRecord { services })
    }

    #[test]
    fn a_record_from_before_prefixes_reads_and_writes_as_ever() {
        let old = r#"{"name":"a","address":{"tcp":{"host":"h","port":1}},"weight":1,"drain":false,"ready":true}"#;
        let record: BackendRecord = serde_json::from_str(old).unwrap();
        assert_eq!(record.prefix, None);
        assert_eq!(serde_json::to_string(&record).unwrap(), old);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn reads_back_what_was_written(record in fleet()) {
            let bytes = frame::seal(&record).unwrap();
            prop_assert_eq!(frame::open::<FleetRecord>(&bytes).unwrap(), record);
        }

        #[test]
        fn every_truncation_is_refused(record in fleet(), cut in any::<prop::sample::Index>()) {
            let bytes = frame::seal(&record).unwrap();
            prop_assert!(frame::open::<FleetRecord>(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn every_flipped_bit_is_refused(record in fleet(), place in any::<prop::sample::Index>(), bit in 0..8u32) {
            let mut bytes = frame::seal(&record).unwrap();
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
            prop_assert!(frame::open::<FleetRecord>(&bytes).is_err());
        }
    }
}
