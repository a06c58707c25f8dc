//! Atomics and locks of the parts whose races are model-checked.
//!
//! Decides: whether gate, slots and session table stand on the real primitives or on loom's (feature `loom`, used by `tests/model.rs` alone).
//! Floor 0: imports nothing, holds no state of its own.
//! In and out: the same names and signatures either way, so that the checked code is the shipped code.
//! Invariants: locks never poison; no lock of this module is held across an `.await`.

#[cfg(not(feature = "loom"))]
pub use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(feature = "loom"))]
pub use std::sync::atomic;

#[cfg(feature = "loom")]
pub use loom::sync::atomic;
#[cfg(feature = "loom")]
pub use loom::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};
#[cfg(feature = "loom")]
pub use model::{Mutex, RwLock};

#[cfg(feature = "loom")]
mod model {
    use super::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

    /// loom's lock behind parking_lot's signatures.
    #[derive(Debug)]
    pub struct RwLock<T>(loom::sync::RwLock<T>);

    impl<T> RwLock<T> {
        /// An open lock around `value`.
        pub fn new(value: T) -> Self {
            Self(loom::sync::RwLock::new(value))
        }
        /// Shared access.
        pub fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().expect("loom locks do not poison")
        }
        /// Sole access.
        pub fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().expect("loom locks do not poison")
        }
    }

    /// loom's lock behind parking_lot's signatures.
    #[derive(Debug)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        /// An open lock around `value`.
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }
        /// Sole access.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("loom locks do not poison")
        }
    }
}
