//! The room's memory: the newest messages, encoded once for all readers.
//!
//! Positions are byte offsets in the endless sequence of frames since the room began. The log keeps
//! the end of that sequence in segments. A read gives everything from a position to the end of its
//! segment as one [`Bytes`]: a reference count, not a copy. It goes out as one DATA frame with many
//! messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::message::EncodedMessage;
use crate::send_time::SendTime;

/// The size in bytes at which a segment is closed, so about the most that a reader gets at once. A
/// larger message gets a segment of its own.
pub(super) const SEGMENT: usize = 64 * 1024;

/// Copies of the open segment may take this part of the retention in addition: one in `COPIES`.
const COPIES: usize = 8;

/// What a reader finds at its position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LogRead {
    /// Whole frames, never empty.
    Frames(Bytes),
    /// The position is the end.
    Nothing,
    /// The position is before everything that is kept.
    Gone,
}

/// Where a reader goes on that has read messages before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ResumePoint {
    /// Among these frames, or at their end. The frames begin at this position.
    Within(u64, Bytes),
    /// At this position, where everything that is kept begins. Messages that the reader has not read
    /// were dropped, the last of them with this time.
    Oldest(u64, SendTime),
}

#[derive(Debug)]
struct Segment {
    start: u64,
    frames: Bytes,
    /// The time of its last message.
    last: SendTime,
}

/// The newest messages.
#[derive(Debug)]
pub(super) struct Log {
    /// Closed segments, oldest first: none is empty, and each begins where the one before it ends.
    closed: VecDeque<Segment>,
    closed_bytes: usize,
    /// The open segment. Its buffer moves to `closed` without a copy.
    open: Vec<u8>,
    open_start: u64,
    /// Readers see the log up to this position, so all of them move in the same steps and share
    /// copies of the open segment.
    published: u64,
    /// Copies of the open segment since the last round, with their positions. The first reader at a
    /// position pays for the copy, and the others (nearly all) share it.
    shared: Vec<(u64, Bytes)>,
    /// Bytes of all copies that readers still hold.
    copied: Arc<AtomicUsize>,
    retention: usize,
    /// All messages are later.
    birth: SendTime,
    /// The time of the last message, or the birth.
    last: SendTime,
    /// The time of the last message that was dropped, or the birth.
    dropped: SendTime,
}

/// A copy that is counted as long as somebody holds it.
struct CountedCopy {
    bytes: Vec<u8>,
    count: Arc<AtomicUsize>,
}

impl CountedCopy {
    fn new(bytes: &[u8], count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(bytes.len(), Ordering::Relaxed);
        Self { bytes: bytes.to_vec(), count: Arc::clone(count) }
    }
}

impl AsRef<[u8]> for CountedCopy {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedCopy {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl Log {
    /// An empty log that keeps at most `retention` bytes, and whose messages are later than `birth`.
    pub(super) fn new(retention: usize, birth: SendTime) -> Self {
        Self {
            closed: VecDeque::new(),
            closed_bytes: 0,
            open: Vec::with_capacity(SEGMENT),
            open_start: 0,
            published: 0,
            shared: Vec::new(),
            copied: Arc::default(),
            retention,
            birth,
            last: birth,
            dropped: birth,
        }
    }

    /// The position of the next message.
    pub(super) fn end(&self) -> u64 {
        self.open_start + self.open.len() as u64
    }

    /// The time of the last message, or the birth of the log.
    pub(super) fn last(&self) -> SendTime {
        self.last
    }

    /// The time that all messages are later than.
    pub(super) fn birth(&self) -> SendTime {
        self.birth
    }

    /// The bytes that the log keeps.
    pub(super) fn bytes(&self) -> usize {
        self.closed_bytes + self.open.len()
    }

    /// The position of the oldest message that is kept.
    pub(super) fn start(&self) -> u64 {
        self.closed.front().map_or(self.open_start, |segment| segment.start)
    }

    /// The position up to which readers see the log.
    pub(super) fn published(&self) -> u64 {
        self.published
    }

    /// Where a reader goes on that has read everything up to `after`.
    pub(super) fn resume(&self, after: SendTime) -> ResumePoint {
        if after < self.dropped {
            return self.oldest();
        }
        let index = self.closed.partition_point(|segment| segment.last <= after);
        match self.closed.get(index) {
            Some(segment) => ResumePoint::Within(segment.start, segment.frames.clone()),
            None => ResumePoint::Within(self.open_start, Bytes::copy_from_slice(&self.open)),
        }
    }

    /// Where everything that is kept begins.
    pub(super) fn oldest(&self) -> ResumePoint {
        ResumePoint::Oldest(self.start(), self.dropped)
    }

    /// Whether the message with this time ends a segment, or is the last one that was dropped.
    pub(super) fn breaks_at(&self, time: SendTime) -> bool {
        let last_of = |segment: &Segment| segment.last;
        time == self.dropped || self.closed.binary_search_by_key(&time, last_of).is_ok()
    }

    /// Adds a message at the end, and drops the oldest segments if the log is too large then.
    pub(super) fn append(&mut self, message: EncodedMessage, time: SendTime) {
        if message.frame_size() >= SEGMENT {
            self.close_segment();
            self.last = time;
            self.push_closed(message.into_frame(time));
        } else {
            if self.open.len() + message.frame_size() > SEGMENT {
                self.close_segment();
            }
            message.append_to(&mut self.open, time);
            self.last = time;
        }
        while self.bytes() > self.retention
            && let Some(oldest) = self.closed.pop_front()
        {
            self.closed_bytes -= oldest.frames.len();
            self.dropped = oldest.last;
        }
    }

    /// Shows readers everything up to the end.
    pub(super) fn publish(&mut self) {
        self.published = self.end();
        self.shared.clear();
    }

    /// Reads at `position`.
    pub(super) fn read(&mut self, position: u64) -> LogRead {
        if position >= self.published {
            return LogRead::Nothing;
        }
        if position >= self.open_start
            && let Some(frames) = self.read_open(position)
        {
            return LogRead::Frames(frames);
        }
        // The last segment that starts at the position or before it.
        let index = self.closed.partition_point(|segment| segment.start <= position);
        let Some(segment) = index.checked_sub(1).and_then(|index| self.closed.get(index)) else {
            return LogRead::Gone;
        };
        let end = (segment.start + segment.frames.len() as u64).min(self.published);
        let range = offset(segment.start, position)..offset(segment.start, end);
        LogRead::Frames(segment.frames.slice(range))
    }

    /// Copies the published part of the open segment. If thousands of readers stopped, each at
    /// another position, each would hold a copy: when the copies take too much, the segment is
    /// closed instead, and all further slices of it share its memory.
    fn read_open(&mut self, position: u64) -> Option<Bytes> {
        if let Some((_, frames)) = self.shared.iter().find(|(start, _)| *start == position) {
            return Some(frames.clone());
        }
        let range = offset(self.open_start, position)..offset(self.open_start, self.published);
        if self.copied.load(Ordering::Relaxed) + range.len() > self.retention / COPIES {
            self.close_segment();
            return None;
        }
        let frames = Bytes::from_owner(CountedCopy::new(&self.open[range], &self.copied));
        self.shared.push((position, frames.clone()));
        Some(frames)
    }

    fn close_segment(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let mut frames = std::mem::replace(&mut self.open, Vec::with_capacity(SEGMENT));
        // The retention counts lengths, so memory beyond the length must go.
        frames.shrink_to_fit();
        self.shared.clear();
        self.push_closed(Bytes::from(frames));
    }

    /// Adds a closed segment in the place of the open one, which must be empty.
    fn push_closed(&mut self, frames: Bytes) {
        self.closed_bytes += frames.len();
        let start = self.open_start;
        self.open_start += frames.len() as u64;
        self.closed.push_back(Segment { start, frames, last: self.last });
    }
}

/// The index of `position` in a segment that begins at `start`. The difference fits because both are
/// within one segment.
fn offset(start: u64, position: u64) -> usize {
    usize::try_from(position - start).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
