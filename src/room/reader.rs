//! One reader of the room.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use thiserror::Error;

use super::Room;
use crate::backend::redis::{Past, Way};
use crate::room::waiters::Ticket;

/// What a reader got.
#[derive(Debug)]
pub struct Frames {
    /// Whole gRPC frames, many messages in one piece that all readers share. Never empty, and about 64 KiB or one message at most.
    /// A reader that comes from further back gets its own, which need not end where a message does.
    pub bytes: Bytes,
    /// There is more to read. If not, the task that has read will be woken when there is: reading again would only say so.
    pub more: bool,
}

/// Why a reader gets nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum End {
    /// The reader was too slow: the room has forgotten messages that it had not read yet.
    #[error("fell behind: the messages that you should get next are no longer kept")]
    FellBehind,
    /// The room is closed, and the reader has had everything.
    #[error("the server is shutting down")]
    Closed,
    /// The engine that keeps the room has lost messages: a new epoch has begun.
    #[error("the engine that keeps the room has lost messages: the room has begun anew")]
    Anew,
    /// This server was so long without its engine that messages are gone which it has not seen.
    #[error("fell behind: this server has missed messages")]
    Missed,
    /// What the reader should get next is with the engine that keeps the room, and can't be had from there now.
    #[error("the engine that keeps the room is away: the messages that you should get next are there")]
    EngineAway,
}

/// A position in the room, and nothing more: no queue, no copy, no task.
pub struct Reader {
    room: Arc<Room>,
    position: u64,
    /// It has not come to its position yet: what is before it is not in this room any more.
    past: Option<Box<Past>>,
    /// Its place among those who have read everything ...
    ticket: Option<Ticket>,
    /// ... and among those who can't read.
    blocked: Option<Ticket>,
}

impl Reader {
    pub(crate) fn new(room: Arc<Room>, position: u64) -> Self {
        Self { room, position, past: None, ticket: None, blocked: None }
    }

    /// One that comes from further back than the room reaches.
    pub(crate) fn coming(room: Arc<Room>, past: Past) -> Self {
        Self { room, position: 0, past: Some(Box::new(past)), ticket: None, blocked: None }
    }

    /// Whether the last read found the end, and nothing has come since: there is nothing to read, and the task that read will be woken
    /// when there is. Costs no lock.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.ticket.is_some_and(|ticket| self.room.is_waiting(ticket))
    }

    /// Whether the last read may have ended within a message: then a stream can't end with a status.
    #[must_use]
    pub fn is_amid_a_message(&self) -> bool {
        self.past.as_ref().is_some_and(|past| past.is_amid_a_message())
    }

    /// Everything new, up to a bound.
    ///
    /// # Errors
    /// The [`End`] of this reader, again at each further call.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frames, End>> {
        if let Some(past) = &mut self.past {
            match ready!(past.poll_next(cx)) {
                Ok(Way::Part(bytes)) => return Poll::Ready(Ok(Frames { bytes, more: true })),
                Ok(Way::There(position)) => (self.position, self.past) = (position, None),
                Err(end) => return Poll::Ready(Err(end)),
            }
        }
        let read = self.room.poll_read(self.position, &mut self.ticket, cx.waker());
        if let Poll::Ready(Ok(frames)) = &read {
            self.position += frames.bytes.len() as u64;
        }
        read
    }

    /// For a reader that can't read now, because who it reads for takes nothing: completes when there is nothing left to read, or when
    /// it is too late to. What it was given before is held on to until then, so it must not stay for ever.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Some(past) = &mut self.past {
            return past.poll_end(cx);
        }
        if self.blocked.is_some_and(|ticket| self.room.is_blocked(ticket)) {
            return Poll::Pending;
        }
        self.room.poll_end(self.position, &mut self.blocked, cx.waker())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.room.leave(self.ticket, self.blocked);
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("position", &self.position).finish_non_exhaustive()
    }
}
