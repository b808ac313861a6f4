//! A check that the system grants the program its threads, before the program starts.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use thiserror::Error;

/// Threads besides those of the runtime: one for the log, one for reloading files, four for
/// lookups.
const OTHERS: usize = 6;

/// The system refuses threads.
#[derive(Debug, Error)]
#[error(
    "the system does not grant the {0} threads that are needed (see ulimit -u, or the process limit of the container)"
)]
pub(super) struct TooFewThreads(usize, #[source] io::Error);

/// Starts all threads of the program for a moment, because tokio panics if it gets none.
///
/// # Errors
/// If the system refuses one of them.
pub(super) fn try_threads(workers: usize) -> Result<(), TooFewThreads> {
    let needed = workers + OTHERS;
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let start = |_| {
        let gate = Arc::clone(&gate);
        Builder::new().spawn(move || drop(gate.lock()))
    };
    let started: io::Result<Vec<JoinHandle<()>>> = (0..needed).map(start).collect();
    drop(closed);
    for thread in started.map_err(|error| TooFewThreads(needed, error))? {
        // Can't fail: nothing in the thread panics.
        let _ = thread.join();
    }
    Ok(())
}
