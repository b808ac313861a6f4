//! The signals of Unix.

use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::stop_request::StopRequest;

/// The handlers of the signals that end the program.
#[derive(Debug)]
pub(super) struct Handlers {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    hangup_ends: bool,
}

/// The SIGHUPs that reload files.
#[derive(Debug)]
pub(crate) struct Hangups(Signal);

impl Handlers {
    pub(super) fn catch(files_are_read: bool) -> io::Result<Self> {
        // Otherwise SIGHUP keeps its disposition: it is ignored, or ends the program without a
        // drain.
        let caught = files_are_read || hangup_is_ignored() == Some(false);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: caught.then(|| signal(SignalKind::hangup())).transpose()?,
            hangup_ends: !files_are_read,
        })
    }

    pub(super) async fn first(&mut self) -> StopRequest {
        let Self { terminate, interrupt, hangup, hangup_ends } = self;
        let hangup = async {
            match hangup {
                Some(hangup) if *hangup_ends => hangup.recv().await,
                _ => pending().await,
            }
        };
        let (name, kind) = tokio::select! {
            _ = terminate.recv() => ("SIGTERM", SignalKind::terminate()),
            _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
            _ = hangup => ("SIGHUP", SignalKind::hangup()),
        };
        StopRequest { name, status: 128 + kind.as_raw_value() }
    }

    /// The next signal but SIGHUP, which a closing terminal may send several times.
    pub(super) async fn second(&mut self) -> StopRequest {
        self.hangup_ends = false;
        self.first().await
    }
}

impl Hangups {
    pub(crate) fn listen() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// Whether the program was started with SIGHUP ignored, as `nohup` does. `None` where that is
/// unknown: only Linux has `/proc`
/// (<https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>).
fn hangup_is_ignored() -> Option<bool> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    // The lowest bit is signal 1, which is SIGHUP.
    Some(u64::from_str_radix(ignored.trim(), 16).ok()? & 1 == 1)
}
