//! The messages that nobody has fetched yet.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tracing::warn;

use super::message_json::MessageJson;
use crate::process;

/// The sizes of the pieces in which messages are kept: each as large as all before it together, between these. So a buffer that grows
/// is never copied, and neither a small nor a large one takes much more memory than what is in it.
const SMALLEST_PIECE: usize = 4 * 1024;
const LARGEST_PIECE: usize = 256 * 1024;

/// Everything since the last flush, already as the JSON that the flush will answer: fetching costs nothing but the lock.
#[derive(Debug)]
pub(crate) struct Postbox {
    contents: Mutex<Contents>,
    /// Bytes of JSON that are kept at most, with those that were fetched and have not gone out yet. With more the oldest messages go.
    limit: usize,
    fetched: Arc<AtomicUsize>,
    /// Messages that were ever dropped.
    dropped: AtomicU64,
}

/// What is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// Bytes of JSON.
    pub(crate) bytes: usize,
    /// Messages that were ever dropped.
    pub(crate) dropped: u64,
}

/// Bytes of an answer, for as long as it is on its way: who fetches and does not read must not make a second postbox.
#[derive(Debug)]
pub(crate) struct Fetched {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Drop for Fetched {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a flush takes out.
#[derive(Debug)]
pub(crate) struct Flushed {
    /// A JSON array in pieces.
    pub(crate) pieces: Vec<Bytes>,
    /// How often messages may be missing.
    pub(crate) gaps: u64,
    /// How many messages were dropped, all older than these.
    pub(crate) dropped: u64,
    /// To be dropped when the pieces are.
    pub(crate) fetched: Fetched,
}

/// The JSON array without its end. Where a piece ends means nothing: it may be in the middle of a message.
#[derive(Debug, Default)]
struct Contents {
    full: VecDeque<Piece>,
    /// The piece being written, and the messages that begin in it.
    last: Vec<u8>,
    last_begins: Begins,
    /// Bytes in all of them.
    length: usize,
    gaps: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Piece {
    json: Bytes,
    begins: Begins,
}

/// The messages that begin in a piece.
#[derive(Debug, Default, Clone, Copy)]
struct Begins {
    count: u64,
    /// Where the first of them does, if there is one: at the bracket or comma before it.
    first: usize,
}

impl Postbox {
    /// An empty one that keeps at most about `limit` bytes of JSON.
    pub(crate) fn new(limit: usize) -> Self {
        Self { contents: Mutex::default(), limit, fetched: Arc::default(), dropped: AtomicU64::new(0) }
    }

    /// Adds a message at the end. If that makes too many bytes, the oldest messages go.
    pub(crate) fn push(&self, message: &MessageJson) {
        let mut contents = self.lock();
        contents.push(message);
        process::test_panic("postbox");
        let limit = self.limit.saturating_sub(self.fetched.load(Ordering::Relaxed));
        while contents.length > limit && !contents.full.is_empty() {
            let before = contents.dropped;
            contents.drop_oldest();
            self.dropped.fetch_add(contents.dropped - before, Ordering::Relaxed);
            if before == 0 && contents.dropped > 0 {
                warn!(limit = self.limit, "nobody fetches the messages, dropping the oldest");
            }
        }
    }

    /// What is in it now.
    pub(crate) fn held(&self) -> Held {
        Held { bytes: self.lock().length, dropped: self.dropped.load(Ordering::Relaxed) }
    }

    /// Notes that messages may be missing here.
    pub(crate) fn note_gap(&self) {
        self.lock().gaps += 1;
    }

    /// Takes everything out. Each message is in exactly one answer, however many flush at once.
    pub(crate) fn flush(&self) -> Flushed {
        let contents = std::mem::take(&mut *self.lock());
        self.fetched.fetch_add(contents.length, Ordering::Relaxed);
        let fetched = Fetched { bytes: contents.length, of: Arc::clone(&self.fetched) };
        contents.into_flushed(fetched)
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        process::unpoisoned(self.contents.lock())
    }
}

impl Contents {
    fn into_flushed(self, fetched: Fetched) -> Flushed {
        let Self { full, last, last_begins, gaps, dropped, .. } = self;
        let mut rest = full.into_iter().chain([Piece { json: last.into(), begins: last_begins }]);
        // What is before the first beginning is the end of a message that was dropped.
        let mut pieces = match rest.find(|piece| piece.begins.count > 0) {
            Some(Piece { json, begins }) => vec![Bytes::from_static(b"["), json.slice(begins.first + 1..)],
            None => vec![Bytes::from_static(b"[")],
        };
        pieces.extend(rest.map(|piece| piece.json));
        pieces.push(Bytes::from_static(b"]"));
        Flushed { pieces, gaps, dropped, fetched }
    }

    /// Writes one message with the comma before it.
    fn push(&mut self, message: &MessageJson) {
        self.make_room();
        if self.last_begins.count == 0 {
            self.last_begins.first = self.last.len();
        }
        self.last_begins.count += 1;
        self.write(b",");
        self.write(message.as_bytes());
    }

    /// Writes bytes at the end, into as many pieces as they need.
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.make_room();
            let (now, later) = bytes.split_at(bytes.len().min(self.last.capacity() - self.last.len()));
            self.last.extend_from_slice(now);
            self.length += now.len();
            bytes = later;
        }
    }

    /// Begins a new piece if the last one is full.
    fn make_room(&mut self) {
        if self.last.len() < self.last.capacity() {
            return;
        }
        let next = Vec::with_capacity(self.length.clamp(SMALLEST_PIECE, LARGEST_PIECE));
        let json = std::mem::replace(&mut self.last, next);
        let begins = std::mem::take(&mut self.last_begins);
        if !json.is_empty() {
            self.full.push_back(Piece { json: json.into(), begins });
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(Piece { json, begins }) = self.full.pop_front() {
            self.length -= json.len();
            self.dropped += begins.count;
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::proto::ReadMessagesResponse;

    fn message(author: &str, text: &str, nanos: i32) -> MessageJson {
        let send_time = Some(Timestamp { seconds: 1_758_365_922, nanos });
        json_of(&ReadMessagesResponse { author: author.to_owned(), text: text.to_owned(), send_time })
    }

    fn json_of(message: &ReadMessagesResponse) -> MessageJson {
        let mut json = MessageJson::default();
        json.write(message);
        json
    }

    fn flush(postbox: &Postbox) -> Value {
        serde_json::from_slice(&postbox.flush().pieces.concat()).expect("JSON")
    }

    #[test]
    fn an_answer_is_exactly_the_array_that_is_asked_for() {
        let postbox = Postbox::new(usize::MAX);
        assert_eq!(postbox.flush().pieces.concat(), b"[]");
        postbox.push(&message("alice", "hey", 665_193_557));
        postbox.push(&message("", "", 1));
        assert_eq!(
            String::from_utf8(postbox.flush().pieces.concat()).expect("text"),
            r#"[{"author":"alice","text":"hey","sendTime":"2025-09-20T10:58:42.665193557Z"},{"author":"","text":"","sendTime":"2025-09-20T10:58:42.000000001Z"}]"#
        );
        assert_eq!(postbox.flush().pieces.concat(), b"[]");
    }

    #[test]
    fn any_text_comes_back_as_it_was() {
        let postbox = Postbox::new(usize::MAX);
        let texts = [
            "\0\u{1}\u{1f}\u{7f}",
            "\"quoted\" \\ and / \n\r\t",
            "Привет 👋🏽 \u{2028}\u{202e}",
            &"я".repeat(LARGEST_PIECE),
        ];
        for text in texts {
            postbox.push(&message(text, text, 1));
        }
        let expected =
            texts.map(|text| json!({"author": text, "text": text, "sendTime": "2025-09-20T10:58:42.000000001Z"}));
        assert_eq!(flush(&postbox), json!(expected));
    }

    #[test]
    fn pieces_are_no_larger_than_all_before_them() {
        let mut contents = Contents::default();
        for number in 0..20_000 {
            contents.push(&message("author", "text", number));
            let before: usize = contents.full.iter().map(|piece| piece.json.len()).sum();
            let most = before.clamp(SMALLEST_PIECE, LARGEST_PIECE);
            assert_eq!((contents.last.capacity(), before + contents.last.len()), (most, contents.length));
        }
    }

    #[test]
    fn pieces_join_into_one_array() {
        let postbox = Postbox::new(usize::MAX);
        for i in 0..20_000 {
            postbox.push(&message("author", &i.to_string(), i));
        }
        let pieces = postbox.flush().pieces;
        assert!(pieces.len() > 5, "several pieces");
        assert!(pieces.iter().all(|piece| piece.len() <= LARGEST_PIECE));
        let all: Vec<Value> = serde_json::from_slice(&pieces.concat()).expect("JSON");
        assert_eq!(all.len(), 20_000);
        assert!(all.iter().enumerate().all(|(i, message)| message["text"].as_str() == Some(&i.to_string())));
    }

    #[test]
    fn what_is_dropped_is_the_oldest_and_counted() {
        const LIMIT: usize = 1024 * 1024;
        let postbox = Postbox::new(LIMIT);
        // With texts of many pieces among them, as long as the limit and longer.
        for (size, count) in [(10, 30_000), (LARGEST_PIECE * 2, 10), (700, 5_000), (LIMIT, 3), (2 * LIMIT, 2), (1, 100)]
        {
            for number in 0..count {
                postbox.push(&message(&number.to_string(), &"x".repeat(size), 1));
            }
            let Flushed { pieces, dropped, .. } = postbox.flush();
            let json = pieces.concat();
            assert!(json.len() <= LIMIT + LARGEST_PIECE + 2 || size >= LIMIT, "{size}: {}", json.len());
            let kept: Vec<Value> = serde_json::from_slice(&json).expect("JSON");
            assert_eq!(usize::try_from(dropped).expect("small") + kept.len(), usize::try_from(count).expect("small"));
            for (message, number) in kept.iter().rev().zip((0..count).rev()) {
                assert_eq!(message["author"], number.to_string(), "the newest, without a hole");
            }
        }
        assert_eq!(postbox.flush().pieces.concat(), b"[]");
    }

    #[test]
    fn what_is_on_its_way_out_counts_too() {
        const LIMIT: usize = 1024 * 1024;
        let postbox = Postbox::new(LIMIT);
        let fill = || (0..1_500).for_each(|number| postbox.push(&message(&number.to_string(), &"x".repeat(500), 1)));
        fill();
        let stalled = postbox.flush();
        assert_eq!(stalled.dropped, 0);
        fill();
        let (first, second) = (stalled.pieces.concat().len(), postbox.flush());
        assert!(second.dropped > 0 && first + second.pieces.concat().len() <= LIMIT + LARGEST_PIECE);
        drop((stalled, second));
        fill();
        assert_eq!(postbox.flush().dropped, 0);
    }

    #[test]
    fn gaps_are_told_once() {
        let postbox = Postbox::new(usize::MAX);
        postbox.note_gap();
        postbox.note_gap();
        let Flushed { pieces, gaps, dropped, .. } = postbox.flush();
        assert_eq!((pieces.concat().as_slice(), gaps, dropped), (&b"[]"[..], 2, 0));
        assert_eq!(postbox.flush().gaps, 0);
    }

    #[test]
    fn a_message_without_a_time_still_has_the_key() {
        let postbox = Postbox::new(usize::MAX);
        postbox.push(&json_of(&ReadMessagesResponse::default()));
        assert_eq!(flush(&postbox)[0]["sendTime"], "1970-01-01T00:00:00.000000000Z");
    }
}
