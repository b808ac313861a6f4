//! What a room gets from this process: a clock, an end after a poisoned lock, and names for epochs.

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

/// The room reads its clock under its lock, so here the tests ask for a panic under that lock.
fn clock() -> SystemTime {
    test_panic("room");
    SystemTime::now()
}
