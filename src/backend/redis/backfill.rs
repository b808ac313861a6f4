//! Readers that go on from further back than this server's own messages reach: what is between is read from the engine, for each of them.
//!
//! The server reads one piece of the stream after the other for such a reader, until the reader has come
//! to where the server's own messages begin. The reader is given a piece in small parts, the next one when
//! it has taken the last. All readers together hold a bounded number of bytes. A reader that takes nothing
//! for a while is ended. A slow one is not: if others wait for memory, the parts that it has not been given
//! yet are dropped, and read from the engine again when it goes on.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use redis::RedisResult;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::connection::Connection;
use super::entry::{self, Entry, Raw};
use super::{ANSWER_TIMEOUT, Engine, answered};
use crate::room::{Draft, End, Room};
use crate::send_time::SendTime;

static SCRIPT: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("backfill.lua")));

/// How much is read for a reader at once, in bytes, exceeded by one message at most: the more readers hold
/// memory, the less.
const PIECE: RangeInclusive<usize> = PART..=256 * 1024;
/// How much of it a reader is given at once, in bytes.
const PART: usize = 16 * 1024;
/// What all readers together hold.
const HELD: u32 = 16 * 1024 * 1024;
/// Which part of the memory that is free one reader gets.
const SHARE: usize = 8;
/// How many streams that open may ask the engine at once: the others wait here if it hangs.
const QUESTIONS: usize = 16;
/// How long a reader that takes nothing may keep what others wait for.
const KEEPS: Duration = Duration::from_secs(3);
/// How long a reader may take nothing, in multiples of that.
const TAKES_NOTHING: u32 = 10;

/// What all such readers share: they take turns.
#[derive(Debug)]
pub(super) struct Archive {
    connection: Mutex<Option<Connection>>,
    turn: Mutex<()>,
    /// Who may ask whether a stream can go on.
    questions: Arc<Semaphore>,
    held: Arc<Semaphore>,
    /// Somebody has read a piece that can't be held yet.
    crowded: AtomicBool,
}

/// One reader on its way.
pub(crate) struct Past {
    engine: Arc<Engine>,
    room: Arc<Room>,
    /// It has been given everything up to this time, in microseconds ...
    given: u64,
    /// ... and so many bytes of the message that follows.
    beyond: usize,
    /// What it is given next.
    parts: VecDeque<Part>,
    next: Option<Reading>,
    /// It has been given a part and takes nothing.
    stuck: Option<Stuck>,
}

/// How long a reader has taken nothing.
struct Stuck {
    tick: Pin<Box<Sleep>>,
    ticks: u32,
}

type Reading = Pin<Box<dyn Future<Output = Result<Piece, End>> + Send>>;

/// Messages that follow on each other, and the time of the last one in microseconds.
struct Piece {
    parts: VecDeque<Part>,
    last: u64,
}

/// Part of the frames of a piece, and where a reader is that has been given it.
struct Part {
    bytes: Bytes,
    /// The time of the last message of which the reader has everything then, in microseconds.
    given: u64,
    /// How many bytes it has of the message that follows.
    beyond: usize,
}

/// Where a reader is.
pub(crate) enum Way {
    /// It is given this part of the frames, and is still on its way.
    Part(Bytes),
    /// At this position of the room.
    There(u64),
}

/// Bytes, and the right to hold so many.
struct Held {
    bytes: Vec<u8>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Somebody waits; also when it is dropped in the midst of that.
struct Crowd<'a>(&'a AtomicBool);

impl<'a> Crowd<'a> {
    fn new(crowded: &'a AtomicBool) -> Self {
        crowded.store(true, Ordering::Relaxed);
        Self(crowded)
    }
}

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Archive {
    pub(super) fn new() -> Self {
        Self {
            connection: Mutex::new(None),
            turn: Mutex::new(()),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            held: Arc::new(Semaphore::new(HELD as usize)),
            crowded: AtomicBool::new(false),
        }
    }

    /// What the first message of `room` after `given` that the stream has follows on, if there is one.
    async fn follows_on(&self, engine: &Arc<Engine>, room: &Arc<Room>, given: u64) -> Result<Option<u64>, End> {
        let right = Arc::clone(&self.questions).acquire_owned().await.map_err(|_| End::Closed)?;
        let (of, room_read) = (Arc::clone(engine), Arc::clone(room));
        // A caller that gives up does not take back what the engine was asked, so the right ends with the answer.
        let read = tokio::spawn(async move {
            let _right = right;
            of.archive.read(&of, &room_read, given, 0).await
        });
        let raw = match read.await {
            Ok(raw) => raw?,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(End::Closed),
            },
        };
        let first = raw.into_iter().next().and_then(|(id, fields)| Entry::new(&id, fields));
        Ok(first.filter(|first| first.epoch == room.epoch()).map(|first| first.previous))
    }

    /// The messages of `room` after `given`, the first one without its first `beyond` bytes; none if there
    /// are none, or they are gone.
    async fn piece(&self, engine: &Engine, room: &Room, given: u64, beyond: usize) -> Result<Piece, End> {
        let _turn = self.turn.lock().await;
        let size = (self.held.available_permits() / SHARE).clamp(*PIECE.start(), *PIECE.end());
        let raw = self.read(engine, room, given, size.max(beyond + 1)).await?;
        let (mut frames, mut ends, mut last) = (Vec::new(), Vec::new(), given);
        for (id, fields) in raw {
            let Some(entry) = Entry::new(&id, fields) else {
                // Nobody gets it, and nobody has to stop for it.
                last = last.max(entry::micros(&id).unwrap_or_default());
                continue;
            };
            if !entry.follows(room, last) {
                return Err(End::FellBehind);
            }
            last = entry.micros;
            Draft::new(entry.author, entry.text).append_to(&mut frames, SendTime::of_micros(last));
            ends.push((frames.len(), last));
        }
        // Something that is no message may be all there was.
        let mut end = beyond.min(frames.len());
        let rest = &frames[end..];
        let mut right = self.hold(u32::try_from(rest.len()).unwrap_or(u32::MAX).min(HELD)).await?;
        let parts = rest.chunks(PART).map(|bytes| {
            end += bytes.len();
            let complete = ends.partition_point(|(at, _)| *at <= end);
            let (at, given) = complete.checked_sub(1).map_or((0, given), |index| ends[index]);
            // Each part has its share of the right, which ends with it.
            let share = right.split(bytes.len().min(right.num_permits()));
            let bytes = Bytes::from_owner(Held { bytes: bytes.to_vec(), _permit: share });
            Part { bytes, given, beyond: end - at }
        });
        Ok(Piece { parts: parts.collect(), last })
    }

    /// Others wait for their turn meanwhile: there is no use in reading more.
    async fn hold(&self, bytes: u32) -> Result<OwnedSemaphorePermit, End> {
        if let Ok(permit) = Arc::clone(&self.held).try_acquire_many_owned(bytes) {
            return Ok(permit);
        }
        let _crowd = Crowd::new(&self.crowded);
        Arc::clone(&self.held).acquire_many_owned(bytes).await.map_err(|_| End::Closed)
    }

    async fn read(&self, engine: &Engine, room: &Room, after: u64, bytes: usize) -> Result<Raw, End> {
        // Never further than the room has come, or what it is about to get would be given twice.
        let up_to = room.last().as_micros();
        let read = async {
            let read = self.read_once(engine, after, up_to, bytes).await;
            if !read.as_ref().is_err_and(|error| error.code().is_none()) {
                return read;
            }
            // The connection broke. Another one may be good, and reading changes nothing.
            *self.connection.lock().await = None;
            self.read_once(engine, after, up_to, bytes).await
        };
        match answered(ANSWER_TIMEOUT, read).await {
            Ok(raw) => return Ok(raw),
            Err(error) => drop(engine.refusal(&error)),
        }
        *self.connection.lock().await = None;
        Err(End::EngineAway)
    }

    async fn read_once(&self, engine: &Engine, after: u64, up_to: u64, bytes: usize) -> RedisResult<Raw> {
        let mut connection = self.connect(engine).await?;
        let mut call = SCRIPT.key(engine.settings.stream());
        call.arg(format!("{after}-0")).arg(format!("{up_to}-0")).arg(bytes);
        call.invoke_async(&mut connection.commands).await
    }

    async fn connect(&self, engine: &Engine) -> RedisResult<Connection> {
        let mut place = self.connection.lock().await;
        let alive = match place.as_mut() {
            Some(connection) => connection.is_alive().await,
            None => false,
        };
        if !alive {
            *place = None;
        }
        let connection = match place.as_mut() {
            Some(connection) => connection,
            None => place.insert(engine.connect().await?),
        };
        connection.note_use();
        Ok(connection.clone())
    }
}

impl Entry {
    /// Whether it is a message of this room, and none is missing between it and what was given before.
    fn follows(&self, room: &Room, given: u64) -> bool {
        self.epoch == room.epoch() && self.previous <= given
    }
}

impl Past {
    /// A reader that has had everything up to `after`. `None` if what follows is no longer there.
    ///
    /// # Errors
    /// If the engine can't be asked.
    pub(super) async fn open(engine: &Arc<Engine>, room: Arc<Room>, after: SendTime) -> Result<Option<Self>, End> {
        let given = after.as_micros();
        let previous = engine.archive.follows_on(engine, &room, given).await?;
        Ok((previous == Some(given)).then(|| Self::new(engine, room, given)))
    }

    /// A reader of what there is after any time, and the time after which it begins: later, if there are no
    /// messages of the epoch between the two, or no longer. `None` if the first one is not of the epoch.
    ///
    /// # Errors
    /// If the engine can't be asked.
    pub(super) async fn since(
        engine: &Arc<Engine>,
        room: Arc<Room>,
        after: SendTime,
    ) -> Result<Option<(Self, SendTime)>, End> {
        let given = after.as_micros();
        let Some(previous) = engine.archive.follows_on(engine, &room, given).await? else { return Ok(None) };
        let given = given.max(previous);
        Ok(Some((Self::new(engine, room, given), SendTime::of_micros(given))))
    }

    fn new(engine: &Arc<Engine>, room: Arc<Room>, given: u64) -> Self {
        let engine = Arc::clone(engine);
        Self { engine, room, given, beyond: 0, parts: VecDeque::new(), next: None, stuck: None }
    }

    /// Whether the reader has been given only a part of a message.
    pub(crate) fn is_amid_a_message(&self) -> bool {
        self.beyond > 0
    }

    /// What comes next.
    ///
    /// # Errors
    /// Why nothing does. If it is because the messages are gone, the reader learns that when it comes back.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Way, End>> {
        self.stuck = None;
        loop {
            if let Some(Part { bytes, given, beyond }) = self.parts.pop_front() {
                (self.given, self.beyond) = (given, beyond);
                return Poll::Ready(Ok(Way::Part(bytes)));
            }
            let Some(next) = &mut self.next else {
                if self.beyond == 0
                    && let Some(position) = self.room.position_after(SendTime::of_micros(self.given))
                {
                    return Poll::Ready(Ok(Way::There(position)));
                }
                let (engine, room) = (Arc::clone(&self.engine), Arc::clone(&self.room));
                let (given, beyond) = (self.given, self.beyond);
                self.next = Some(Box::pin(async move { engine.archive.piece(&engine, &room, given, beyond).await }));
                continue;
            };
            let piece = ready!(next.as_mut().poll(cx));
            self.next = None;
            match piece {
                Ok(piece) if piece.last == self.given => {
                    // The room has messages that this reader has not, and the stream has none that come before them.
                    return Poll::Ready(Err(End::FellBehind));
                }
                Ok(piece) if piece.parts.is_empty() => self.given = piece.last,
                Ok(piece) => self.parts = piece.parts,
                Err(end) => return Poll::Ready(Err(end)),
            }
        }
    }

    /// For a reader that takes nothing: completes when it has done so for too long.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let stuck = self.stuck.get_or_insert_with(Stuck::new);
        loop {
            ready!(stuck.tick.as_mut().poll(cx));
            stuck.ticks += 1;
            if stuck.ticks >= TAKES_NOTHING {
                return Poll::Ready(End::FellBehind);
            }
            if self.engine.archive.crowded.load(Ordering::Relaxed) {
                self.parts.clear();
            }
            stuck.tick.as_mut().reset(Instant::now() + KEEPS);
        }
    }
}

impl Stuck {
    fn new() -> Self {
        Self { tick: Box::pin(tokio::time::sleep(KEEPS)), ticks: 0 }
    }
}
