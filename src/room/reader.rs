//! One reader of the room.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::backfill::{Backfill, Step};
use super::error::StreamEnd;
use super::state::{Frames, Room};
use super::waiters::Ticket;

/// A position in the room. A reader has no queue, no copy and no task.
pub struct Reader {
    room: Arc<Room>,
    source: Source,
    /// The reader's slot in the wait list of readers that have read everything.
    waiting: Option<Ticket>,
    /// The reader's slot in the wait list of readers whose callers take nothing.
    blocked: Option<Ticket>,
}

/// The source of the reader's next messages.
enum Source {
    /// The source of messages that are older than the room's log.
    Backfill(Box<dyn Backfill>),
    /// The room's log, at this position.
    Log(u64),
}

impl Reader {
    /// A reader at a position of the room's log.
    pub(super) fn new(room: Arc<Room>, position: u64) -> Self {
        Self { room, source: Source::Log(position), waiting: None, blocked: None }
    }

    /// A reader that begins before the room's log.
    #[must_use]
    pub fn behind(room: Arc<Room>, backfill: Box<dyn Backfill>) -> Self {
        Self { room, source: Source::Backfill(backfill), waiting: None, blocked: None }
    }

    /// Whether the last read has read everything, and nothing was published since. The room wakes
    /// the task that has read. Takes no lock.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some_and(|ticket| self.room.is_waiting(ticket))
    }

    /// Whether the last read may have ended within a message. A stream can't end with a status
    /// then.
    #[must_use]
    pub fn is_amid_message(&self) -> bool {
        matches!(&self.source, Source::Backfill(backfill) if backfill.is_amid_message())
    }

    /// Reads everything new, up to a bound.
    ///
    /// # Errors
    /// The reason why the reader ends. Each further read gives the same error.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frames, StreamEnd>> {
        let position = match &mut self.source {
            Source::Log(position) => *position,
            Source::Backfill(backfill) => match ready!(backfill.poll_next(cx))? {
                Step::Part(bytes) => return Poll::Ready(Ok(Frames { bytes, more: true })),
                Step::CaughtUp(position) => position,
            },
        };
        let read = self.room.poll_read(position, &mut self.waiting, cx.waker());
        let bytes = if let Poll::Ready(Ok(frames)) = &read { frames.bytes.len() as u64 } else { 0 };
        self.source = Source::Log(position + bytes);
        read
    }

    /// Completes when the reader must end although its caller takes nothing: because there is
    /// nothing left to read, or because its next message was dropped. The last frames stay in
    /// memory for this reader alone until then.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<StreamEnd> {
        let position = match &mut self.source {
            Source::Log(position) => *position,
            Source::Backfill(backfill) => return backfill.poll_end(cx),
        };
        if self.blocked.is_some_and(|ticket| self.room.is_blocked(ticket)) {
            return Poll::Pending;
        }
        self.room.poll_end(position, &mut self.blocked, cx.waker())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.room.leave(self.waiting, self.blocked);
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
