//! Client sockets to requests, and replies back.
//!
//! Decides: which connections are accepted, which protocol each speaks, how long it may take, and when it is closed.
//! Floor 3: imports `wire`, `config`, `clock`. Generic over the service that answers; knows no session and no backend.
//! In: bound listeners, a service, a stop order. Out: requests with the facts of their connection; replies written.
//! Invariants: every wait has a deadline that the thread's sweep watches; every byte of an HTTP/1.1 head and of its framing has passed the strict scanner before the codec's word counts; a stream that ends early is reset, alone.

pub mod client;
pub mod clients;
pub mod connection;
pub mod http2;
pub mod io;
pub mod listener;
pub mod serve;
pub mod stream;
pub mod sweep;
