//! The source of messages that are older than the room's log, for one reader.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::error::StreamEnd;

/// A source of older messages for one reader. The reader reads from it until it has caught up with
/// the room's memory.
pub trait Backfill: Send {
    /// Gives the next part of the messages, or the position in the room where the reader continues.
    ///
    /// # Errors
    /// The reason why there is no next part.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, StreamEnd>>;

    /// Completes when the reader must be ended, because its caller has taken nothing for too long.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<StreamEnd>;

    /// Whether the last part ended within a message.
    fn is_amid_message(&self) -> bool;
}

/// The result of one step of a [`Backfill`].
#[derive(Debug)]
pub enum Step {
    /// Frames, or a part of one. The next step continues after it.
    Part(Bytes),
    /// The reader has caught up, and continues at this position of the room.
    CaughtUp(u64),
}
