//! The postbox: the messages that no flush has fetched yet.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tracing::warn;

use super::message_json::MessageJson;
use crate::process;

/// The sizes of chunks. Each chunk is as large as all chunks before it together, within these
/// bounds. So a growing postbox is never copied, and its memory is close to the size of its
/// messages, whether they are few or many.
const MIN_CHUNK: usize = 4 * 1024;
const MAX_CHUNK: usize = 256 * 1024;

/// The messages since the last flush, as the JSON of the next answer. So a flush holds the lock
/// only for a moment.
#[derive(Debug)]
pub(in crate::client) struct Postbox {
    contents: Mutex<Contents>,
    /// The most bytes of JSON in the postbox and in answers on their way, together.
    limit: usize,
    /// Bytes of answers on their way.
    answering: Arc<AtomicUsize>,
    /// All messages that were ever dropped.
    dropped: AtomicU64,
}

/// How full the postbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) struct PostboxUsage {
    /// Bytes of JSON that wait for the next flush.
    pub(in crate::client) bytes: usize,
    /// All messages that were ever dropped.
    pub(in crate::client) dropped: u64,
}

/// Counts an answer on its way against the limit of the postbox, until this is dropped. Otherwise a
/// caller that fetches and does not read could double the memory.
#[derive(Debug)]
pub(in crate::client) struct Answering {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The messages that a flush takes out of the postbox.
#[derive(Debug)]
pub(in crate::client) struct Flushed {
    /// A JSON array, cut anywhere.
    pub(in crate::client) pieces: Vec<Bytes>,
    /// How many times messages may be missing.
    pub(in crate::client) gaps: u64,
    /// How many messages were dropped, all of them older than these.
    pub(in crate::client) dropped: u64,
    /// The bytes of the answer. Drop it with the last piece.
    pub(in crate::client) answering: Answering,
}

/// The JSON array without its end, cut into chunks anywhere: a cut may be within a message.
#[derive(Debug, Default)]
struct Contents {
    full: VecDeque<JsonChunk>,
    /// The chunk that is being filled, and the messages that start in it.
    open: Vec<u8>,
    open_starts: MessageStarts,
    /// The bytes of all chunks.
    bytes: usize,
    gaps: u64,
    dropped: u64,
}

#[derive(Debug)]
struct JsonChunk {
    json: Bytes,
    starts: MessageStarts,
}

/// The messages that start in a chunk.
#[derive(Debug, Default, Clone, Copy)]
struct MessageStarts {
    count: u64,
    /// The offset of the comma before the first of them, if there is one.
    first: usize,
}

impl Postbox {
    /// An empty postbox for about `limit` bytes of JSON.
    pub(in crate::client) fn new(limit: usize) -> Self {
        Self { contents: Mutex::default(), limit, answering: Arc::default(), dropped: AtomicU64::new(0) }
    }

    /// Adds a message, and drops the oldest ones if the postbox is too large then.
    pub(in crate::client) fn push(&self, message: &MessageJson) {
        let mut contents = self.lock();
        contents.push(message);
        process::test_panic("postbox");
        let limit = self.limit.saturating_sub(self.answering.load(Ordering::Relaxed));
        while contents.bytes > limit && !contents.full.is_empty() {
            let before = contents.dropped;
            contents.drop_oldest();
            self.dropped.fetch_add(contents.dropped - before, Ordering::Relaxed);
            if before == 0 && contents.dropped > 0 {
                warn!(limit = self.limit, "postbox full, dropping the oldest messages");
            }
        }
    }

    pub(in crate::client) fn usage(&self) -> PostboxUsage {
        PostboxUsage { bytes: self.lock().bytes, dropped: self.dropped.load(Ordering::Relaxed) }
    }

    /// Notes that messages may be missing here.
    pub(in crate::client) fn note_gap(&self) {
        self.lock().gaps += 1;
    }

    /// Takes all messages. Concurrent flushes never take the same message.
    pub(in crate::client) fn flush(&self) -> Flushed {
        let contents = std::mem::take(&mut *self.lock());
        let bytes = contents.bytes;
        self.answering.fetch_add(bytes, Ordering::Relaxed);
        contents.into_flushed(Answering { bytes, total: Arc::clone(&self.answering) })
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        process::unpoisoned(self.contents.lock())
    }
}

impl Contents {
    fn into_flushed(self, answering: Answering) -> Flushed {
        let Self { full, open, open_starts, gaps, dropped, .. } = self;
        let mut rest = full.into_iter().chain([JsonChunk { json: open.into(), starts: open_starts }]);
        // Before the first start there is only the end of a message that was dropped.
        let mut pieces = match rest.find(|chunk| chunk.starts.count > 0) {
            Some(JsonChunk { json, starts }) => vec![Bytes::from_static(b"["), json.slice(starts.first + 1..)],
            None => vec![Bytes::from_static(b"[")],
        };
        pieces.extend(rest.map(|chunk| chunk.json));
        pieces.push(Bytes::from_static(b"]"));
        Flushed { pieces, gaps, dropped, answering }
    }

    /// Writes a comma and the message.
    fn push(&mut self, message: &MessageJson) {
        self.make_room();
        if self.open_starts.count == 0 {
            self.open_starts.first = self.open.len();
        }
        self.open_starts.count += 1;
        self.write(b",");
        self.write(message.as_bytes());
    }

    /// Writes bytes at the end, into as many chunks as they need.
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.make_room();
            let (now, later) = bytes.split_at(bytes.len().min(self.open.capacity() - self.open.len()));
            self.open.extend_from_slice(now);
            self.bytes += now.len();
            bytes = later;
        }
    }

    /// Starts a new chunk if the open one is full.
    fn make_room(&mut self) {
        if self.open.len() < self.open.capacity() {
            return;
        }
        let next = Vec::with_capacity(self.bytes.clamp(MIN_CHUNK, MAX_CHUNK));
        let json = std::mem::replace(&mut self.open, next);
        let starts = std::mem::take(&mut self.open_starts);
        if !json.is_empty() {
            self.full.push_back(JsonChunk { json: json.into(), starts });
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(JsonChunk { json, starts }) = self.full.pop_front() {
            self.bytes -= json.len();
            self.dropped += starts.count;
        }
    }
}

#[cfg(test)]
mod tests;
