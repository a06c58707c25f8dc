//! Tidegate: a session-affine reverse proxy whose deploys log nobody out.
//!
//! The map of the house. A room imports only from floors below its own; `tests/tidy.rs` holds it to that.
//!
//! | floor | room | holds |
//! | --- | --- | --- |
//! | roof | [`daemon`] | assembly, start and stop order |
//! | 5 | [`admin`] | REST API, auth |
//! | 5 | [`cli`] | arguments, one file per verb, printing; a client of the admin API; looks at state directories |
//! | 5 | [`demo`] | the demo application of README and tests |
//! | 4 | [`proxy`] | a request's whole path: pipeline, assign, forward, respond, tunnel, errors to replies |
//! | 4 | [`control`] | the only writer of the roster: loop, handle, effects, reload, hooks |
//! | 3 | [`edge`] | client sockets to requests and replies back: listeners, deadlines, limits |
//! | 3 | [`upstream`] | backend connections: connect, pool |
//! | 3 | [`health`] | probes: is a backend ready, is it well; whose check is due |
//! | 3 | [`workers`] | processes that the gateway runs: start, watch, stop, take back; ports, output |
//! | 2 | [`fleet`] | services, generations, backends, gate, balance, events, roster, view |
//! | 2 | [`session`] | identify, learn, table, binding, expiry |
//! | 2 | [`store`] | records that outlive the process: state directory, log of bindings, events, memory |
//! | 1 | [`wire`] | what both sides of a proxy share: the borrowed head, framing, forwarded fields |
//! | 1 | [`record`] | versioned facts made of ids and numbers only |
//! | 1 | [`config`] | the TOML file: raw, check, model, diff |
//! | 1 | [`log`] | the gateway's own log and the access log |
//! | 1 | [`metrics`] | names, counting, the page in Prometheus' text format |
//! | 0 | [`ids`] [`clock`] [`sync`] | newtypes; the only reader of time; checked primitives |

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod edge;
pub mod fleet;
pub mod health;
pub mod ids;
pub mod log;
pub mod metrics;
pub mod proxy;
pub mod record;
pub mod session;
pub mod store;
pub mod sync;
pub mod upstream;
pub mod wire;
pub mod workers;
