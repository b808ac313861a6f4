//! When readers are woken.

use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use super::Room;

/// Rounds that follow each other are at least this far apart. A wake-up and a write for every reader is nearly all that a message
/// costs, so in a busy room one round carries the messages of a millisecond; nobody notices that in a chat.
const WINDOW: Duration = Duration::from_millis(1);

impl Room {
    /// Ends a round whenever something was posted: at once after a pause, once in a window of 1 ms under load. Never returns; a room
    /// has one dispatcher.
    pub async fn dispatch(&self) {
        let mut woken = Slab::new();
        let mut next_round = Instant::now();
        loop {
            self.posted.notified().await;
            tokio::time::sleep_until(next_round).await;
            next_round = Instant::now() + WINDOW;
            self.publish(&mut woken);
        }
    }
}
