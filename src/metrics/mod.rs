//! What monitoring sees of the gateway: which figures there are, how they are counted and how they are written.
//!
//! Decides: the names and words of all metrics, what a request adds to them, the form of the page.
//! Floor 1: imports `ids` and `sync`. Reads no clock, does no I/O, knows nobody's state: `daemon` puts the values in.
//! In: durations and codes from the serving threads, plain values at a scrape. Out: a page in Prometheus' text format 0.0.4.
//! Invariants: a serving thread writes to memory of its own alone, without a lock or an allocation; labels are bounded (services, generations, fixed words), never a path, a client or an id (P9, P10); a count never goes back.

pub mod families;
mod meter;
mod page;

pub use families::{Family, Kind};
pub use meter::{BOUNDS, Code, Durations, Meter, Meters, Reading};
pub use page::{CONTENT_TYPE, Page, Samples, Value};
