//! The room's one lock: the standard library's, or in the unit tests one whose interleavings the test chooses (`model.rs`). A unit
//! test with a room in it must therefore run under shuttle; tests of the room as it really is are in `tests/`.

#[cfg(test)]
pub(super) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(test))]
pub(super) use std::sync::{Mutex, MutexGuard};

/// Locks, also when a thread has panicked while it held the lock: what the room does there leaves it whole at every step that
/// could panic (only an allocation can), and one failed call must not end the chat for everybody.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
