//! The room: its log, its idempotency keys and its waiting readers, under one lock.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::Notify;

use super::epoch::Epoch;
use super::error::StreamEnd;
use super::idempotency::{KeyHasher, Keys};
use super::log::{Log, LogRead};
use super::sync::{Mutex, MutexGuard};
use super::waiters::{Ticket, Waiters};
use crate::send_time::{ClockError, SendTime};

/// The laps in one retention: a lap ends when the log has dropped `1 / LAPS` of the retention.
const LAPS: u64 = 8;

/// One chat room.
pub struct Room {
    pub(super) epoch: Epoch,
    /// A lock of the standard library and not tokio's, because no task holds it while it waits.
    state: Mutex<RoomState>,
    environment: Environment,
    lap_bytes: u64,
    pub(super) key_hasher: KeyHasher,
    /// The number of rounds that have ended, readable without the lock.
    pub(super) rounds: AtomicU64,
    /// The number of laps that have ended, readable without the lock.
    pub(super) laps: AtomicU64,
    /// Tells the dispatcher that there is something to publish.
    pub(super) appended: Notify,
}

/// How much the room keeps at most.
#[derive(Debug, Clone, Copy)]
pub struct RoomLimits {
    /// Bytes of messages, for all readers together.
    pub retention: usize,
    /// Idempotency keys.
    pub keys: usize,
}

/// How much the room keeps now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Bytes of messages.
    pub bytes: usize,
    /// Idempotency keys.
    pub keys: usize,
}

/// The functions that the process provides to the room.
#[derive(Debug, Clone, Copy)]
pub struct Environment {
    /// Reads the clock. The room calls it under its lock.
    pub clock: fn() -> SystemTime,
    /// Ends the program after a panic under the room's lock, because the room may be half changed
    /// then. A program that has ended is restarted. A chat that has lost its order would go
    /// unnoticed.
    pub poisoned: fn() -> !,
}

/// The part of the room that its lock protects.
#[derive(Debug)]
pub(super) struct RoomState {
    pub(super) log: Log,
    pub(super) keys: Keys,
    /// Readers that have read everything. They wait for the end of the round.
    pub(super) waiting: Waiters,
    /// Readers whose callers take nothing. They wait for the end of the lap. A reader whose next
    /// message was dropped then ends.
    pub(super) blocked: Waiters,
    /// The time at which the first message since the last round was appended.
    pub(super) first_appended: Option<Instant>,
    /// The start of the log when the last lap ended.
    pub(super) lap: u64,
    pub(super) lifecycle: Lifecycle,
}

/// Whether the room takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifecycle {
    Open,
    /// The room accepts no messages. A reader that has read everything ends for this reason.
    Closed(StreamEnd),
}

/// The result of one read.
#[derive(Debug)]
pub struct Frames {
    /// gRPC frames with many messages, never empty: up to about 64 KiB, or one larger message. All
    /// readers share these bytes. Only the bytes from a [`Backfill`](super::Backfill) are for one
    /// reader alone, and they may end within a message.
    pub bytes: Bytes,
    /// Whether there is more to read now. If not, the room wakes the reader's task when there is,
    /// and an earlier read would find nothing.
    pub more: bool,
}

impl Room {
    /// An empty room whose messages are later than `birth`.
    #[must_use]
    pub fn new(limits: RoomLimits, epoch: Epoch, birth: SendTime, environment: Environment) -> Self {
        let state = RoomState {
            log: Log::new(limits.retention, birth),
            keys: Keys::new(limits.keys),
            waiting: Waiters::default(),
            blocked: Waiters::default(),
            first_appended: None,
            lap: 0,
            lifecycle: Lifecycle::Open,
        };
        Self {
            epoch,
            state: Mutex::new(state),
            environment,
            lap_bytes: limits.retention as u64 / LAPS,
            key_hasher: KeyHasher::default(),
            rounds: AtomicU64::new(0),
            laps: AtomicU64::new(0),
            appended: Notify::new(),
        }
    }

    /// The room's epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The time of the last message, or the birth of the room.
    #[must_use]
    pub fn last(&self) -> SendTime {
        self.lock().log.last()
    }

    /// How much the room keeps now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let state = self.lock();
        Usage { bytes: state.log.bytes(), keys: state.keys.len() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock().unwrap_or_else(|_| (self.environment.poisoned)())
    }

    /// The time of a message that is appended now, under the same lock.
    pub(super) fn stamp(&self, state: &RoomState) -> Result<SendTime, ClockError> {
        state.log.last().next((self.environment.clock)())
    }

    /// Whether the lap has ended.
    pub(super) fn lap_has_ended(&self, state: &RoomState) -> bool {
        state.log.start() >= state.lap + self.lap_bytes
    }

    pub(super) fn poll_read(
        &self,
        position: u64,
        ticket: &mut Option<Ticket>,
        waker: &Waker,
    ) -> Poll<Result<Frames, StreamEnd>> {
        let mut state = self.lock();
        match (state.log.read(position), state.lifecycle) {
            (LogRead::Frames(bytes), lifecycle) => {
                let next = position + bytes.len() as u64;
                let more = next < state.log.published() || lifecycle != Lifecycle::Open;
                if !more {
                    *ticket = Some(state.waiting.wait(*ticket, waker));
                }
                Poll::Ready(Ok(Frames { bytes, more }))
            }
            (LogRead::Gone, _) => Poll::Ready(Err(StreamEnd::FellBehind)),
            (LogRead::Nothing, Lifecycle::Closed(end)) => Poll::Ready(Err(end)),
            // The reader waits under the same lock, so it can't miss the round in between.
            (LogRead::Nothing, Lifecycle::Open) => {
                *ticket = Some(state.waiting.wait(*ticket, waker));
                Poll::Pending
            }
        }
    }

    pub(super) fn poll_end(&self, position: u64, ticket: &mut Option<Ticket>, waker: &Waker) -> Poll<StreamEnd> {
        let mut state = self.lock();
        if position < state.log.start() {
            return Poll::Ready(StreamEnd::FellBehind);
        }
        if let Lifecycle::Closed(end) = state.lifecycle
            && position >= state.log.published()
        {
            return Poll::Ready(end);
        }
        *ticket = Some(state.blocked.wait(*ticket, waker));
        Poll::Pending
    }

    /// Whether a ticket among the waiting readers is valid: no round has ended since, and the next
    /// one wakes its reader.
    pub(super) fn is_waiting(&self, ticket: Ticket) -> bool {
        ticket.is_of_round(self.rounds.load(Ordering::Acquire))
    }

    /// Whether a ticket among the blocked readers is valid.
    pub(super) fn is_blocked(&self, ticket: Ticket) -> bool {
        ticket.is_of_round(self.laps.load(Ordering::Acquire))
    }

    pub(super) fn leave(&self, waiting: Option<Ticket>, blocked: Option<Ticket>) {
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
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
