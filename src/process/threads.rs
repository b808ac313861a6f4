//! Whether the system gives this program the threads that it needs: all of them are started with it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use thiserror::Error;

/// Threads beside those that run the program: for the log, for files that are read again, and for names that
/// are looked up.
const OTHERS: usize = 6;

/// There are too few threads.
#[derive(Debug, Error)]
#[error("the system does not give the {0} threads that are needed (ulimit -u, or the container's limit of processes)")]
pub(super) struct TooFewThreads(usize, #[source] io::Error);

/// Has so many threads, and those beside them, for a moment: tokio panics where it gets none.
///
/// # Errors
/// If the system does not give them.
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
        // Nothing in it panics.
        let _ = thread.join();
    }
    Ok(())
}
