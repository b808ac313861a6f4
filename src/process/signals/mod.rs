//! Requests to end the program, or to reload its files.
//!
//! On Unix these are signals. The first SIGTERM or SIGINT starts an orderly shutdown, and the
//! second one ends the program at once. SIGHUP reloads files; if there are none, it shuts the
//! program down, as when a terminal is closed. On Windows the console sends the requests.

mod stop_request;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io;

use tracing::info;

use self::stop_request::StopRequest;
#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;

pub(crate) use self::system::Hangups;
use super::panics::{catch_panic, end};
use super::test_panic::test_panic;

/// The signals, caught from its creation on. As PID 1, as in a container, a process ignores signals
/// for which it has no handler.
#[derive(Debug)]
pub struct Signals(system::Handlers);

impl Signals {
    /// Catches the signals from now on. `files_are_read` says whether SIGHUP reloads files instead
    /// of ending the program.
    ///
    /// # Errors
    /// If the system can't install a handler.
    pub fn catch(files_are_read: bool) -> io::Result<Self> {
        system::Handlers::catch(files_are_read).map(Self)
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
                // Without this task only SIGKILL could end a long drain.
                None => end("the task that waits for a second signal has panicked"),
            }
        });
    }
}
