//! The room's lock: the standard library's, or in unit tests shuttle's, whose interleavings the
//! test controls (`model.rs`). A unit test with a room must therefore run under shuttle. `tests/`
//! tests the room with its real lock.

#[cfg(test)]
pub(super) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(test))]
pub(super) use std::sync::{Mutex, MutexGuard};
