//! How long to wait before the next try.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::net::ConnectError;

/// The first pauses are between these, and so is a pause after a stream that worked: short enough that
/// nobody notices a restarted server, and spread so that a thousand clients of one server do not all
/// come back in the same millisecond.
const FIRST: Range<f64> = 0.1..0.2;
/// Each failure makes the next pause this much longer ...
const GROWTH: f64 = 1.5;
/// ... up to this factor, which makes pauses of at most 0.7 s: a client must read from a returned server
/// within a second.
const MOST: f64 = 3.5;

/// Pauses while the server's port is closed. They do not grow: a refused connection costs nothing, and a
/// message that is sent right after the server has started must be in each client's buffer within 0.1 s.
const NOBODY_THERE: Range<f64> = 0.04..0.06;
/// A name without an address is asked for as often, for as long as a cold start may take. Later the pauses
/// grow: name servers are shared.
const COLD_START: Duration = Duration::from_mins(1);
/// A failure that took longer was not free, whatever it was.
const FREE: Duration = Duration::from_millis(500);

/// What has failed, which says how soon to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody listens at the server's address.
    Refused,
    /// The server's name has no address.
    NoAddress,
    /// A timeout, TLS, a handshake, or a stream: a try that costs the server or the network something.
    Costly,
}

/// Pauses that grow with each costly failure in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    factor: f64,
    /// When the first of the failures in a row happened.
    since: Option<Instant>,
    /// The worst failure since the last pause: there is one pause for several servers.
    worst: Failure,
}

impl Failure {
    /// What a try that took so long was.
    pub(crate) fn of(error: &ConnectError, took: Duration) -> Self {
        match error {
            _ if took > FREE => Self::Costly,
            ConnectError::Connect(_, error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Self::Refused,
            ConnectError::Resolve(..) => Self::NoAddress,
            _ => Self::Costly,
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { factor: 1.0, since: None, worst: Failure::Refused }
    }
}

impl Backoff {
    /// Notes a try that has failed.
    pub(crate) fn failed(&mut self, failure: Failure) {
        let since = *self.since.get_or_insert_with(Instant::now);
        let failure = match failure {
            Failure::NoAddress if since.elapsed() > COLD_START => Failure::Costly,
            failure => failure,
        };
        if failure != Failure::Refused && self.worst != Failure::Costly {
            self.worst = failure;
        }
    }

    /// The pause before the next try.
    pub(crate) fn next(&mut self) -> Duration {
        let (range, factor) = match std::mem::replace(&mut self.worst, Failure::Refused) {
            Failure::Refused | Failure::NoAddress => (NOBODY_THERE, 1.0),
            Failure::Costly => {
                let factor = self.factor;
                self.factor = (self.factor * GROWTH).min(MOST);
                (FIRST, factor)
            }
        };
        Duration::from_secs_f64(factor * (range.start + (range.end - range.start) * fastrand::f64()))
    }

    /// The try went well: begin anew.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(backoff: &mut Backoff, failures: &[Failure], count: usize) -> Vec<u128> {
        let next = |_| {
            for failure in failures {
                backoff.failed(*failure);
            }
            backoff.next().as_millis()
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn begins_short_grows_and_is_bounded() {
        let mut backoff = Backoff::default();
        for _ in 0..2 {
            let pauses = pauses(&mut backoff, &[Failure::Costly], 50);
            assert!((100..=200).contains(&pauses[0]), "{pauses:?}");
            assert!(pauses[20..].iter().all(|pause| (350..=700).contains(pause)), "{pauses:?}");
            backoff.reset();
        }
    }

    #[test]
    fn does_not_grow_while_nobody_is_there() {
        let mut backoff = Backoff::default();
        for failures in [&[Failure::Refused][..], &[Failure::NoAddress], &[Failure::Refused, Failure::NoAddress]] {
            let pauses = pauses(&mut backoff, failures, 200);
            assert!(pauses.iter().all(|pause| (40..=60).contains(pause)), "{failures:?}: {pauses:?}");
        }
        let mixed = pauses(&mut backoff, &[Failure::Costly, Failure::Refused], 20);
        assert!(mixed[10..].iter().all(|pause| (350..=700).contains(pause)), "one of two hangs: {mixed:?}");
    }

    #[test]
    fn a_try_that_took_long_was_not_free() {
        let server = || "localhost:1".parse().expect("an address");
        let of = |kind: std::io::ErrorKind, millis| {
            Failure::of(&ConnectError::Connect(server(), kind.into()), Duration::from_millis(millis))
        };
        assert_eq!(of(std::io::ErrorKind::ConnectionRefused, 1), Failure::Refused);
        assert_eq!(of(std::io::ErrorKind::ConnectionRefused, 1000), Failure::Costly);
        assert_eq!(of(std::io::ErrorKind::TimedOut, 1), Failure::Costly);
        let unknown = ConnectError::Resolve(server(), std::io::ErrorKind::NotFound.into());
        assert_eq!(Failure::of(&unknown, Duration::from_millis(1)), Failure::NoAddress);
        assert_eq!(Failure::of(&unknown, Duration::from_secs(5)), Failure::Costly);
    }
}
