//! What asks a program to end, or to read its files again.
//!
//! On Unix these are signals. SIGTERM and SIGINT mean the same: end in good order, and at once when asked again. At SIGHUP files are read
//! again; where there are none it ends the program as SIGTERM does, as when a terminal is closed. On Windows the console says it.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io;

use tracing::info;

#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;

pub(crate) use self::system::Hangups;
use super::panics::{catch_panic, end};
use super::test_panic::test_panic;

/// The signals, caught from the moment this exists. A process without a handler for them ignores them where it is PID 1, as in a
/// container.
#[derive(Debug)]
pub struct Signals(system::Signals);

/// One of them.
struct StopRequest {
    name: &'static str,
    /// The exit status of a program that it has ended at once.
    status: i32,
}

impl Signals {
    /// Catches the signals from now on. `files_are_read` says whether the program has files that it
    /// reads again at SIGHUP; it does not end then.
    ///
    /// # Errors
    /// If the system can't install a handler.
    pub fn catch(files_are_read: bool) -> io::Result<Self> {
        system::Signals::catch(files_are_read).map(Self)
    }

    /// Completes with the first signal. From then on a second one ends the process at once.
    pub async fn shutdown(mut self) {
        let StopRequest { name, .. } = self.0.first().await;
        info!(signal = name, "shutting down, a second signal ends at once");
        tokio::spawn(async move {
            let second = async {
                test_panic("signals");
                self.0.second().await
            };
            match catch_panic(second).await {
                Some(StopRequest { status, .. }) => std::process::exit(status),
                // Without this only SIGKILL could end a long drain.
                None => end("the task that waits for a second signal has panicked"),
            }
        });
    }
}
