//! The pause before the next attempt to open the stream.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::net::ConnectError;

/// The first pause, in seconds. It is short enough that nobody notices a restarted server. It is
/// random so that a thousand clients of one server do not all come back in the same millisecond.
const FIRST: Range<f64> = 0.1..0.2;
/// Every failure makes the next pause longer by this factor.
const GROWTH: f64 = 1.5;
/// The longest pause is this multiple of the first one, 0.7 s: a client must read from a restarted
/// server within a second.
const MAX_FACTOR: f64 = 3.5;

/// The pause after a cheap failure, in seconds. It does not grow: a refused connection costs
/// nothing, and a message that is sent right after the server has started must be in every client's
/// buffer within 0.1 s.
const CHEAP: Range<f64> = 0.04..0.06;
/// A name without an address is a cheap failure for as long as a cold start may take. Later the
/// pauses grow, because name servers are shared.
const COLD_START: Duration = Duration::from_mins(1);
/// A failure that took longer than this is costly.
const CHEAP_TIME: Duration = Duration::from_millis(500);

/// The kind of a failed attempt, which decides how soon the client repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No program listens at the server's address.
    Refused,
    /// The server's name has no address.
    NoAddress,
    /// Anything else: a timeout, TLS, a handshake, or a stream. It costs the server or the network
    /// something.
    Costly,
}

/// Pauses that grow with each costly failure in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    factor: f64,
    /// The time of the first failure in a row.
    since: Option<Instant>,
    /// The worst failure since the last pause. Several servers share one pause.
    worst: Failure,
}

impl Failure {
    /// The kind of a failure to connect, after `took`.
    pub(super) fn of(error: &ConnectError, took: Duration) -> Self {
        match error {
            _ if took > CHEAP_TIME => Self::Costly,
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
    /// Notes a failed attempt.
    pub(super) fn failed(&mut self, failure: Failure) {
        let since = *self.since.get_or_insert_with(Instant::now);
        let failure = match failure {
            Failure::NoAddress if since.elapsed() > COLD_START => Failure::Costly,
            failure => failure,
        };
        if failure != Failure::Refused && self.worst != Failure::Costly {
            self.worst = failure;
        }
    }

    /// The pause before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let (range, factor) = match std::mem::replace(&mut self.worst, Failure::Refused) {
            Failure::Refused | Failure::NoAddress => (CHEAP, 1.0),
            Failure::Costly => {
                let factor = self.factor;
                self.factor = (self.factor * GROWTH).min(MAX_FACTOR);
                (FIRST, factor)
            }
        };
        Duration::from_secs_f64(factor * (range.start + (range.end - range.start) * fastrand::f64()))
    }

    /// Notes an attempt that succeeded: the pauses are short again.
    pub(super) fn reset(&mut self) {
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
    fn pauses_start_short_and_grow_up_to_a_bound() {
        let mut backoff = Backoff::default();
        for _ in 0..2 {
            let pauses = pauses(&mut backoff, &[Failure::Costly], 50);
            assert!((100..=200).contains(&pauses[0]), "{pauses:?}");
            assert!(pauses[20..].iter().all(|pause| (350..=700).contains(pause)), "{pauses:?}");
            backoff.reset();
        }
    }

    #[test]
    fn cheap_failures_do_not_make_pauses_longer() {
        let mut backoff = Backoff::default();
        for failures in [&[Failure::Refused][..], &[Failure::NoAddress], &[Failure::Refused, Failure::NoAddress]] {
            let pauses = pauses(&mut backoff, failures, 200);
            assert!(pauses.iter().all(|pause| (40..=60).contains(pause)), "{failures:?}: {pauses:?}");
        }
        let mixed = pauses(&mut backoff, &[Failure::Costly, Failure::Refused], 20);
        assert!(mixed[10..].iter().all(|pause| (350..=700).contains(pause)), "one of two hangs: {mixed:?}");
    }

    #[test]
    fn an_attempt_that_took_long_is_costly() {
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
