//! The room's one lock: the standard library's, or in the unit tests one whose interleavings the test chooses (`model.rs`). A unit
//! test with a room in it must therefore run under shuttle; tests of the room as it really is are in `tests/`.

#[cfg(test)]
pub(super) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(test))]
pub(super) use std::sync::{Mutex, MutexGuard};

/// Locks. If something has panicked under the lock, the room may be half changed, and the program ends: a chat that ends is seen and
/// started again, one that has lost its order is not.
#[cfg(not(test))]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    crate::process::unpoisoned(mutex.lock())
}

#[cfg(test)]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic")
}
