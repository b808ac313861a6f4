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

mod ack;
mod append;
mod asking;
mod backfill;
mod breaker;
mod connect;
mod connection;
mod driver;
mod entry;
mod pauses;
mod queue;
mod refusal;
mod script;
mod settings;
mod tail;
mod url;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError, RedisResult};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

pub use self::driver::Driver;
pub use self::refusal::{Refusal, RefusalCounts};
pub use self::settings::Settings;
pub use self::url::{Url, UrlError};
pub(crate) use crate::backend::redis::backfill::{Past, Way};

use self::asking::{Asking, Question};
use self::backfill::Archive;
use self::connection::Connection;
use self::refusal::{Refusals, RefusedNow};
use self::script::{Known, Message, Place, StreamEnd};
use crate::backend::NotOpened;
use crate::room::{
    Closed, Draft, EngineNow, Epoch, Kept, Limits, NotPosted, NotYet, Opened, Posted, Reader, Room, Start,
};
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
    asking: Asking<Result<StreamEnd, NotOpened>>,
    archive: Archive,
    /// The stream is being read.
    there: watch::Sender<bool>,
    refused: watch::Sender<RefusedNow>,
    refusals: Refusals,
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
    /// When it began, the room had all that the stream had of this epoch.
    whole: bool,
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
        answer: oneshot::Sender<Result<Posted, NotPosted>>,
        _waiting: OwnedSemaphorePermit,
    },
    /// Where the stream ends.
    Ask(Question<Result<StreamEnd, NotOpened>>),
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
            asking: Asking::new(),
            archive: Archive::new(),
            there: watch::Sender::new(false),
            refused: watch::Sender::default(),
            refusals: Refusals::default(),
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
    ) -> Result<Posted, NotPosted> {
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
        // The sender is the engine's own.
        let mut refused = self.refused.subscribe();
        let opened = async {
            tokio::select! {
                biased;
                Ok(refused) = refused.wait_for(|refused| refused.reads.is_some()) => Err(not_opened(&refused)),
                opened = self.open_at_the_end(start) => opened,
            }
        };
        tokio::time::timeout(OPEN_TIMEOUT, opened).await.unwrap_or(Err(NotOpened::Away))
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
            Ok(Err(_)) | Err(_) => Err(not_opened(&self.refused.borrow())),
        }
    }

    async fn open_at_the_end(self: &Arc<Self>, start: Start) -> Result<Opened, NotOpened> {
        let asked = Instant::now();
        loop {
            if *self.closing.borrow() {
                return Err(Closed.into());
            }
            let end = self.asking.ask(|question| drop(self.requests.send(Request::Ask(question)))).await;
            let StreamEnd { place: end, clock } = end.unwrap_or(Err(NotOpened::Away))?;
            let life = self.wait_for(end).await.ok_or(NotOpened::Away)?;
            let (room, before) = (&life.room, life.before);
            match start {
                Start::Now => {
                    if let Some(opened) = room.open_after(SendTime::of_micros(end.reached)) {
                        return Ok(opened);
                    }
                    // So much has come since then that it is gone. Once more, or the reader would begin with a gap.
                }
                Start::Ago(time) => {
                    // By the engine's clock, whose times the messages have.
                    let now = SendTime::of_micros(clock.max(end.reached));
                    let micros = now.minus(time + asked.elapsed()).as_micros().min(end.reached);
                    let micros = if life.whole { micros.max(life.begin) } else { micros };
                    return self.open_since(life, SendTime::of_micros(micros)).await;
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

    /// A reader of everything after this time, or of the oldest that there is.
    async fn open_since(self: &Arc<Self>, life: Life, after: SendTime) -> Result<Opened, NotOpened> {
        if let Some(opened) = life.room.open_after(after) {
            return Ok(Opened { resumed: Some(true), ..opened });
        }
        let room = life.room;
        match Past::since(self, Arc::clone(&room), after).await {
            Ok(Some((past, position))) => {
                let epoch = room.epoch();
                Ok(Opened { reader: Reader::coming(room, past), epoch, position, resumed: Some(position == after) })
            }
            Ok(None) => Ok(room.open(Start::After(room.epoch(), after))?),
            Err(_) => Err(NotOpened::Away),
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
            refused: self.refusals.now(),
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

    /// What the engine refuses, if this is not for want of an answer. It is counted.
    fn refusal(&self, error: &RedisError) -> Option<Refusal> {
        let refusal = Refusal::of(error, &self.settings)?;
        self.refusals.count(&refusal);
        Some(refusal)
    }

    async fn connect(&self) -> RedisResult<Connection> {
        connect::connect(&self.settings).await
    }
}

/// Why a reader can't begin when the engine does not let the stream be read, or is away.
fn not_opened(refused: &RefusedNow) -> NotOpened {
    refused.reads.as_ref().map_or(NotOpened::Away, |refusal| NotOpened::Refused(refusal.clone()))
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
