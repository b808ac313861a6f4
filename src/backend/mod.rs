//! Who keeps the room: this process, or an engine that many servers share.

pub mod redis;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use self::redis::Engine;
use self::redis::Refusal;
use crate::process::NoRandomness;
use crate::room::{Closed, Draft, Epoch, Kept, Limits, NotPosted, NotYet, Opened, Posted, Room, Start};

/// The room, whoever keeps it. Readers and their rounds are the same in both; what differs is where messages get their time and place.
#[derive(Debug)]
pub enum Keeper {
    /// This process does: it is the only server, and the room ends with it.
    Embedded(Arc<Room>),
    /// An engine does, for all servers of the room.
    Engine(Arc<Engine>),
}

/// What must run for the room to live.
#[derive(Debug)]
pub enum Driver {
    /// Of a room in this process.
    Embedded(Arc<Room>),
    /// Of one in an engine.
    Engine(redis::Driver),
}

/// Why a reader can't begin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotOpened {
    /// It claims to have had what is not there.
    #[error(transparent)]
    NotYet(#[from] NotYet),
    /// The room is closed.
    #[error("the server is shutting down")]
    Closed(#[from] Closed),
    /// The engine is there, and refuses to let its stream be read.
    #[error("the engine that keeps the room refuses to say which messages are new ({0})")]
    Refused(Refusal),
    /// The engine is not there, so nobody can say where the reader begins.
    #[error("the engine that keeps the room is away: nobody can say which messages are new")]
    Away,
}

impl Keeper {
    /// A room in this process, or in the engine if there is one; and what must run for it.
    ///
    /// # Errors
    /// [`NoRandomness`], without an engine.
    pub fn new(engine: Option<redis::Settings>, limits: Limits) -> Result<(Self, Driver), NoRandomness> {
        if let Some(settings) = engine {
            let (engine, driver) = Engine::new(settings, limits);
            return Ok((Self::Engine(engine), Driver::Engine(driver)));
        }
        let room = Arc::new(Room::new(limits)?);
        Ok((Self::Embedded(Arc::clone(&room)), Driver::Embedded(room)))
    }

    /// Puts a message into the room: in `epoch`, if it is meant for one, and once, if it has a key.
    ///
    /// # Errors
    /// See [`NotPosted`].
    pub async fn post(&self, epoch: Option<Epoch>, key: Option<&str>, draft: Draft) -> Result<Posted, NotPosted> {
        match self {
            Self::Embedded(room) => {
                if epoch.is_some_and(|epoch| epoch != room.epoch()) {
                    return Err(NotPosted::OtherEpoch(room.epoch()));
                }
                match key {
                    Some(key) => room.post_once(key, draft),
                    None => Ok(Posted::Now(room.post(draft)?)),
                }
            }
            // In a box, or every call would be as large as this.
            Self::Engine(engine) => Box::pin(engine.post(epoch, key, &draft)).await,
        }
    }

    /// Opens a reader.
    ///
    /// # Errors
    /// See [`NotOpened`].
    pub async fn open(&self, start: Start) -> Result<Opened, NotOpened> {
        match self {
            Self::Embedded(room) => Ok(room.open(start)?),
            Self::Engine(engine) => Box::pin(engine.open(start)).await,
        }
    }

    /// No further message is accepted, and readers end once they have read what was.
    pub fn close(&self) {
        match self {
            Self::Embedded(room) => room.close(),
            Self::Engine(engine) => engine.close(),
        }
    }

    /// What is kept here now.
    #[must_use]
    pub fn kept(&self) -> Kept {
        match self {
            Self::Embedded(room) => room.kept(),
            Self::Engine(engine) => engine.kept(),
        }
    }
}

impl Driver {
    /// Keeps the room alive; never returns. `ended` is told of each round, as by [`Room::dispatch`].
    pub async fn run(self, ended: impl Fn(Duration)) {
        match self {
            Self::Embedded(room) => room.dispatch(ended).await,
            Self::Engine(driver) => driver.run(ended).await,
        }
    }
}
