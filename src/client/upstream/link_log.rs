//! Log lines about streams that end. A state that lasts is not logged with every retry.

use std::time::{Duration, Instant};

use tonic::Code;
use tracing::warn;

use super::link_end::LinkEnd;
use crate::net::ServerAddr;

/// A failure that repeats at the same server is logged once in this time.
const REPEAT_AFTER: Duration = Duration::from_secs(10);

/// The last failure of each server, and when it was logged.
#[derive(Debug)]
pub(super) struct LinkLog(Vec<Option<(String, Instant)>>);

impl LinkLog {
    pub(super) fn new(servers: usize) -> Self {
        Self(vec![None; servers])
    }

    /// Logs the end of a stream from `server`, the one with this `index`. `pause` is the time until
    /// the next attempt.
    pub(super) fn stream_ended(
        &mut self,
        (index, server): (usize, &ServerAddr),
        end: &LinkEnd,
        was_open: bool,
        pause: Duration,
    ) {
        if was_open {
            self.0.fill(None);
        } else if !self.is_due(index, end.to_string()) {
            return;
        }
        match end {
            // The error names the server.
            LinkEnd::NoConnection(error) => warn!(%error, ?pause, "no connection, retrying"),
            LinkEnd::Status(status) if status.code() == Code::Unauthenticated => {
                warn!(%server, error = %status.message(), ?pause, "authentication failed, retrying");
            }
            end => warn!(%server, error = %end, ?pause, "stream ended, reconnecting"),
        }
    }

    /// Whether a failure must be logged: it differs from the server's last one, or that was logged
    /// long ago.
    fn is_due(&mut self, server: usize, failure: String) -> bool {
        let Some(last) = self.0.get_mut(server) else { return true };
        if last.as_ref().is_some_and(|(text, when)| *text == failure && when.elapsed() < REPEAT_AFTER) {
            return false;
        }
        *last = Some((failure, Instant::now()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_lasts_is_logged_once_for_each_server() {
        let mut log = LinkLog::new(2);
        let mut is_due = |server, failure: &str| log.is_due(server, failure.to_owned());
        assert!(is_due(0, "refused") && is_due(1, "refused"));
        assert!(!is_due(0, "refused") && !is_due(1, "refused"));
        assert!(is_due(0, "timed out") && is_due(0, "refused"));
    }
}
