//! The backends of a room. A backend gives messages their time and their place: in the memory of
//! this process, or in a Redis that many servers share. Readers and rounds are the same for both.

mod environment;
mod error;
mod memory;
pub mod redis;

use std::sync::Arc;
use std::time::Duration;

pub use self::error::{OpenError, PostError};

use self::redis::{RedisDriver, RedisRoom};
use crate::process::{NoRandomness, test_panic};
use crate::room::{EncodedMessage, Epoch, Opened, Posted, Room, RoomLimits, Start, Usage};

/// The backend of a server's room.
#[derive(Debug)]
pub enum Backend {
    /// This process is the only server, and the room ends with it.
    Memory(Arc<Room>),
    /// Redis has the messages of all servers of the room.
    Redis(Arc<RedisRoom>),
}

/// The background work of a room.
#[derive(Debug)]
pub enum Driver {
    /// The rounds of a room in memory.
    Memory(Arc<Room>),
    /// The tasks of a room in Redis.
    Redis(RedisDriver),
}

impl Backend {
    /// A room in Redis if there are settings for it, else one in memory; and its driver.
    ///
    /// # Errors
    /// [`NoRandomness`], for a room in memory.
    pub fn new(redis: Option<redis::Settings>, limits: RoomLimits) -> Result<(Self, Driver), NoRandomness> {
        if let Some(settings) = redis {
            let (room, driver) = RedisRoom::new(settings, limits);
            return Ok((Self::Redis(room), Driver::Redis(driver)));
        }
        let room = memory::new_room(limits)?;
        Ok((Self::Memory(Arc::clone(&room)), Driver::Memory(room)))
    }

    /// Posts a message: in `epoch`, if the sender names one, and once, if the sender gives a key.
    ///
    /// # Errors
    /// See [`PostError`].
    pub async fn post(
        &self,
        epoch: Option<Epoch>,
        key: Option<&str>,
        message: EncodedMessage,
    ) -> Result<Posted, PostError> {
        match self {
            Self::Memory(room) => Ok(memory::post(room, epoch, key, message)?),
            // Boxed to keep the future small.
            Self::Redis(room) => Box::pin(room.post(epoch, key, message)).await,
        }
    }

    /// Opens a reader.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(&self, start: Start) -> Result<Opened, OpenError> {
        match self {
            Self::Memory(room) => Ok(room.open(start)?),
            Self::Redis(room) => Box::pin(room.open(start)).await,
        }
    }

    /// Closes the room: it accepts no further message, and readers end once they have read
    /// everything.
    pub fn close(&self) {
        match self {
            Self::Memory(room) => room.close(),
            Self::Redis(room) => room.close(),
        }
    }

    /// How much this server keeps of the room.
    #[must_use]
    pub fn usage(&self) -> Usage {
        match self {
            Self::Memory(room) => room.usage(),
            Self::Redis(room) => room.usage(),
        }
    }

    /// The state of this server's connection to Redis, if Redis keeps the room.
    #[must_use]
    pub fn redis_health(&self) -> Option<redis::Health> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(room) => Some(room.health()),
        }
    }
}

impl Driver {
    /// Drives the room; never returns. Calls `round_ended` after each round, as
    /// [`Room::dispatch`] does.
    pub async fn run(self, round_ended: impl Fn(Duration)) {
        let ended = |lag| {
            test_panic("dispatcher");
            round_ended(lag);
        };
        match self {
            Self::Memory(room) => room.dispatch(ended).await,
            Self::Redis(driver) => driver.run(ended).await,
        }
    }
}
