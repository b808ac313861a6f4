//! How long to wait before the next try.

use std::time::Duration;

/// The first pauses are between these, and so is a pause after a stream that worked: short enough that nobody notices a restarted
/// server, and spread so that a thousand clients of one server do not all come back in the same millisecond.
const FIRST: std::ops::Range<f64> = 0.1..0.2;
/// Each failure makes the next pause this much longer ...
const GROWTH: f64 = 1.5;
/// ... up to this factor, which makes pauses of at most 0.7 s: a client must read from a returned server within a second.
const MOST: f64 = 3.5;

/// Pauses that grow with each failure in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    factor: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { factor: 1.0 }
    }
}

impl Backoff {
    /// The pause before the next try.
    pub(super) fn next(&mut self) -> Duration {
        let seconds = self.factor * (FIRST.start + (FIRST.end - FIRST.start) * fastrand::f64());
        self.factor = (self.factor * GROWTH).min(MOST);
        Duration::from_secs_f64(seconds)
    }

    /// The try went well: begin anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_short_grows_and_is_bounded() {
        let mut backoff = Backoff::default();
        for _ in 0..2 {
            let first = backoff.next();
            assert!((100..=200).contains(&first.as_millis()), "{first:?}");
            let late: Vec<_> = (0..50).map(|_| backoff.next().as_millis()).collect();
            assert!(late[20..].iter().all(|pause| (350..=700).contains(pause)), "{late:?}");
            backoff.reset();
        }
    }
}
