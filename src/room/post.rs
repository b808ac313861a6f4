//! Posting a message: stamps its time and appends it, in one critical section.

use std::time::Instant;

use super::error::Rejection;
use super::idempotency::KeyLookup;
use super::message::EncodedMessage;
use super::state::{Lifecycle, Room, RoomState};
use super::sync::MutexGuard;
use crate::send_time::SendTime;

/// A message that is in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// This call has appended the message, with this time.
    Now(SendTime),
    /// An earlier call with the same key has appended the message. This call has changed nothing.
    Before(SendTime),
}

impl Posted {
    /// The time of the message.
    #[must_use]
    pub fn time(self) -> SendTime {
        match self {
            Self::Now(time) | Self::Before(time) => time,
        }
    }
}

impl Room {
    /// Posts a message. When this returns, the message has its time and its place, and every open
    /// reader will get it with the next round of [`Room::dispatch`].
    ///
    /// # Errors
    /// [`Rejection::Closed`], and [`Rejection::Clock`] where the clock shows a time that no message
    /// can have.
    pub fn post(&self, message: EncodedMessage) -> Result<SendTime, Rejection> {
        let state = self.lock();
        let time = self.accept(&state)?;
        self.append(state, message, time);
        Ok(time)
    }

    /// Posts a message under an idempotency key: the first call appends it, and a repeat within
    /// [`KEY_LIFETIME`](super::KEY_LIFETIME) only returns its time, also in a closed room.
    ///
    /// # Errors
    /// See [`Rejection`].
    pub fn post_once(&self, key: &str, message: EncodedMessage) -> Result<Posted, Rejection> {
        let (key, now) = (self.key_hasher.hash(key, &message), Instant::now());
        let mut state = self.lock();
        match state.keys.look_up(key, now) {
            KeyLookup::Repeat(time) => Ok(Posted::Before(time)),
            KeyLookup::OtherMessage => Err(Rejection::KeyTaken),
            KeyLookup::Full => Err(Rejection::TooManyKeys),
            KeyLookup::New => {
                let time = self.accept(&state)?;
                state.keys.remember(key, time, now);
                self.append(state, message, time);
                Ok(Posted::Now(time))
            }
        }
    }

    /// Appends a message that a backend has accepted. `time` must be later than the times of all
    /// messages before.
    pub fn append_at(&self, message: EncodedMessage, time: SendTime) {
        self.append(self.lock(), message, time);
    }

    /// The time of the next message, or the reason why the room accepts none.
    fn accept(&self, state: &RoomState) -> Result<SendTime, Rejection> {
        match state.lifecycle {
            Lifecycle::Open => Ok(self.stamp(state)?),
            Lifecycle::Closed(_) => Err(Rejection::Closed),
        }
    }

    fn append(&self, mut state: MutexGuard<'_, RoomState>, message: EncodedMessage, time: SendTime) {
        let first_of_its_round = state.log.published() == state.log.end();
        state.log.append(message, time);
        if first_of_its_round {
            state.first_appended = Some(Instant::now());
        }
        drop(state);
        if first_of_its_round {
            self.appended.notify_one();
        }
    }
}
