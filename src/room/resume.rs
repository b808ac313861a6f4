//! Where a stream begins: now, so long ago, or where another one has been cut.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;
use thiserror::Error;

use super::log::Resume;
use super::{Epoch, Reader, Room, stamp};
use crate::proto::frame;
use crate::send_time::SendTime;

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the next message that is accepted.
    Now,
    /// With the first message that was accepted in so long a time before now, in this epoch.
    Ago(Duration),
    /// After the message with this time, in the room of this epoch: the reader has had everything up to it.
    After(Epoch, SendTime),
}

/// A reader, and what it begins with.
#[derive(Debug)]
pub struct Opened {
    /// The reader itself.
    pub reader: Reader,
    /// Which life of the room it reads.
    pub epoch: Epoch,
    /// It gets everything after this time: where it can go on later, before it has got a message.
    pub position: SendTime,
    /// Whether it begins where it asked to: nothing is missing. If not, it begins with the oldest message
    /// there is. `None` if it did not ask.
    pub resumed: Option<bool>,
}

/// The reader claims to have had a message that the room has not: it is not from this room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the room has no message with that time yet")]
pub struct NotYet;

/// Of a message only its time.
#[derive(Clone, PartialEq, Message)]
struct OnlyTime {
    #[prost(message, tag = "3")]
    send_time: Option<Timestamp>,
}

impl Room {
    /// Opens a reader.
    ///
    /// # Errors
    /// [`NotYet`], if it wants to go on after a time that is still to come.
    pub fn open(self: &Arc<Self>, start: Start) -> Result<Opened, NotYet> {
        let mut state = self.lock();
        let (epoch, after) = match start {
            Start::Now => {
                let reader = Reader::new(Arc::clone(self), state.log.end());
                return Ok(Opened { reader, epoch: self.epoch, position: state.log.last(), resumed: None });
            }
            // What comes next may have any time after the last one, wherever the clock goes.
            Start::Ago(time) => {
                // While the clock shows no time that a message can have, none is accepted either.
                let since = stamp(&state).map_or(state.log.last(), |now| now.minus(time));
                (self.epoch, since.clamp(state.log.birth(), state.log.last()))
            }
            Start::After(epoch, after) => (epoch, after),
        };
        let found = if epoch != self.epoch {
            state.log.oldest()
        } else if after > state.log.last() {
            return Err(NotYet);
        } else {
            state.log.resume(after)
        };
        drop(state);
        let (offset, position, resumed) = match found {
            // The search is done without the lock: a thousand readers may come back at once.
            Resume::Within(start, frames) => (start + skip(&frames, after).0 as u64, after, true),
            Resume::Oldest(start, forgotten) => (start, forgotten, false),
        };
        Ok(Opened {
            reader: Reader::new(Arc::clone(self), offset),
            epoch: self.epoch,
            position,
            resumed: Some(resumed),
        })
    }

    /// Opens a reader of everything after `after`, which may be later than all there is. `None` if something of it is gone already.
    pub(crate) fn open_after(self: &Arc<Self>, after: SendTime) -> Option<Opened> {
        let reader = Reader::new(Arc::clone(self), self.position_after(after)?);
        Some(Opened { reader, epoch: self.epoch, position: after, resumed: None })
    }

    /// Where a reader stands that has had everything up to `after`, which may be later than all there is. `None` if something of what
    /// follows is gone already.
    pub(crate) fn position_after(&self, after: SendTime) -> Option<u64> {
        let mut state = self.lock();
        let found = if after >= state.log.last() {
            Resume::Within(state.log.end(), Bytes::new())
        } else {
            state.log.resume(after)
        };
        drop(state);
        let Resume::Within(start, frames) = found else { return None };
        Some(start + skip(&frames, after).0 as u64)
    }

    /// Whether there is a message with this time, or was one just before those that are kept.
    pub(crate) fn has(&self, time: SendTime) -> bool {
        let mut state = self.lock();
        if state.log.breaks_at(time) {
            return true;
        }
        let found = state.log.resume(time);
        drop(state);
        matches!(found, Resume::Within(_, frames) if skip(&frames, time).1 == Some(time))
    }

    /// The time of the last message.
    pub(crate) fn last(&self) -> SendTime {
        self.lock().log.last()
    }

    /// Which life of the room this is.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// Bytes of all frames in `frames` whose messages are not later than `after`, and the time of the last of them.
fn skip(frames: &[u8], after: SendTime) -> (usize, Option<SendTime>) {
    let (mut left, mut last) = (frames, None);
    while let Some((message, behind)) = frame::split(left) {
        let time = OnlyTime::decode(message).ok().and_then(|message| message.send_time);
        let time = time.and_then(|time| SendTime::try_from(time).ok()).filter(|time| *time <= after);
        if time.is_none() {
            break;
        }
        (left, last) = (behind, time);
    }
    (frames.len() - left.len(), last)
}
