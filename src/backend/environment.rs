//! The environment of a room: its clock, the handler for a poisoned lock, and new epochs.

use std::time::SystemTime;

use crate::process::{self, NoRandomness, random, test_panic};
use crate::room::{Environment, Epoch};

/// The environment of every room in this process.
pub(super) const ENVIRONMENT: Environment = Environment { clock, poisoned: process::end_poisoned };

/// An epoch that no other room has had.
///
/// # Errors
/// [`NoRandomness`].
pub(super) fn new_epoch() -> Result<Epoch, NoRandomness> {
    random().map(Epoch::from_random)
}

/// The room calls this under its lock, so a test can cause a panic under the lock here.
fn clock() -> SystemTime {
    test_panic("room");
    SystemTime::now()
}
