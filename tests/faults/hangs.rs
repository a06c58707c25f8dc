//! hangs
