//! A request's whole path: from the parsed head to the last byte of the answer.
//!
//! Decides: which backend a request reaches, what is told to both sides, which session opens, is renamed or closes.
//! Floor 4: imports `edge`, `upstream`, `fleet`, `session` and below; never `control`. Runs on the serving threads, one [`thread::Thread`] each.
//! In: requests with their connection. Out: responses, bindings, lines of the access log.
//! Invariants: the view is loaded once a request (again only when the gate refuses it as out of date); pin or lease is held to the last byte; nothing non-idempotent is sent twice after a byte of it left.

pub mod assign;
pub mod body;
pub mod dispatch;
pub mod exchange;
pub mod fallback;
pub mod forward;
pub mod grpc;
mod interim;
pub mod issue;
pub mod key;
pub mod lesson;
pub mod links;
pub mod lost;
pub mod maintenance;
pub mod outbound;
pub mod pipeline;
pub mod ramp;
pub mod recorded;
pub mod reply;
pub mod respond;
pub mod retry;
pub mod send;
pub mod switch;
pub mod tcp;
pub mod thread;
pub mod tunnel;
pub mod waiting;
