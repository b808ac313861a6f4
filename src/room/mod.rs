//! The chat itself, with no gRPC call and no HTTP in it: messages go in at one end, and all readers get them in one order.
//!
//! - A message is encoded once, for everybody ([`Draft`]).
//! - [`Room::post`] is one critical section: stamp the time, append to the log. Whoever is first in there is first for everyone.
//! - [`Room::post_once`] is the same for a message that may come twice, under one key.
//! - [`Room::dispatch`] ends a *round*: it publishes what was appended, and wakes the readers.
//! - A [`Reader`] is a position in the shared log. It reads at its own pace, holds nobody up, and when the log no longer reaches
//!   back to it, it is told so. So is one that does not read, before long: what it was given last is memory that is kept for it alone.
//! - A [`Keeper`] is the room of one process, or one of many processes that have their order from an [`engine`].

mod epoch;
mod error;
mod idempotency;
mod limits;
mod log;
mod message;
#[cfg(test)]
mod model;
mod posted;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod reader;
mod resume;
mod rounds;
mod sync;
mod waiters;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::{Instant, SystemTime};

use slab::Slab;
use tokio::sync::Notify;

pub use self::epoch::Epoch;
pub use self::error::{Closed, NotPosted};
pub use self::idempotency::{KEY_LIFETIME, KEY_LIFETIME_AT_LEAST};
pub use self::limits::{EngineNow, Kept, Limits};
pub use self::message::Draft;
pub use self::posted::Posted;
pub use self::reader::{End, Frames, Reader};
pub use self::resume::{NotYet, Opened, Start};

use self::idempotency::{KeyHasher, Keys, Known};
use self::log::{Found, Log};
use self::sync::{Mutex, MutexGuard, lock};
use self::waiters::{Ticket, Waiting};
use crate::process::{NoRandomness, test_panic};
use crate::send_time::{ClockError, SendTime};

/// One chat room.
pub struct Room {
    epoch: Epoch,
    // A lock of the standard library and not tokio's: it is held for at most a copy of one segment, and never across an await.
    state: Mutex<State>,
    /// In bytes.
    lap_length: u64,
    hasher: KeyHasher,
    /// The number of rounds that have ended, as in `State::waiting`, to be looked at without the lock.
    rounds: AtomicU64,
    /// The number of laps that have ended, as in `State::blocked`.
    laps: AtomicU64,
    /// Tells the dispatcher that there is something to publish.
    posted: Notify,
}

#[derive(Debug)]
struct State {
    log: Log,
    keys: Keys,
    /// Those who have read everything, until the end of the round.
    waiting: Waiting,
    /// Those who can't read, until the end of the lap: then those whose next message is gone are over.
    blocked: Waiting,
    /// When the first message was posted that no round has published yet.
    first: Option<Instant>,
    /// Where the log began when the last lap ended.
    lap: u64,
    closed: bool,
    /// What readers are told once they have had everything, when it is closed.
    end: End,
}

/// The part of the retention, one in so many, that the log's beginning moves on in one lap.
const LAPS: u64 = 8;

impl Room {
    /// An empty room.
    ///
    /// # Errors
    /// [`NoRandomness`]: the room has no epoch then.
    pub fn new(limits: Limits) -> Result<Self, NoRandomness> {
        // With a clock that is too far ahead the room takes no message until it is set right.
        let birth = SendTime::default().next(SystemTime::now()).unwrap_or_default();
        Ok(Self::in_epoch(limits, Epoch::new()?, birth))
    }

    /// An empty room with a name that somebody else has given it; all its messages will be later than `birth`.
    pub(crate) fn in_epoch(limits: Limits, epoch: Epoch, birth: SendTime) -> Self {
        let state = State {
            log: Log::new(limits.retention, birth),
            keys: Keys::new(limits.keys),
            waiting: Waiting::default(),
            blocked: Waiting::default(),
            first: None,
            lap: 0,
            closed: false,
            end: End::Closed,
        };
        Self {
            epoch,
            state: Mutex::new(state),
            lap_length: limits.retention as u64 / LAPS,
            hasher: KeyHasher::default(),
            rounds: AtomicU64::new(0),
            laps: AtomicU64::new(0),
            posted: Notify::new(),
        }
    }

    /// Puts a message into the room. When this returns, the message has its time and its place, and every reader there is will get
    /// it (with the next round of [`Room::dispatch`]).
    ///
    /// # Errors
    /// [`Closed`] after [`Room::close`], and [`ClockError`] where the clock shows no time that a message can have.
    pub fn post(&self, draft: Draft) -> Result<SendTime, NotPosted> {
        let state = self.lock();
        if state.closed {
            return Err(Closed.into());
        }
        let time = stamp(&state)?;
        self.append(state, draft, time);
        Ok(time)
    }

    /// The same for a message that may come more than once, under a key: the first time it is posted, and again within
    /// [`KEY_LIFETIME`] its time is all that happens, also after [`Room::close`].
    ///
    /// # Errors
    /// See [`NotPosted`]. The message is not in the room, whatever it says.
    pub fn post_once(&self, key: &str, draft: Draft) -> Result<Posted, NotPosted> {
        let (key, now) = (self.hasher.key(key, &draft), Instant::now());
        let mut state = self.lock();
        match state.keys.look(key, now) {
            Known::Same(time) => Ok(Posted::Before(time)),
            Known::Other => Err(NotPosted::KeyTaken),
            Known::Full => Err(NotPosted::TooManyKeys),
            Known::New if state.closed => Err(Closed.into()),
            Known::New => {
                let time = stamp(&state)?;
                state.keys.remember(key, time, now);
                self.append(state, draft, time);
                Ok(Posted::Now(time))
            }
        }
    }

    /// Appends a message that has its time already, which is later than those of all before.
    pub(crate) fn append_at(&self, draft: Draft, time: SendTime) {
        self.append(self.lock(), draft, time);
    }

    fn append(&self, mut state: MutexGuard<'_, State>, draft: Draft, time: SendTime) {
        let first_of_its_round = state.log.published() == state.log.end();
        state.log.append(draft, time);
        test_panic("room");
        if first_of_its_round {
            state.first = Some(Instant::now());
        }
        drop(state);
        if first_of_its_round {
            self.posted.notify_one();
        }
    }

    /// Ends the room: no further message is accepted, and readers end once they have read what was.
    pub fn close(&self) {
        self.end(End::Closed);
    }

    /// The same, and says why to its readers.
    pub(crate) fn end(&self, why: End) {
        self.end_round(&mut Slab::new(), Some(why));
    }

    /// Shows readers what was appended before there were any.
    pub(crate) fn show(&self) {
        self.end_round(&mut Slab::new(), None);
    }

    /// Shows readers what was posted, and wakes them; says since when it had waited. `woken` is empty, before and after, and kept between
    /// rounds so that its memory is.
    fn publish(&self, woken: &mut Slab<Waker>) -> Option<Instant> {
        self.end_round(woken, None)
    }

    fn end_round(&self, woken: &mut Slab<Waker>, closing: Option<End>) -> Option<Instant> {
        let mut state = self.lock();
        // Together with what was posted last, or a reader in between would end without it.
        if let Some(end) = closing
            && !state.closed
        {
            (state.closed, state.end) = (true, end);
        }
        state.log.publish();
        state.waiting.end_round(woken);
        self.rounds.store(state.waiting.rounds(), Ordering::Release);
        if closing.is_some() || state.log.begin() >= state.lap + self.lap_length {
            state.lap = state.log.begin();
            state.blocked.end_round_into(woken);
            self.laps.store(state.blocked.rounds(), Ordering::Release);
        }
        let first = state.first.take();
        drop(state);
        // Outside the lock: each of them comes for it at once.
        woken.drain().for_each(Waker::wake);
        first
    }

    /// What the room keeps now.
    pub fn kept(&self) -> Kept {
        let state = self.lock();
        Kept { bytes: state.log.kept_bytes(), keys: state.keys.len(), engine: None }
    }

    fn poll_read(&self, position: u64, ticket: &mut Option<Ticket>, waker: &Waker) -> Poll<Result<Frames, End>> {
        let mut state = self.lock();
        match state.log.read(position) {
            Found::Frames(bytes) => {
                let more = position + (bytes.len() as u64) < state.log.published() || state.closed;
                if !more {
                    *ticket = Some(state.waiting.wait(*ticket, waker));
                }
                Poll::Ready(Ok(Frames { bytes, more }))
            }
            Found::Gone => Poll::Ready(Err(End::FellBehind)),
            Found::Nothing if state.closed => Poll::Ready(Err(state.end)),
            // Looked and not found, registered to be woken: one critical section, so no round can pass unnoticed in between.
            Found::Nothing => {
                *ticket = Some(state.waiting.wait(*ticket, waker));
                Poll::Pending
            }
        }
    }

    fn poll_end(&self, position: u64, ticket: &mut Option<Ticket>, waker: &Waker) -> Poll<End> {
        let mut state = self.lock();
        if position < state.log.begin() {
            return Poll::Ready(End::FellBehind);
        }
        if state.closed && position >= state.log.published() {
            return Poll::Ready(state.end);
        }
        *ticket = Some(state.blocked.wait(*ticket, waker));
        Poll::Pending
    }

    /// Whether the holder of `ticket` still has its place: nothing has happened since, and what happens next will wake it.
    fn is_waiting(&self, ticket: Ticket) -> bool {
        ticket.is_of_round(self.rounds.load(Ordering::Acquire))
    }

    /// The same for a place among the blocked.
    fn is_blocked(&self, ticket: Ticket) -> bool {
        ticket.is_of_round(self.laps.load(Ordering::Acquire))
    }

    fn leave(&self, waiting: Option<Ticket>, blocked: Option<Ticket>) {
        if waiting.is_none() && blocked.is_none() {
            return;
        }
        let mut state = self.lock();
        if let Some(ticket) = waiting {
            state.waiting.leave(ticket);
        }
        if let Some(ticket) = blocked {
            state.blocked.leave(ticket);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The time of the message that is appended next, under the same lock.
fn stamp(state: &State) -> Result<SendTime, ClockError> {
    state.log.last().next(SystemTime::now())
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}
