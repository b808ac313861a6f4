//! A log of bytes that keeps its newest entries in segments. The room keeps its frames in one, and
//! the client keeps the events for its pages in another.
//!
//! A position is a byte offset in everything that was ever appended. A reader is a position and has
//! no queue: it reads everything from its position to the end of a segment at once. The bytes that
//! it gets are shared by all readers, and nothing is copied but the end of the open segment.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// A segment is closed when it has this many bytes. A larger entry is a segment of its own.
pub(crate) const SEGMENT: usize = 64 * 1024;

/// Copies of the open segment may take one part in this many of the log's limit.
const COPY_SHARE: usize = 8;

/// The newest entries. `S` is a summary of the entries in a segment.
#[derive(Debug)]
pub(crate) struct SegmentedLog<S> {
    /// Closed segments, oldest first. None is empty, and each starts where the one before it ends.
    closed: VecDeque<Segment<S>>,
    closed_bytes: usize,
    /// The segment that is being written.
    open: Vec<u8>,
    open_start: u64,
    open_summary: S,
    /// Copies of the open segment, from a position to `copies_end`. Readers that keep up are all at
    /// the same few positions: the first one pays for the copy, and the others share it.
    copies: Vec<(u64, Bytes)>,
    copies_end: u64,
    /// The bytes of all copies that a reader still holds.
    copied: Arc<AtomicUsize>,
    limit: usize,
}

/// A closed segment.
#[derive(Debug)]
pub(crate) struct Segment<S> {
    pub(crate) start: u64,
    pub(crate) bytes: Bytes,
    pub(crate) summary: S,
}

impl<S: Default> SegmentedLog<S> {
    /// An empty log that keeps at most `limit` bytes, or the newest segment if that is larger.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            closed: VecDeque::new(),
            closed_bytes: 0,
            open: Vec::with_capacity(SEGMENT),
            open_start: 0,
            open_summary: S::default(),
            copies: Vec::new(),
            copies_end: 0,
            copied: Arc::default(),
            limit,
        }
    }

    /// The position of the oldest entry.
    pub(crate) fn start(&self) -> u64 {
        self.closed.front().map_or(self.open_start, |segment| segment.start)
    }

    /// The position of the next entry.
    pub(crate) fn end(&self) -> u64 {
        self.open_start + self.open.len() as u64
    }

    /// The bytes of all entries.
    pub(crate) fn bytes(&self) -> usize {
        self.closed_bytes + self.open.len()
    }

    /// The closed segments, oldest first.
    pub(crate) fn closed(&self) -> &VecDeque<Segment<S>> {
        &self.closed
    }

    /// The open segment: its position, its bytes and its summary.
    pub(crate) fn open(&self) -> (u64, &[u8], &S) {
        (self.open_start, &self.open, &self.open_summary)
    }

    /// Appends an entry of `size` bytes. `write` writes it and updates the summary.
    pub(crate) fn append(&mut self, size: usize, write: impl FnOnce(&mut Vec<u8>, &mut S)) {
        if self.open.len() + size > SEGMENT {
            self.close();
        }
        write(&mut self.open, &mut self.open_summary);
    }

    /// Appends an entry as a segment of its own.
    pub(crate) fn append_segment(&mut self, bytes: Bytes, summary: S) {
        self.close();
        self.push_closed(bytes, summary);
    }

    /// Drops the oldest closed segments until the log is within its limit. Returns the summary of
    /// the last segment that it dropped.
    pub(crate) fn trim(&mut self) -> Option<S> {
        let mut dropped = None;
        while self.bytes() > self.limit
            && let Some(oldest) = self.closed.pop_front()
        {
            self.closed_bytes -= oldest.bytes.len();
            dropped = Some(oldest.summary);
        }
        dropped
    }

    /// The bytes from `position` to the end of its segment, or to `end` if that is earlier. `None`
    /// if the log no longer has them.
    ///
    /// `position` is before `end`, and `end` is at most the end of the log.
    pub(crate) fn read(&mut self, position: u64, end: u64) -> Option<Bytes> {
        if position >= self.open_start
            && let Some(bytes) = self.read_open(position, end)
        {
            return Some(bytes);
        }
        let next = self.closed.partition_point(|segment| segment.start <= position);
        let segment = self.closed.get(next.checked_sub(1)?)?;
        let end = offset(segment.start, end).min(segment.bytes.len());
        Some(segment.bytes.slice(offset(segment.start, position)..end))
    }

    /// A copy of the open segment. Thousands of readers that stop, each at a position of its own,
    /// would hold a copy each. So if the copies take too much, this closes the segment instead, and
    /// returns nothing: all slices of a closed segment are the same memory.
    fn read_open(&mut self, position: u64, end: u64) -> Option<Bytes> {
        if self.copies_end != end {
            self.copies.clear();
            self.copies_end = end;
        }
        if let Some((_, bytes)) = self.copies.iter().find(|(start, _)| *start == position) {
            return Some(bytes.clone());
        }
        let range = offset(self.open_start, position)..offset(self.open_start, end);
        if self.copied.load(Ordering::Relaxed) + range.len() > self.limit / COPY_SHARE {
            self.close();
            return None;
        }
        let bytes = Bytes::from_owner(CountedCopy::new(&self.open[range], &self.copied));
        self.copies.push((position, bytes.clone()));
        Some(bytes)
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let mut bytes = std::mem::replace(&mut self.open, Vec::with_capacity(SEGMENT));
        // The limit counts lengths, so the memory must be no larger.
        bytes.shrink_to_fit();
        self.copies.clear();
        let summary = std::mem::take(&mut self.open_summary);
        self.push_closed(bytes.into(), summary);
    }

    /// Adds a closed segment. The open one must be empty: the new one takes its position.
    fn push_closed(&mut self, bytes: Bytes, summary: S) {
        let start = self.open_start;
        self.open_start += bytes.len() as u64;
        self.closed_bytes += bytes.len();
        self.closed.push_back(Segment { start, bytes, summary });
    }
}

/// A copy of the open segment that is counted until its last reader drops it.
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

/// The index of `position` in a segment that starts at `start`. A segment fits into memory, so only
/// a position beyond its end can be out of range.
fn offset(start: u64, position: u64) -> usize {
    usize::try_from(position - start).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1024 * 1024;

    fn append(log: &mut SegmentedLog<()>, entry: &[u8]) {
        log.append(entry.len(), |bytes, ()| bytes.extend_from_slice(entry));
        log.trim();
    }

    #[test]
    fn readers_at_one_position_share_one_copy() {
        let mut log = SegmentedLog::new(LIMIT);
        append(&mut log, b"one");
        let [first, second] = [(); 2].map(|()| log.read(0, 3).expect("bytes"));
        assert_eq!(first.as_ptr(), second.as_ptr());
        append(&mut log, b"two");
        let [third, fourth] = [(); 2].map(|()| log.read(0, 6).expect("bytes"));
        assert_eq!((&third[..], third.as_ptr()), (&b"onetwo"[..], fourth.as_ptr()));
    }

    #[test]
    fn copies_that_readers_hold_are_bounded() {
        let mut log = SegmentedLog::new(LIMIT);
        let (mut starts, mut held, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..600_u32 {
            starts.push(log.end());
            let entry = number.to_be_bytes().repeat(25);
            append(&mut log, &entry);
            expected.extend_from_slice(&entry);
            // Readers at every position, which keep what they read.
            for start in &starts {
                let read = log.read(*start, log.end()).expect("bytes");
                assert_eq!(read, expected[offset(0, *start)..][..read.len()]);
                held.push(read);
            }
            assert!(log.copied.load(Ordering::Relaxed) <= LIMIT / COPY_SHARE);
        }
        drop((held, log.copies));
        assert_eq!(log.copied.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_segment_is_nearly_full_when_it_is_closed() {
        let mut log = SegmentedLog::new(LIMIT);
        for _ in 0..3_000 {
            append(&mut log, &[0; 100]);
        }
        let first = log.read(0, log.end()).expect("bytes").len();
        assert!(first <= SEGMENT && first > SEGMENT - 100, "{first}");
    }

    #[test]
    fn keeps_at_most_the_limit() {
        let mut log = SegmentedLog::new(LIMIT);
        for number in 0..10_000 {
            append(&mut log, &vec![0; if number % 100 == 0 { LIMIT / 8 } else { 1_000 }]);
            assert!(log.bytes() <= LIMIT);
            let closed: usize = log.closed.iter().map(|segment| segment.bytes.len()).sum();
            assert_eq!(log.bytes(), closed + log.open.len());
        }
        assert_eq!(log.read(log.start() - 1, log.end()), None);
        assert!(log.read(log.start(), log.end()).is_some() && log.bytes() > LIMIT * 3 / 4);
    }
}
