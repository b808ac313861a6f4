//! The room's memory: the newest messages, encoded once, for all readers together.
//!
//! Positions are byte offsets in the endless stream of frames that the room has produced since it began. The log holds the last
//! stretch of that stream in segments. A read gives everything from a position to the end of its segment as one [`Bytes`], which
//! is a count, not a copy, and becomes one DATA frame with many messages in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::room::message::Draft;
use crate::send_time::SendTime;

/// A segment is closed when it has this many bytes, so this is about how much a reader gets at once. A larger message is a
/// segment of its own.
pub(super) const SEGMENT: usize = 64 * 1024;

/// The part of the retention, one in so many, that copies of the open segment may take beside it.
const COPIES: usize = 8;

/// What a reader finds at its position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Whole frames, never empty.
    Frames(Bytes),
    /// Nothing yet.
    Nothing,
    /// The log no longer reaches back so far.
    Gone,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    frames: Bytes,
    /// The time of its last message.
    last: SendTime,
}

/// Where a reader that has been here before goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// In these frames, which begin at this position: what it has not had begins among them, or where they end.
    Within(u64, Bytes),
    /// With everything there is, from this position on: of what came between the reader's last message and this time, some is gone.
    Oldest(u64, SendTime),
}

#[derive(Debug)]
pub(super) struct Log {
    /// Closed segments, oldest first, each non-empty and each beginning where the one before it ends.
    closed: VecDeque<Segment>,
    closed_bytes: usize,
    /// The segment that is being written. Its buffer moves to `closed` as it is.
    open: Vec<u8>,
    open_start: u64,
    /// Readers see the log up to here. All of them thus move in the same steps, and share slices of the open segment.
    published: u64,
    /// Slices of the open segment that were handed out since it was last published, with where they start: the first reader that
    /// comes from somewhere pays for the copy, and the others from there (nearly all) share it.
    shared: Vec<(u64, Bytes)>,
    /// Bytes of such slices that somebody still holds.
    copied: Arc<AtomicUsize>,
    retention: usize,
    /// All messages are later.
    birth: SendTime,
    /// The time of the last message ...
    last: SendTime,
    /// ... and of the newest that is no longer kept.
    forgotten: SendTime,
}

/// A copy that is counted for as long as somebody holds it.
struct Copied {
    bytes: Vec<u8>,
    count: Arc<AtomicUsize>,
}

impl Copied {
    fn new(bytes: &[u8], count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(bytes.len(), Ordering::Relaxed);
        Self { bytes: bytes.to_vec(), count: Arc::clone(count) }
    }
}

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl Log {
    /// An empty log that keeps at most `retention` bytes, and whose messages will all be later than `birth`.
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
            forgotten: birth,
        }
    }

    /// Where the next message goes.
    pub(super) fn end(&self) -> u64 {
        self.open_start + self.open.len() as u64
    }

    /// The time of the last message; before the first, that of the log's beginning.
    pub(super) fn last(&self) -> SendTime {
        self.last
    }

    /// What all messages are later than.
    pub(super) fn birth(&self) -> SendTime {
        self.birth
    }

    /// Where a reader goes on that has had everything up to `after`.
    pub(super) fn resume(&mut self, after: SendTime) -> Resume {
        if after < self.forgotten {
            return self.oldest();
        }
        let index = self.closed.partition_point(|segment| segment.last <= after);
        if let Some(segment) = self.closed.get(index) {
            return Resume::Within(segment.start, segment.frames.clone());
        }
        Resume::Within(self.open_start, Bytes::copy_from_slice(&self.open))
    }

    /// Whether a segment ends with the message that has this time, or what is no longer kept does.
    pub(super) fn breaks_at(&self, time: SendTime) -> bool {
        time == self.forgotten || self.closed.binary_search_by_key(&time, |segment| segment.last).is_ok()
    }

    /// The beginning of what is kept.
    pub(super) fn oldest(&self) -> Resume {
        Resume::Oldest(self.begin(), self.forgotten)
    }

    /// How much is kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.closed_bytes + self.open.len()
    }

    /// Where what is kept begins.
    pub(super) fn begin(&self) -> u64 {
        self.closed.front().map_or(self.open_start, |segment| segment.start)
    }

    /// Up to where readers can see.
    pub(super) fn published(&self) -> u64 {
        self.published
    }

    /// Adds a message at the end, and forgets the oldest ones if that makes too many bytes.
    pub(super) fn append(&mut self, draft: Draft, time: SendTime) {
        if draft.frame_size() >= SEGMENT {
            self.close_segment();
            self.last = time;
            self.push_closed(draft.into_bytes(time));
        } else {
            if self.open.len() + draft.frame_size() > SEGMENT {
                self.close_segment();
            }
            draft.append_to(&mut self.open, time);
            self.last = time;
        }
        while self.closed_bytes + self.open.len() > self.retention
            && let Some(oldest) = self.closed.pop_front()
        {
            self.closed_bytes -= oldest.frames.len();
            self.forgotten = oldest.last;
        }
    }

    /// Shows readers everything up to the end.
    pub(super) fn publish(&mut self) {
        self.published = self.end();
        self.shared.clear();
    }

    /// What there is to read at `position`.
    pub(super) fn read(&mut self, position: u64) -> Found {
        if position >= self.published {
            return Found::Nothing;
        }
        if position >= self.open_start
            && let Some(frames) = self.read_open(position)
        {
            return Found::Frames(frames);
        }
        // The last segment that starts at the position or before it.
        let index = self.closed.partition_point(|segment| segment.start <= position);
        match index.checked_sub(1).and_then(|index| self.closed.get(index)) {
            None => Found::Gone,
            Some(segment) => {
                let end = (segment.start + segment.frames.len() as u64).min(self.published);
                Found::Frames(segment.frames.slice(offset(segment.start, position)..offset(segment.start, end)))
            }
        }
    }

    /// A copy of what is published of the open segment. Thousands of readers that stop, each at a place of its own, would hold a copy
    /// each: when too much is copied, the segment is closed instead, and all slices of it are one memory.
    fn read_open(&mut self, position: u64) -> Option<Bytes> {
        if let Some((_, frames)) = self.shared.iter().find(|(start, _)| *start == position) {
            return Some(frames.clone());
        }
        let range = offset(self.open_start, position)..offset(self.open_start, self.published);
        if self.copied.load(Ordering::Relaxed) + range.len() > self.retention / COPIES {
            self.close_segment();
            return None;
        }
        let frames = Bytes::from_owner(Copied::new(&self.open[range], &self.copied));
        self.shared.push((position, frames.clone()));
        Some(frames)
    }

    fn close_segment(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let mut frames = std::mem::replace(&mut self.open, Vec::with_capacity(SEGMENT));
        // What is counted must be what is held.
        frames.shrink_to_fit();
        self.shared.clear();
        self.push_closed(Bytes::from(frames));
    }

    /// Only while the open segment is empty: the new one takes its place.
    fn push_closed(&mut self, frames: Bytes) {
        self.closed_bytes += frames.len();
        let start = self.open_start;
        self.open_start += frames.len() as u64;
        self.closed.push_back(Segment { start, frames, last: self.last });
    }
}

/// The index of `position` in a segment that starts at `start`. Both are within one segment, so the difference fits.
fn offset(start: u64, position: u64) -> usize {
    usize::try_from(position - start).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
