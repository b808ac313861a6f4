//! A room that many servers serve: its messages are in a stream of an engine (Redis or Valkey), and each server has its newest ones
//! in a [`Room`] of its own, for its readers.
//!
//! - A script on the engine is the critical section (`room.lua`): it gives each message its time and its place. The stream's ids are
//!   the times, in microseconds, so all servers agree on both.
//! - What is posted is handed to the engine in batches (`writer.rs`), and acknowledged when the engine has it, or when it is as safe there
//!   as is asked for (`confirm.rs`).
//! - What the stream has is appended to the room as it comes (`follower.rs`), whichever server posted it.
//! - What a reader needs from further back than that room reaches is read from the stream for it (`past.rs`).
//! - The epoch is the engine's. When the engine has lost messages a new one begins, and with it a new [`Room`]: readers of the old one
//!   end, and are told of the gap when they come back.

mod confirm;
mod connect;
mod driver;
mod entry;
mod follower;
mod past;
mod script;
mod settings;
mod url;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

pub use self::driver::Driver;
pub(super) use self::past::{Past, Way};
pub use self::settings::Settings;
pub use self::url::{Url, UrlError};

use self::past::Archive;
use self::script::{Known, Message, Place};
use super::{Closed, Draft, EngineNow, Epoch, Kept, Limits, NotOpened, NotPosted, NotYet, Opened, Reader, Room, Start};
use crate::send_time::SendTime;

/// Between two tries to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// For an answer of the engine: it may have to write to a slow disk first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// For a stream to open: the engine is asked where it ends, and this server must have come so far.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of messages that wait for the engine.
const MAX_WAITING: u32 = 64 * 1024 * 1024;
/// What a message that waits takes beside its text.
const MESSAGE_OVERHEAD: usize = 256;

/// The room as one of its servers has it.
pub struct Engine {
    settings: Settings,
    limits: Limits,
    requests: mpsc::UnboundedSender<Request>,
    waiting: Arc<Semaphore>,
    /// None before the engine has been reached for the first time.
    life: watch::Sender<Option<Life>>,
    /// The highest time ever seen, in microseconds, whatever the epoch.
    floor: AtomicU64,
    /// The last message of which a sender here was told, in microseconds.
    acknowledged: AtomicU64,
    closing: watch::Sender<bool>,
    /// The follower has lost its connection; the writer's is likely to be gone too.
    lost: Notify,
    archive: Archive,
    /// The stream is being read.
    there: watch::Sender<bool>,
    /// How often that has ended.
    losses: AtomicU64,
    /// How often the room has begun anew.
    beginnings: AtomicU64,
}

/// The messages of one epoch, so far as they have come here.
#[derive(Debug, Clone)]
struct Life {
    room: Arc<Room>,
    /// In microseconds: the room's messages up to this time are of epochs before.
    before: u64,
    /// In microseconds: what its first message of this epoch follows on.
    begin: u64,
    /// In microseconds: everything up to this time is in the room.
    reached: u64,
}

impl Life {
    /// Whether a reader of this epoch can have come to this time and no further: the room has a message with it, or began there.
    fn has(&self, after: SendTime) -> bool {
        let micros = after.as_micros();
        micros == self.begin || self.room.has(SendTime::of_micros(micros))
    }
}

/// What the writer is asked for.
#[derive(Debug)]
enum Request {
    Post {
        message: Message,
        answer: oneshot::Sender<Result<SendTime, NotPosted>>,
        _waiting: OwnedSemaphorePermit,
    },
    /// Where the stream ends.
    Ask(oneshot::Sender<Option<Place>>),
}

impl Engine {
    /// The room, and what must run for it to live.
    #[must_use]
    pub fn new(settings: Settings, limits: Limits) -> (Arc<Self>, Driver) {
        let (sender, requests) = mpsc::unbounded_channel();
        let engine = Arc::new(Self {
            settings,
            limits,
            requests: sender,
            waiting: Arc::new(Semaphore::new(MAX_WAITING as usize)),
            life: watch::Sender::new(None),
            floor: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            closing: watch::Sender::new(false),
            lost: Notify::new(),
            archive: Archive::new(),
            there: watch::Sender::new(false),
            losses: AtomicU64::new(0),
            beginnings: AtomicU64::new(0),
        });
        (Arc::clone(&engine), Driver { engine, requests })
    }

    /// Puts a message into the room; completes when the engine has it.
    ///
    /// # Errors
    /// See [`NotPosted`].
    pub(super) async fn post(
        &self,
        epoch: Option<Epoch>,
        key: Option<&str>,
        draft: &Draft,
    ) -> Result<SendTime, NotPosted> {
        if *self.closing.borrow() {
            return Err(Closed.into());
        }
        let (author, text) = draft.author_and_text();
        let size = u32::try_from(author.len() + text.len() + MESSAGE_OVERHEAD).unwrap_or(u32::MAX);
        let waiting = Arc::clone(&self.waiting).try_acquire_many_owned(size).map_err(|_| NotPosted::TooManyWaiting)?;
        let (answer, answered) = oneshot::channel();
        let message = Message { epoch, key: key.map(str::to_owned), author, text };
        let request = Request::Post { message, answer, _waiting: waiting };
        self.requests.send(request).map_err(|_| NotPosted::Away)?;
        answered.await.unwrap_or(Err(NotPosted::Unknown))
    }

    /// Opens a reader, which gets nothing that was accepted before, by whichever server. For that the engine is asked where the stream
    /// ends, and what this server has not seen of it yet is waited for.
    ///
    /// # Errors
    /// See [`NotOpened`].
    pub(super) async fn open(self: &Arc<Self>, start: Start) -> Result<Opened, NotOpened> {
        // What is here already can be read on, whether the engine is there or not.
        if let Start::After(epoch, after) = start
            && let Some(life) = self.life().filter(|life| life.room.epoch() == epoch)
            && let Ok(opened) = life.room.open(start)
        {
            return self.resume(life, after, opened).await;
        }
        let opened = tokio::time::timeout(OPEN_TIMEOUT, self.open_at_the_end(start)).await;
        opened.unwrap_or(Err(NotOpened::Away))
    }

    /// What this server has for a reader of its epoch, held against what the reader has had and what the stream has: the server alone does
    /// not know all that is missing, and need not have all that is there.
    async fn resume(self: &Arc<Self>, life: Life, after: SendTime, opened: Opened) -> Result<Opened, NotOpened> {
        if opened.resumed == Some(true) {
            // If it is not here, the reader has had a message that the engine has lost while no server was there to see it. What else was
            // lost then, nobody knows any more.
            return Ok(Opened { resumed: Some(life.has(after)), ..opened });
        }
        let room = life.room;
        let past = tokio::time::timeout(OPEN_TIMEOUT, Past::open(self, Arc::clone(&room), after)).await;
        match past {
            Ok(Ok(Some(past))) => {
                let reader = Reader::coming(room, past);
                Ok(Opened { reader, epoch: opened.epoch, position: after, resumed: Some(true) })
            }
            Ok(Ok(None)) => Ok(opened),
            // Nobody can say whether something is missing, and another time or another server can.
            Ok(Err(_)) | Err(_) => Err(NotOpened::Away),
        }
    }

    async fn open_at_the_end(self: &Arc<Self>, start: Start) -> Result<Opened, NotOpened> {
        loop {
            if *self.closing.borrow() {
                return Err(Closed.into());
            }
            let (answer, answered) = oneshot::channel();
            self.requests.send(Request::Ask(answer)).map_err(|_| NotOpened::Away)?;
            let end = answered.await.ok().flatten().ok_or(NotOpened::Away)?;
            let life = self.wait_for(end).await.ok_or(NotOpened::Away)?;
            let (room, before) = (&life.room, life.before);
            match start {
                Start::Now => {
                    if let Some(opened) = room.open_after(SendTime::of_micros(end.reached)) {
                        return Ok(opened);
                    }
                    // So much has come since then that it is gone. Once more, or the reader would begin with a gap.
                }
                Start::After(epoch, after) if epoch == end.epoch => {
                    if after > SendTime::of_micros(end.reached) {
                        return Err(NotYet.into());
                    }
                    let opened = match room.open(start) {
                        Ok(opened) => opened,
                        // The stream may end with no message, but with one that an epoch before has lost.
                        Err(not_yet) => Opened { resumed: Some(true), ..room.open_after(after).ok_or(not_yet)? },
                    };
                    return self.resume(life, after, opened).await;
                }
                Start::After(_, after) => {
                    // What the stream still has of epochs before, the reader has too, as far as it has come.
                    let had = after.min(SendTime::of_micros(before));
                    if before > 0
                        && let Some(rest) = room.open_after(had)
                    {
                        return Ok(Opened { resumed: Some(false), ..rest });
                    }
                    return Ok(room.open(start)?);
                }
            }
        }
    }

    /// Waits until this server has come so far.
    async fn wait_for(&self, place: Place) -> Option<Life> {
        let there = |life: &Life| life.room.epoch() == place.epoch && life.reached >= place.reached;
        let mut lives = self.life.subscribe();
        let life = lives.wait_for(|life| life.as_ref().is_some_and(there)).await.ok()?;
        life.clone()
    }

    /// Takes no more messages. Readers end once they have what was accepted.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// What this server keeps of the room.
    pub(super) fn kept(&self) -> Kept {
        let kept = self.room().map_or(Kept { bytes: 0, keys: 0, engine: None }, |room| room.kept());
        let engine = EngineNow {
            is_there: *self.there.borrow(),
            lost: self.losses.load(Ordering::Relaxed),
            begun_anew: self.beginnings.load(Ordering::Relaxed),
        };
        Kept { engine: Some(engine), ..kept }
    }

    fn life(&self) -> Option<Life> {
        self.life.borrow().clone()
    }

    fn room(&self) -> Option<Arc<Room>> {
        self.life().map(|life| life.room)
    }

    fn known(&self) -> Known {
        let life = self.life.borrow();
        let place = life.as_ref().map(|life| Place { epoch: life.room.epoch(), reached: life.reached });
        Known { place, floor: self.floor.load(Ordering::Relaxed), rewound: false }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        connect::connect(&self.settings).await
    }
}

/// The engine's answer, or an error when it does not come in time.
async fn answered<T>(timeout: Duration, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    tokio::time::timeout(timeout, answer)
        .await
        .unwrap_or_else(|_| Err(RedisError::from((ErrorKind::Io, "the engine gives no answer"))))
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("settings", &self.settings).finish_non_exhaustive()
    }
}
