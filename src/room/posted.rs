//! A message that is in the room.

use crate::send_time::SendTime;

/// What a call that posts a message comes to, when the message is in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// This call has put the message into the room, at this time.
    Now(SendTime),
    /// The message was there already, under the same key and from this time on: this call has changed nothing.
    Before(SendTime),
}

impl Posted {
    /// The time of the message.
    #[must_use]
    pub fn time(self) -> SendTime {
        match self {
            Self::Now(time) | Self::Before(time) => time,
        }
    }
}
