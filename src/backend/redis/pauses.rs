//! How long to leave an engine alone that refuses: what it refuses once it mostly refuses for long.

use std::time::Duration;

use super::CONNECT_PAUSE;

/// The longest pause: so soon a room works again when the reason is gone.
const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that grow with each refusal in a row.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: CONNECT_PAUSE }
    }
}

impl Pauses {
    /// The pause before the next try.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause
    }

    /// It was not refused: begin anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}
