//! Readers that go on from further back than this server's own messages reach: what is between is read from the engine, for each of them.
//!
//! A reader is given one piece of the stream after the other, the next one when it has taken the last, until it has come to where the
//! server's own messages begin. All of them together hold a bounded number of bytes, and one that takes nothing for a while is given up,
//! sooner if others wait for what it holds.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::entry::{self, Entry, Raw};
use super::{ANSWER_TIMEOUT, Engine, answered};
use crate::room::{Draft, End, Room};
use crate::send_time::SendTime;

static SCRIPT: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("past.lua")));

/// How much a reader is given at once, in bytes, exceeded by one message at most.
const PIECE: usize = 256 * 1024;
/// What all readers together hold.
const HELD: u32 = 16 * 1024 * 1024;
/// How long a reader may take nothing of what it was given, when others wait for what it holds ...
const TAKES_NOTHING_IN_A_CROWD: Duration = Duration::from_secs(3);
/// ... and how often as long when nobody does.
const TAKES_NOTHING: u32 = 10;

/// What all such readers share: they take turns.
#[derive(Debug)]
pub(super) struct Archive {
    connection: Mutex<Option<MultiplexedConnection>>,
    turn: Mutex<()>,
    held: Arc<Semaphore>,
    /// Somebody has read a piece that can't be held yet.
    crowded: AtomicBool,
}

/// One reader on its way.
pub(in crate::room) struct Past {
    engine: Arc<Engine>,
    room: Arc<Room>,
    /// It has been given everything up to this time, in microseconds.
    given: u64,
    next: Option<Reading>,
    /// It has been given a piece and takes nothing.
    stuck: Option<Stuck>,
}

/// How long a reader has taken nothing.
struct Stuck {
    tick: Pin<Box<Sleep>>,
    ticks: u32,
}

type Reading = Pin<Box<dyn Future<Output = Result<Piece, End>> + Send>>;

/// Messages that follow on each other: as frames, and the time of the last one in microseconds.
struct Piece {
    frames: Bytes,
    last: u64,
}

/// Where a reader is.
pub(in crate::room) enum Way {
    /// It is given these frames, and is still on its way.
    Frames(Bytes),
    /// At this position of the room.
    There(u64),
}

/// Frames, and the right to hold so many bytes.
struct Held {
    frames: Vec<u8>,
    _permit: OwnedSemaphorePermit,
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
        &self.frames
    }
}

impl Archive {
    pub(super) fn new() -> Self {
        Self {
            connection: Mutex::new(None),
            turn: Mutex::new(()),
            held: Arc::new(Semaphore::new(HELD as usize)),
            crowded: AtomicBool::new(false),
        }
    }

    /// Whether the first message of `room` after `given` that the stream has is the one that comes next.
    async fn has(&self, engine: &Engine, room: &Room, given: u64) -> Result<bool, End> {
        let raw = self.read(engine, room, given, 0).await?;
        let first = raw.into_iter().next().and_then(|(id, fields)| Entry::new(&id, fields));
        Ok(first.is_some_and(|first| first.epoch == room.epoch() && first.previous == given))
    }

    /// The messages of `room` after `given`, or only the first of them; none if there are none, or they are gone.
    async fn piece(&self, engine: &Engine, room: &Room, given: u64) -> Result<Piece, End> {
        let _turn = self.turn.lock().await;
        let raw = self.read(engine, room, given, PIECE).await?;
        let (mut frames, mut last) = (Vec::new(), given);
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
        }
        let permit = self.hold(u32::try_from(frames.len()).unwrap_or(u32::MAX).min(HELD)).await?;
        Ok(Piece { frames: Bytes::from_owner(Held { frames, _permit: permit }), last })
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
            let mut connection = self.connect(engine).await?;
            let mut call = SCRIPT.key(engine.settings.stream());
            call.arg(format!("{after}-0")).arg(format!("{up_to}-0")).arg(bytes);
            call.invoke_async(&mut connection).await
        };
        if let Ok(raw) = answered(ANSWER_TIMEOUT, read).await {
            return Ok(raw);
        }
        // Another connection may be good.
        *self.connection.lock().await = None;
        Err(End::EngineAway)
    }

    async fn connect(&self, engine: &Engine) -> RedisResult<MultiplexedConnection> {
        let mut place = self.connection.lock().await;
        if place.is_none() {
            *place = Some(engine.connect().await?);
        }
        place.clone().ok_or_else(|| (ErrorKind::Io, "no connection").into())
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
        if !engine.archive.has(engine, &room, given).await? {
            return Ok(None);
        }
        Ok(Some(Self { engine: Arc::clone(engine), room, given, next: None, stuck: None }))
    }

    /// What comes next.
    ///
    /// # Errors
    /// Why nothing does. If it is because the messages are gone, the reader learns that when it comes back.
    pub(in crate::room) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Way, End>> {
        self.stuck = None;
        loop {
            let Some(next) = &mut self.next else {
                if let Some(position) = self.room.position_after(SendTime::of_micros(self.given)) {
                    return Poll::Ready(Ok(Way::There(position)));
                }
                let (engine, room, given) = (Arc::clone(&self.engine), Arc::clone(&self.room), self.given);
                self.next = Some(Box::pin(async move { engine.archive.piece(&engine, &room, given).await }));
                continue;
            };
            let piece = ready!(next.as_mut().poll(cx));
            self.next = None;
            let Piece { frames, last } = match piece {
                Ok(piece) => piece,
                Err(end) => return Poll::Ready(Err(end)),
            };
            if last == self.given {
                // The room has messages that this reader has not, and the stream has none that come before them.
                return Poll::Ready(Err(End::FellBehind));
            }
            self.given = last;
            if !frames.is_empty() {
                return Poll::Ready(Ok(Way::Frames(frames)));
            }
        }
    }

    /// For a reader that takes nothing: completes when it has done so for too long.
    pub(in crate::room) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let stuck = self.stuck.get_or_insert_with(Stuck::new);
        loop {
            ready!(stuck.tick.as_mut().poll(cx));
            stuck.ticks += 1;
            if stuck.ticks >= TAKES_NOTHING || self.engine.archive.crowded.load(Ordering::Relaxed) {
                return Poll::Ready(End::FellBehind);
            }
            stuck.tick.as_mut().reset(Instant::now() + TAKES_NOTHING_IN_A_CROWD);
        }
    }
}

impl Stuck {
    fn new() -> Self {
        Self { tick: Box::pin(tokio::time::sleep(TAKES_NOTHING_IN_A_CROWD)), ticks: 0 }
    }
}
