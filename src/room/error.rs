//! The errors of the room.

use thiserror::Error;

use super::epoch::Epoch;
use crate::send_time::ClockError;

/// The reason why the room rejects a message. No reader gets the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Rejection {
    /// The room is closed.
    #[error("the server is shutting down: the message was not accepted")]
    Closed,
    /// The clock shows a time that no message can have.
    #[error("{0}: the message was not accepted")]
    Clock(#[from] ClockError),
    /// The idempotency key belongs to another message.
    #[error("another message was sent with this idempotency key")]
    KeyTaken,
    /// All keys that the room remembers are too young to be forgotten, and there is no room for
    /// another.
    #[error("too many messages with idempotency keys at once: the message was not accepted")]
    TooManyKeys,
    /// The message is meant for another epoch than the room's.
    #[error("that epoch is over, the room's epoch is {0}: the message was not accepted")]
    OtherEpoch(Epoch),
}

/// The reason why a reader gets no further messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StreamEnd {
    /// The reader was too slow: the log has dropped messages that it has not read yet.
    #[error("fell behind: the messages that you should get next are no longer kept")]
    FellBehind,
    /// The room is closed, and the reader has read everything.
    #[error("the server is shutting down")]
    Closed,
    /// Messages were lost, and a new epoch has begun.
    #[error("messages were lost: the room has begun a new epoch")]
    NewEpoch,
    /// This server has missed messages that its backend no longer has.
    #[error("fell behind: this server has missed messages")]
    Missed,
    /// The next messages are older than the log, and the backend can't read them now.
    #[error("the messages that you should get next can't be read now")]
    Unavailable,
}

/// The reader claims a position that the room has not reached, so the position is not of this room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the room has no message with that time yet")]
pub struct FuturePosition;
