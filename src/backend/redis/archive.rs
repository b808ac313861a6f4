//! Reads the stream for readers that begin before the log of this server.
//!
//! The server reads the stream in chunks, for one reader at a time. A reader gets its chunk in
//! small parts, and each part only after it has taken the one before. All readers together hold a
//! bounded number of bytes.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use redis::RedisResult;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::connection::{ANSWER_TIMEOUT, RedisConnection, within};
use super::entry::{self, Entry, RawEntries};
use super::shared::Shared;
use crate::room::{Room, StreamEnd};
use crate::send_time::SendTime;

static SCRIPT: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("backfill.lua")));

/// The bytes of a chunk, exceeded by at most one message. The more bytes all readers hold, the
/// smaller a chunk is.
const CHUNK: RangeInclusive<usize> = PART..=256 * 1024;
/// The bytes of a part.
const PART: usize = 16 * 1024;
/// The bytes that all readers together hold.
const MAX_HELD: u32 = 16 * 1024 * 1024;
/// A reader gets at most `1 / SHARE` of the free memory.
const SHARE: usize = 8;
/// How many opening streams may query Redis at once. If Redis hangs, the others wait here.
const QUESTIONS: usize = 16;

/// The state that all readers of the stream share. Times are in microseconds, as in the ids of the
/// stream.
#[derive(Debug)]
pub(super) struct Archive {
    shared: Arc<Shared>,
    connection: Mutex<Option<RedisConnection>>,
    /// Locked by the reader whose chunk is being read.
    turn: Mutex<()>,
    questions: Arc<Semaphore>,
    held: Arc<Semaphore>,
    contended: AtomicBool,
}

/// The progress of a reader in the stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// The time of the last message that the reader has completely.
    pub(super) given: u64,
    /// How many bytes the reader has of the frame after that message.
    pub(super) beyond: usize,
}

/// Consecutive messages.
pub(super) struct StreamChunk {
    pub(super) parts: VecDeque<Part>,
    /// The time of the last message.
    pub(super) last: u64,
}

/// A part of a chunk's frames.
pub(super) struct Part {
    pub(super) bytes: Bytes,
    /// The progress of the reader after this part.
    pub(super) progress: Progress,
}

/// Bytes that count as held while they exist.
struct HeldBytes {
    bytes: Vec<u8>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Marks that a chunk waits for memory, until this is dropped.
struct Contention<'a>(&'a AtomicBool);

impl<'a> Contention<'a> {
    fn new(contended: &'a AtomicBool) -> Self {
        contended.store(true, Ordering::Relaxed);
        Self(contended)
    }
}

impl Drop for Contention<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Archive {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            connection: Mutex::new(None),
            turn: Mutex::new(()),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            held: Arc::new(Semaphore::new(MAX_HELD as usize)),
            contended: AtomicBool::new(false),
        }
    }

    /// Whether a chunk waits for memory.
    pub(super) fn is_contended(&self) -> bool {
        self.contended.load(Ordering::Relaxed)
    }

    /// The time of the message before the first one after `given`. `None` if the stream has no
    /// message of the room's epoch after `given`.
    ///
    /// # Errors
    /// If Redis can't be asked.
    pub(super) async fn first_follows(
        self: &Arc<Self>,
        room: &Arc<Room>,
        given: u64,
    ) -> Result<Option<u64>, StreamEnd> {
        let permit = Arc::clone(&self.questions).acquire_owned().await;
        let permit = permit.map_err(|_| StreamEnd::Closed)?;
        let (archive, of_room) = (Arc::clone(self), Arc::clone(room));
        // A caller that gives up can't cancel the query, so the permit lasts until the answer.
        let read = tokio::spawn(async move {
            let _permit = permit;
            archive.read(&of_room, given, 0).await
        });
        let raw = match read.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(raw) => raw?,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => return Err(StreamEnd::Closed),
        };
        let first = raw.first().and_then(|(id, fields)| Entry::parse(id, fields));
        Ok(first.filter(|first| first.epoch == room.epoch()).map(|first| first.previous))
    }

    /// The next messages of a reader. The chunk is empty if there are none, or they are gone.
    ///
    /// # Errors
    /// The reason why the reader must end.
    pub(super) async fn chunk(&self, room: &Room, at: Progress) -> Result<StreamChunk, StreamEnd> {
        let _turn = self.turn.lock().await;
        let size = (self.held.available_permits() / SHARE).clamp(*CHUNK.start(), *CHUNK.end());
        let raw = self.read(room, at.given, size.max(at.beyond + 1)).await?;
        let (mut frames, mut ends, mut last) = (Vec::new(), Vec::new(), at.given);
        for (id, fields) in raw {
            let Some(entry) = Entry::parse(&id, &fields) else {
                // An entry that is no message is skipped.
                last = last.max(entry::micros(&id).unwrap_or_default());
                continue;
            };
            // A message of another epoch, or a gap before this one.
            if entry.epoch != room.epoch() || entry.previous > last {
                return Err(StreamEnd::FellBehind);
            }
            last = entry.micros;
            entry.message.append_to(&mut frames, SendTime::of_micros(last));
            ends.push((frames.len(), last));
        }
        // There may be no frames, if all entries were skipped.
        let mut end = at.beyond.min(frames.len());
        let rest = &frames[end..];
        let mut permit = self.hold(u32::try_from(rest.len()).unwrap_or(u32::MAX).min(MAX_HELD)).await?;
        let parts = rest.chunks(PART).map(|bytes| {
            end += bytes.len();
            let complete = ends.partition_point(|(frame_end, _)| *frame_end <= end);
            let complete = complete.checked_sub(1).map(|index| ends[index]);
            let (frame_end, given) = complete.unwrap_or((0, at.given));
            // The memory of a part is free as soon as the part is dropped.
            let permit = permit.split(bytes.len().min(permit.num_permits()));
            let bytes = Bytes::from_owner(HeldBytes { bytes: bytes.to_vec(), _permit: permit });
            Part { bytes, progress: Progress { given, beyond: end - frame_end } }
        });
        Ok(StreamChunk { parts: parts.collect(), last })
    }

    /// Waits for memory. The reader keeps its turn meanwhile: another chunk would have to wait too.
    async fn hold(&self, bytes: u32) -> Result<OwnedSemaphorePermit, StreamEnd> {
        if let Ok(permit) = Arc::clone(&self.held).try_acquire_many_owned(bytes) {
            return Ok(permit);
        }
        let _contention = Contention::new(&self.contended);
        let permit = Arc::clone(&self.held).acquire_many_owned(bytes).await;
        permit.map_err(|_| StreamEnd::Closed)
    }

    async fn read(&self, room: &Room, after: u64, bytes: usize) -> Result<RawEntries, StreamEnd> {
        // The reader must not read further than the room, or it would get messages twice.
        let until = room.last().as_micros();
        let read = async {
            let read = self.read_once(after, until, bytes).await;
            if !read.as_ref().is_err_and(|error| error.code().is_none()) {
                return read;
            }
            // The connection broke. Another one may work, and reading twice changes nothing.
            *self.connection.lock().await = None;
            self.read_once(after, until, bytes).await
        };
        match within(ANSWER_TIMEOUT, read).await {
            Ok(raw) => return Ok(raw),
            Err(error) => drop(self.shared.error_reply(&error)),
        }
        *self.connection.lock().await = None;
        Err(StreamEnd::Unavailable)
    }

    async fn read_once(&self, after: u64, until: u64, bytes: usize) -> RedisResult<RawEntries> {
        let mut connection = self.connect().await?;
        let mut call = SCRIPT.key(self.shared.settings.stream());
        call.arg(format!("{after}-0")).arg(format!("{until}-0")).arg(bytes);
        call.invoke_async(&mut connection.commands).await
    }

    async fn connect(&self) -> RedisResult<RedisConnection> {
        let mut slot = self.connection.lock().await;
        let alive = match slot.as_mut() {
            Some(connection) => connection.is_alive().await,
            None => false,
        };
        if !alive {
            *slot = None;
        }
        let connection = match slot.as_mut() {
            Some(connection) => connection,
            None => slot.insert(self.shared.connect().await?),
        };
        connection.note_use();
        Ok(connection.clone())
    }
}
