//! Names and numbers that every room speaks of.
//!
//! Decides: nothing; newtypes keep a service's name from being taken for a backend's.
//! Floor 0: imports nothing, does no I/O, reads no clock.
//! In and out: plain values, cheap to copy or to clone.
//! Invariants: a name is never empty; a [`Slot`] is an index, its meaning lives in `fleet::slots`.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes the text as it is; the configuration check is what refuses an empty one.
            pub fn new(text: &str) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name! {
    /// A service's name: the `app` of `app@7`.
    ServiceName
}
name! {
    /// A backend's name within its generation: its address unless the file names it otherwise.
    BackendName
}

/// A generation's number within its service: it only grows and is never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GenerationNumber(pub u64);

impl fmt::Display for GenerationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A generation of a service, written `app@7`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct GenerationId {
    /// The service.
    pub service: ServiceName,
    /// The number within it.
    pub number: GenerationNumber,
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.service, self.number)
    }
}

/// The interned number of one backend of one generation of one service; not reused while anything is bound to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot as an index into a list by slot.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A keyed 128-bit hash of a session id and its id space. The id itself is kept nowhere (promise P9).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionHash(pub [u64; 2]);

impl fmt::Debug for SessionHash {
    /// Hides the value: a hash is no credential, but it would link log lines to a session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionHash(..)")
    }
}
