//! The room's memory: the newest messages, encoded once for all readers.
//!
//! The log is a [`SegmentedLog`] of frames. The bytes that a reader gets from one read leave as one
//! DATA frame with many messages.

use bytes::Bytes;

use super::message::EncodedMessage;
pub(super) use crate::segmented_log::SEGMENT;
use crate::segmented_log::{Segment, SegmentedLog};
use crate::send_time::SendTime;

/// The result of reading at a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LogRead {
    /// Whole frames, never empty.
    Frames(Bytes),
    /// The position is the end.
    Nothing,
    /// The position is before everything that is kept.
    Gone,
}

/// The position at which a resuming reader continues.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ResumePoint {
    /// Among these frames, or at their end. The number is the position of the first frame.
    Within(u64, Bytes),
    /// At this position, where the log begins. The log has dropped messages that the reader has not
    /// read; the last of them has this time.
    Oldest(u64, SendTime),
}

/// The newest messages.
#[derive(Debug)]
pub(super) struct Log {
    /// The frames. The summary of a segment is the time of its last message.
    frames: SegmentedLog<SendTime>,
    /// Readers see the log up to this position, so all of them move in the same steps and share
    /// copies of the open segment.
    published: u64,
    /// A time before all messages.
    birth: SendTime,
    /// The time of the last message, or the birth.
    last: SendTime,
    /// The time of the last message that was dropped, or the birth.
    dropped: SendTime,
}

impl Log {
    /// An empty log that keeps at most `retention` bytes, and whose messages are later than
    /// `birth`.
    pub(super) fn new(retention: usize, birth: SendTime) -> Self {
        Self { frames: SegmentedLog::new(retention), published: 0, birth, last: birth, dropped: birth }
    }

    /// The position of the next message.
    pub(super) fn end(&self) -> u64 {
        self.frames.end()
    }

    /// The time of the last message, or the birth of the log.
    pub(super) fn last(&self) -> SendTime {
        self.last
    }

    /// A time before all messages.
    pub(super) fn birth(&self) -> SendTime {
        self.birth
    }

    /// The bytes that the log keeps.
    pub(super) fn bytes(&self) -> usize {
        self.frames.bytes()
    }

    /// The position of the oldest message that is kept.
    pub(super) fn start(&self) -> u64 {
        self.frames.start()
    }

    /// The position up to which readers see the log.
    pub(super) fn published(&self) -> u64 {
        self.published
    }

    /// The position at which a reader continues that has read everything up to `after`.
    pub(super) fn resume(&self, after: SendTime) -> ResumePoint {
        if after < self.dropped {
            return self.oldest();
        }
        let closed = self.frames.closed();
        let index = closed.partition_point(|segment| segment.summary <= after);
        if let Some(segment) = closed.get(index) {
            return ResumePoint::Within(segment.start, segment.bytes.clone());
        }
        let (start, open, _) = self.frames.open();
        ResumePoint::Within(start, Bytes::copy_from_slice(open))
    }

    /// The position at which the log begins.
    pub(super) fn oldest(&self) -> ResumePoint {
        ResumePoint::Oldest(self.start(), self.dropped)
    }

    /// Whether the message with this time ends a segment, or is the last one that was dropped.
    pub(super) fn breaks_at(&self, time: SendTime) -> bool {
        let last_of = |segment: &Segment<SendTime>| segment.summary;
        time == self.dropped || self.frames.closed().binary_search_by_key(&time, last_of).is_ok()
    }

    /// Adds a message at the end, and drops the oldest segments if the log is too large then.
    pub(super) fn append(&mut self, message: EncodedMessage, time: SendTime) {
        self.last = time;
        if message.frame_size() >= SEGMENT {
            self.frames.append_segment(message.into_frame(time), time);
        } else {
            self.frames.append(message.frame_size(), |frames, last| {
                message.append_to(frames, time);
                *last = time;
            });
        }
        if let Some(dropped) = self.frames.trim() {
            self.dropped = dropped;
        }
    }

    /// Shows readers everything up to the end.
    pub(super) fn publish(&mut self) {
        self.published = self.end();
    }

    /// Reads at `position`.
    pub(super) fn read(&mut self, position: u64) -> LogRead {
        if position >= self.published {
            return LogRead::Nothing;
        }
        self.frames.read(position, self.published).map_or(LogRead::Gone, LogRead::Frames)
    }
}

#[cfg(test)]
mod tests;
