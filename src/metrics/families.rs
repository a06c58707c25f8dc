//! All metrics of the page: their names, and what they mean.

/// A metric with all its series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Family {
    /// Its name. A histogram's samples add `_bucket`, `_sum` or `_count` to it.
    pub name: &'static str,
    /// What it means, in one line.
    pub help: &'static str,
    /// What may be done with it.
    pub kind: Kind,
}

/// What may be done with a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It only grows, and begins anew with the process: its rate counts.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Durations by length.
    Histogram,
}

impl Kind {
    /// The word of the TYPE line.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Family = Family { name: $name, help: $help, kind: Kind::$kind };
        )*

        /// All of them, in the order of the page.
        pub const ALL: &[Family] = &[$($constant),*];
    };
}

families! {
    REQUESTS: Counter "tidegate_requests_total"
        "Requests by the class of their answer's status; none: the client left before there was an answer. Counted at the end of the answer, a tunnel's when it opens. No service: those that host and path lead to none, that are refused before that is looked at, and the gateway's own health_path.";
    REQUEST_DURATION: Histogram "tidegate_request_duration_seconds"
        "From the arrival of a request's head to the end of its answer or to the client's leaving, waits for a backend included. Without tunnels and heads that could not be read.";
    UPSTREAM_DURATION: Histogram "tidegate_upstream_duration_seconds"
        "From a request's turn to a backend (its arrival, the end of a wait, or the next try) to the head of the answer: connecting, sending the request's body and the backend's work. One for each backend that answered.";
    REQUESTS_IN_FLIGHT: Gauge "tidegate_requests_in_flight"
        "Requests under way at backends, tunnels not among them.";
    REQUESTS_WAITING: Gauge "tidegate_requests_waiting"
        "Requests that wait for a backend that is ready and has room.";
    REQUESTS_WAITED_IN_VAIN: Counter "tidegate_requests_waited_in_vain_total"
        "Requests turned away because as many waited as may (max_waiting), or because no backend had room in time (wait_for_backend).";
    REQUESTS_RETRIED: Counter "tidegate_requests_retried_total"
        "Times that a request went on to another backend, after one refused it or broke it off (retry_new).";
    REQUESTS_BORROWED: Counter "tidegate_requests_borrowed_total"
        "Files that another generation than the request's own had (asset_fallback).";
    REQUESTS_FORCED: Counter "tidegate_requests_forced_total"
        "Requests that a tester's token has led to its generation.";
    TOKENS_REFUSED: Counter "tidegate_tokens_refused_total"
        "Requests whose tester's token counted as none: forged, expired, or of a generation that takes no sessions.";
    TUNNELS: Gauge "tidegate_tunnels"
        "Open tunnels: WebSockets, other upgrades and connections of plain TCP.";
    SESSIONS: Gauge "tidegate_sessions"
        "Open sessions of a generation, with what the generation is doing.";
    SESSIONS_UNCONFIRMED: Gauge "tidegate_sessions_unconfirmed"
        "Those of the open sessions that were seen once only.";
    TABLE_SESSIONS: Gauge "tidegate_table_sessions"
        "Open sessions in the table, over all services; connections of plain TCP are in none.";
    MAX_SESSIONS: Gauge "tidegate_max_sessions"
        "Sessions that the table may hold (max_sessions).";
    SESSIONS_OPENED: Counter "tidegate_sessions_opened_total"
        "Sessions that were opened, without those that the start found open.";
    SESSIONS_CLOSED: Counter "tidegate_sessions_closed_total"
        "Sessions that closed, by reason.";
    SESSIONS_LOST: Counter "tidegate_sessions_lost_total"
        "Sessions that ended against their users' will. backend: it could not be reached for lost_after, or was set down; worker: its process ended; start: the gateway found no generation or backend for what it remembered.";
    SESSIONS_REFUSED: Counter "tidegate_sessions_refused_total"
        "Sessions that were served without a binding because the table was full.";
    GENERATION_ACTIVE: Gauge "tidegate_generation_active"
        "The number of the generation that takes new sessions; absent while a service has none.";
    GENERATION_STATE: Gauge "tidegate_generation_state"
        "1 for what a generation is doing. Retired ones are gone.";
    DRAIN: Gauge "tidegate_drain_seconds"
        "Seconds since a generation was detached that still has sessions or work.";
    DRAIN_DEADLINE: Gauge "tidegate_drain_deadline_seconds"
        "Seconds until what is left of a generation is ended by force; absent where nothing is.";
    BACKENDS: Gauge "tidegate_backends"
        "Backends of a generation, each under the first that is true: down, drain (the operator's words), unready, unhealthy, unreachable, ejected; taking for all others, which take new sessions if their generation does.";
    WORKERS: Gauge "tidegate_workers"
        "Processes that the gateway runs for a generation, by what they are doing.";
    WORKER_RESTARTS: Counter "tidegate_worker_restarts_total"
        "Processes that were started in place of ones that had ended, over a generation's life.";
    MAINTENANCE: Gauge "tidegate_maintenance"
        "Whether a service turns new sessions away; absent for one that the file no longer has.";
    CONNECTIONS: Gauge "tidegate_connections"
        "Open connections of clients.";
    CONNECTIONS_REFUSED: Counter "tidegate_connections_refused_total"
        "Connections that were refused because their client had as many as it may (max_connections_per_client).";
    DURABLE: Gauge "tidegate_durable"
        "Whether what is so now would be known after a crash of the process.";
    UNDURABLE_ANSWERS: Counter "tidegate_undurable_answers_total"
        "Answers that went out before their session was durable, because the disk did not answer in time (state_wait).";
    UNSURE: Gauge "tidegate_unsure"
        "Whether sessions may be open that this process does not know: it retires nothing meanwhile.";
    LOG_BYTES: Gauge "tidegate_log_bytes"
        "Size of the logs of bindings.";
    SNAPSHOT_BYTES: Gauge "tidegate_snapshot_bytes"
        "Size of the snapshot of bindings.";
    ACCESS_LOG_LINES: Counter "tidegate_access_log_lines_total"
        "Lines of the access log: written, dropped because the disk did not keep up, or failed because it took none.";
    CONFIG_LOADED: Gauge "tidegate_config_loaded_timestamp_seconds"
        "When the configuration in force was loaded.";
    CONFIG_RELOAD_FAILED: Gauge "tidegate_config_reload_failed"
        "Whether the last reload was rejected, so that the file is not what is in force.";
    BUILD_INFO: Gauge "tidegate_build_info"
        "1, with the program's version.";
    PROCESS_START: Gauge "process_start_time_seconds"
        "When the process started.";
    PROCESS_CPU: Counter "process_cpu_seconds_total"
        "Time that the process spent on processors, for itself and in the kernel.";
    PROCESS_MEMORY: Gauge "process_resident_memory_bytes"
        "Memory of the process.";
    PROCESS_FDS: Gauge "process_open_fds"
        "Open descriptors; a client's connection and one to a backend take one each.";
    PROCESS_MAX_FDS: Gauge "process_max_fds"
        "Descriptors that the process may have open.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let names: HashSet<&str> = ALL.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Family { name, help, kind } in ALL {
            assert!(name.starts_with("tidegate_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            // Nothing that would have to be escaped.
            assert!(!help.contains(['\\', '\n']) && help.ends_with('.'), "{name}: {help}");
        }
    }
}
