//! The state that the tasks and calls of a room in Redis share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{RedisError, RedisResult};
use tokio::sync::{Notify, watch};

use super::connect::connect;
use super::connection::RedisConnection;
use super::error_reply::{CurrentErrors, ErrorReply, ErrorReplyCounters, ErrorReplyCounts};
use super::script::{Seen, StreamPosition, Tip};
use super::settings::Settings;
use super::tip_query::TipQueries;
use crate::backend::error::OpenError;
use crate::net::Budget;
use crate::room::{Room, RoomLimits};
use crate::send_time::SendTime;

/// Bytes of messages that may wait for Redis.
const WAITING_BYTES: usize = 64 * 1024 * 1024;

/// The state of this server's room. Times are in microseconds, as in the ids of the stream.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) limits: RoomLimits,
    /// The epoch as this server has it. `None` before Redis was reached for the first time.
    pub(super) epoch: watch::Sender<Option<EpochState>>,
    /// The latest time that this server has seen in any epoch.
    pub(super) latest_seen: AtomicU64,
    /// The time of the last message that was acknowledged here.
    pub(super) acknowledged: AtomicU64,
    /// The memory of messages that wait for Redis.
    pub(super) waiting: Budget,
    pub(super) closing: watch::Sender<bool>,
    /// Tells the task that appends when the task that reads has lost its connection. Then its own
    /// connection is likely to be gone too.
    pub(super) connection_lost: Notify,
    /// Queries for the end of the stream.
    pub(super) tip_queries: TipQueries<Result<Tip, OpenError>>,
    /// Whether the stream is being read.
    pub(super) connected: watch::Sender<bool>,
    /// How often this server has stopped reading the stream.
    pub(super) disconnects: AtomicU64,
    /// How often a new epoch has replaced one that this server had.
    pub(super) new_epochs: AtomicU64,
    pub(super) errors: watch::Sender<CurrentErrors>,
    pub(super) error_counters: ErrorReplyCounters,
}

/// The messages of one epoch, as far as this server has them.
#[derive(Debug, Clone)]
pub(super) struct EpochState {
    pub(super) room: Arc<Room>,
    /// The room's messages up to this time are of earlier epochs.
    pub(super) earlier_until: u64,
    /// The room's first message of this epoch follows the one with this time.
    pub(super) begin: u64,
    /// Whether the room began with all that the stream had of this epoch.
    pub(super) complete: bool,
    /// The room has everything up to this time.
    pub(super) reached: u64,
}

/// The state of this server's connection to Redis.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// Whether the stream is being read.
    pub connected: bool,
    /// How often this server has stopped reading the stream.
    pub disconnects: u64,
    /// How often a new epoch has begun because messages were lost.
    pub new_epochs: u64,
    /// How often Redis has answered with an error.
    pub errors: ErrorReplyCounts,
}

impl EpochState {
    /// Whether a reader of this epoch can have read up to this time: the room has a message with
    /// it, or begins there.
    pub(super) fn has(&self, time: SendTime) -> bool {
        let micros = time.as_micros();
        micros == self.begin || self.room.has(SendTime::of_micros(micros))
    }
}

impl Shared {
    pub(super) fn new(settings: Settings, limits: RoomLimits) -> Self {
        Self {
            settings,
            limits,
            epoch: watch::Sender::new(None),
            latest_seen: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            waiting: Budget::new(WAITING_BYTES),
            closing: watch::Sender::new(false),
            connection_lost: Notify::new(),
            tip_queries: TipQueries::new(),
            connected: watch::Sender::new(false),
            disconnects: AtomicU64::new(0),
            new_epochs: AtomicU64::new(0),
            errors: watch::Sender::default(),
            error_counters: ErrorReplyCounters::default(),
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    pub(super) fn epoch(&self) -> Option<EpochState> {
        self.epoch.borrow().clone()
    }

    pub(super) fn room(&self) -> Option<Arc<Room>> {
        self.epoch().map(|epoch| epoch.room)
    }

    /// The time up to which the room has everything.
    pub(super) fn reached(&self) -> u64 {
        self.epoch.borrow().as_ref().map_or(0, |epoch| epoch.reached)
    }

    pub(super) fn seen(&self) -> Seen {
        let position = self
            .epoch
            .borrow()
            .as_ref()
            .map(|epoch| StreamPosition { epoch: epoch.room.epoch(), micros: epoch.reached });
        Seen { position, latest: self.latest_seen.load(Ordering::Relaxed), lost_entries: false }
    }

    pub(super) fn health(&self) -> Health {
        Health {
            connected: *self.connected.borrow(),
            disconnects: self.disconnects.load(Ordering::Relaxed),
            new_epochs: self.new_epochs.load(Ordering::Relaxed),
            errors: self.error_counters.now(),
        }
    }

    pub(super) async fn connect(&self) -> RedisResult<RedisConnection> {
        connect(&self.settings).await
    }

    /// Counts the error reply in this error. `None` if Redis has not sent the error.
    pub(super) fn error_reply(&self, error: &RedisError) -> Option<ErrorReply> {
        let reply = ErrorReply::of(error, &self.settings)?;
        self.error_counters.count(&reply);
        Some(reply)
    }

    /// The reason why no reader can be opened while the stream can't be read.
    pub(super) fn open_error(&self) -> OpenError {
        match &self.errors.borrow().reads {
            Some(error) => OpenError::Refused(Arc::clone(&error.text)),
            None => OpenError::Away,
        }
    }
}
