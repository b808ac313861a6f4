//! One reader of the room.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use thiserror::Error;

use super::Room;
use super::waiting::Ticket;

/// Why a reader gets nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum End {
    /// The reader was too slow: the room has forgotten messages that it had not read yet.
    #[error("fell behind: the messages that you should get next are no longer kept")]
    FellBehind,
    /// The room is closed, and the reader has had everything.
    #[error("the server is shutting down")]
    Closed,
}

/// A position in the room, and nothing more: no queue, no copy, no task.
pub struct Reader {
    room: Arc<Room>,
    position: u64,
    ticket: Option<Ticket>,
}

impl Reader {
    pub(super) fn new(room: Arc<Room>, position: u64) -> Self {
        Self { room, position, ticket: None }
    }

    /// Everything new up to a bound of about 64 KiB, as whole gRPC frames: many messages in one piece that all readers share.
    ///
    /// # Errors
    /// The [`End`] of this reader, again at each further call.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, End>> {
        let read = self.room.poll_read(self.position, &mut self.ticket, cx.waker());
        if let Poll::Ready(Ok(frames)) = &read {
            self.position += frames.len() as u64;
        }
        read
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.room.leave(self.ticket);
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("position", &self.position).finish_non_exhaustive()
    }
}
