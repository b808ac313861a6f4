//! The point at which a reader begins: now, some time ago, or where another stream was cut.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;

use super::epoch::Epoch;
use super::error::FuturePosition;
use super::log::ResumePoint;
use super::reader::Reader;
use super::state::Room;
use crate::proto::frame::{self, PREFIX_LEN};
use crate::send_time::SendTime;

/// The point at which a reader asks to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the next message that is accepted.
    Now,
    /// With the first message of this epoch that was accepted within this time before now.
    Ago(Duration),
    /// After the message with this time in this epoch: the reader has read everything up to it.
    After(Epoch, SendTime),
}

/// A new reader, and the point at which it begins.
#[derive(Debug)]
pub struct Opened {
    /// The reader.
    pub reader: Reader,
    /// The epoch that it reads.
    pub epoch: Epoch,
    /// The reader gets every message after this time. A reader that has got no message yet can
    /// resume here.
    pub position: SendTime,
    /// Whether the reader begins at the point that it asked for. If not, messages may be missing,
    /// and it begins with the oldest message that the room has. `None` for [`Start::Now`].
    pub resumed: Option<bool>,
}

/// The time of an encoded message, without the rest of it.
#[derive(Clone, PartialEq, Message)]
struct OnlyTime {
    #[prost(message, tag = "3")]
    send_time: Option<Timestamp>,
}

impl Room {
    /// Opens a reader.
    ///
    /// # Errors
    /// [`FuturePosition`], if the reader wants to begin after a time that the room has not reached.
    pub fn open(self: &Arc<Self>, start: Start) -> Result<Opened, FuturePosition> {
        let state = self.lock();
        let (epoch, after) = match start {
            Start::Now => {
                let reader = Reader::new(Arc::clone(self), state.log.end());
                let position = state.log.last();
                return Ok(Opened { reader, epoch: self.epoch, position, resumed: None });
            }
            // The next message may have any time after the last one, so the reader can't begin
            // later.
            Start::Ago(time) => {
                // A clock that shows an impossible time accepts no message either.
                let since = self.stamp(&state).map_or(state.log.last(), |now| now.minus(time));
                (self.epoch, since.clamp(state.log.birth(), state.log.last()))
            }
            Start::After(epoch, after) => (epoch, after),
        };
        let point = if epoch != self.epoch {
            state.log.oldest()
        } else if after > state.log.last() {
            return Err(FuturePosition);
        } else {
            state.log.resume(after)
        };
        drop(state);
        let (offset, position, resumed) = match point {
            // The search needs no lock. A thousand readers may resume at once.
            ResumePoint::Within(start, frames) => (start + skip(&frames, after).0, after, true),
            ResumePoint::Oldest(start, dropped) => (start, dropped, false),
        };
        let reader = Reader::new(Arc::clone(self), offset);
        Ok(Opened { reader, epoch: self.epoch, position, resumed: Some(resumed) })
    }

    /// Opens a reader of everything after `after`, which may be later than the last message. `None`
    /// if some of it was dropped.
    pub fn open_after(self: &Arc<Self>, after: SendTime) -> Option<Opened> {
        let reader = Reader::new(Arc::clone(self), self.position_after(after)?);
        Some(Opened { reader, epoch: self.epoch, position: after, resumed: None })
    }

    /// The position after all messages up to `after`, which may be later than the last message.
    /// `None` if the log has dropped some of the messages after it.
    #[must_use]
    pub fn position_after(&self, after: SendTime) -> Option<u64> {
        let state = self.lock();
        let point = if after >= state.log.last() {
            ResumePoint::Within(state.log.end(), Bytes::new())
        } else {
            state.log.resume(after)
        };
        drop(state);
        let ResumePoint::Within(start, frames) = point else { return None };
        Some(start + skip(&frames, after).0)
    }

    /// Whether the room keeps a message with this time, or has dropped it last.
    #[must_use]
    pub fn has(&self, time: SendTime) -> bool {
        let state = self.lock();
        if state.log.breaks_at(time) {
            return true;
        }
        let point = state.log.resume(time);
        drop(state);
        matches!(point, ResumePoint::Within(_, frames) if skip(&frames, time).1 == Some(time))
    }
}

/// The length of all frames whose messages are not later than `after`, and the time of the last
/// one.
fn skip(frames: &[u8], after: SendTime) -> (u64, Option<SendTime>) {
    let (mut skipped, mut last, mut rest) = (0, None, frames);
    while let Some((message, behind)) = frame::split(rest) {
        let time = OnlyTime::decode(message).ok().and_then(|message| message.send_time);
        let time = time.and_then(|time| SendTime::try_from(time).ok());
        let Some(time) = time.filter(|time| *time <= after) else { break };
        last = Some(time);
        skipped += (PREFIX_LEN + message.len()) as u64;
        rest = behind;
    }
    (skipped, last)
}
