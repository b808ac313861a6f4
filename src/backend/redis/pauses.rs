//! The pauses before the server tries Redis again. They grow, because a Redis that refuses once
//! mostly refuses for long.

use std::time::Duration;

/// The shortest pause.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause, so about the time after which a room works again when the reason is gone.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Pauses that grow with each refusal in a row.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: RETRY_PAUSE }
    }
}

impl Pauses {
    /// The pause before the next try.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(MAX_PAUSE);
        pause
    }

    /// Starts again with the shortest pause.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}
