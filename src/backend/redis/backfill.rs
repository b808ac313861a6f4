//! The backfill of one reader from the stream in Redis.
//!
//! A reader that takes nothing for a while is ended. A slow reader is not. If other readers wait
//! for memory, the parts that the slow reader has not taken are dropped, and read again when it
//! continues.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::archive::{Archive, Part, Progress, StreamChunk};
use crate::room::{Backfill, Room, Step, StreamEnd};
use crate::send_time::SendTime;

/// How long a reader that takes nothing may keep memory that others wait for.
const RELEASE_AFTER: Duration = Duration::from_secs(3);
/// How often [`RELEASE_AFTER`] may pass before a reader that takes nothing ends.
const STALLS: u32 = 10;

/// The messages of one reader, read from the stream.
pub(super) struct RedisBackfill {
    archive: Arc<Archive>,
    room: Arc<Room>,
    progress: Progress,
    /// Parts of the last chunk that the reader has not taken yet.
    parts: VecDeque<Part>,
    /// The chunk that is being read.
    next: Option<NextChunk>,
    /// Set while the reader takes nothing.
    stall: Option<Stall>,
}

type NextChunk = Pin<Box<dyn Future<Output = Result<StreamChunk, StreamEnd>> + Send>>;

/// The time in which a reader has taken nothing.
struct Stall {
    timer: Pin<Box<Sleep>>,
    passed: u32,
}

impl RedisBackfill {
    /// The messages after `after`, which the reader has. `None` if some of them are gone.
    ///
    /// # Errors
    /// If Redis can't be asked.
    pub(super) async fn after(
        archive: &Arc<Archive>,
        room: Arc<Room>,
        after: SendTime,
    ) -> Result<Option<Self>, StreamEnd> {
        let given = after.as_micros();
        let previous = archive.first_follows(&room, given).await?;
        Ok((previous == Some(given)).then(|| Self::new(archive, room, given)))
    }

    /// The messages since any time, and the time after which they begin. It is a later time if the
    /// epoch has no messages between the two, or they are gone. `None` if the first message is of
    /// another epoch.
    ///
    /// # Errors
    /// If Redis can't be asked.
    pub(super) async fn since(
        archive: &Arc<Archive>,
        room: Arc<Room>,
        since: SendTime,
    ) -> Result<Option<(Self, SendTime)>, StreamEnd> {
        let given = since.as_micros();
        let Some(previous) = archive.first_follows(&room, given).await? else { return Ok(None) };
        let given = given.max(previous);
        Ok(Some((Self::new(archive, room, given), SendTime::of_micros(given))))
    }

    fn new(archive: &Arc<Archive>, room: Arc<Room>, given: u64) -> Self {
        let progress = Progress { given, beyond: 0 };
        let (archive, parts) = (Arc::clone(archive), VecDeque::new());
        Self { archive, room, progress, parts, next: None, stall: None }
    }

    fn read_chunk(&self) -> NextChunk {
        let (archive, room) = (Arc::clone(&self.archive), Arc::clone(&self.room));
        let progress = self.progress;
        Box::pin(async move { archive.chunk(&room, progress).await })
    }
}

impl Backfill for RedisBackfill {
    fn is_amid_message(&self) -> bool {
        self.progress.beyond > 0
    }

    /// If the messages are gone, the reader learns that when it resumes.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, StreamEnd>> {
        self.stall = None;
        loop {
            if let Some(Part { bytes, progress }) = self.parts.pop_front() {
                self.progress = progress;
                return Poll::Ready(Ok(Step::Part(bytes)));
            }
            let Some(next) = &mut self.next else {
                let given = SendTime::of_micros(self.progress.given);
                if self.progress.beyond == 0
                    && let Some(position) = self.room.position_after(given)
                {
                    return Poll::Ready(Ok(Step::CaughtUp(position)));
                }
                self.next = Some(self.read_chunk());
                continue;
            };
            let chunk = ready!(next.as_mut().poll(cx));
            self.next = None;
            match chunk? {
                // The room has messages that this reader lacks, and the stream has none before
                // them.
                chunk if chunk.last == self.progress.given => {
                    return Poll::Ready(Err(StreamEnd::FellBehind));
                }
                chunk if chunk.parts.is_empty() => self.progress.given = chunk.last,
                chunk => self.parts = chunk.parts,
            }
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<StreamEnd> {
        let stall =
            self.stall.get_or_insert_with(|| Stall { timer: Box::pin(tokio::time::sleep(RELEASE_AFTER)), passed: 0 });
        loop {
            ready!(stall.timer.as_mut().poll(cx));
            stall.passed += 1;
            if stall.passed >= STALLS {
                return Poll::Ready(StreamEnd::FellBehind);
            }
            if self.archive.is_contended() {
                self.parts.clear();
            }
            stall.timer.as_mut().reset(Instant::now() + RELEASE_AFTER);
        }
    }
}
