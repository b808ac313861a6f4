//! SIGTERM and SIGINT, which mean the same: end in good order, and at once when asked again. And SIGHUP, at which files are read again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// The signals, caught from the moment this exists. A process without a handler for them ignores them where it is PID 1, as in a
/// container.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    // Whoever has files listens for it (`net::keep_fresh`). Caught here too, or it would end a program that has none: who sends it to all
    // alike must not have to know which of them has TLS.
    _hangup: Signal,
}

impl Signals {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// If the system can't install a handler.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Completes with the first signal. From then on a second one ends the process at once, with the status of a program that the
    /// signal has killed (128 + its number).
    pub async fn shutdown(mut self) {
        let (name, _) = self.next().await;
        info!(signal = name, "shutting down, a second signal ends at once");
        tokio::spawn(async move {
            let (_, number) = self.next().await;
            std::process::exit(128 + number);
        });
    }

    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
        }
    }
}
