//! The messages that nobody has fetched yet.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::proto::ReadMessagesResponse;
use crate::send_time::rfc3339;

/// The sizes of the pieces in which messages are kept: each as large as all before it together, between these. So a buffer that grows
/// is never copied, and neither a small nor a large one takes much more memory than what is in it.
const SMALLEST_PIECE: usize = 4 * 1024;
const LARGEST_PIECE: usize = 256 * 1024;

/// Everything since the last flush, already as the JSON that the flush will answer: fetching costs nothing but the lock.
#[derive(Debug, Default)]
pub(super) struct Postbox {
    contents: Mutex<Contents>,
}

/// The JSON array without its end. Where a piece ends means nothing: it may be in the middle of a message.
#[derive(Debug, Default)]
struct Contents {
    full: Vec<Bytes>,
    /// The piece being written.
    last: Vec<u8>,
    /// Bytes in all of them.
    length: usize,
}

impl Postbox {
    /// Adds a message at the end.
    pub(super) fn push(&self, message: &ReadMessagesResponse) {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to memory does not fail, and a string is always valid JSON.
        let _ = contents.push(message);
    }

    /// Takes everything out: a JSON array in pieces. Each message is in exactly one answer, however many flush at once.
    pub(super) fn flush(&self) -> Vec<Bytes> {
        let Contents { mut full, last, length } =
            std::mem::take(&mut *self.contents.lock().unwrap_or_else(PoisonError::into_inner));
        if length == 0 {
            return vec![Bytes::from_static(b"[]")];
        }
        full.push(last.into());
        full.push(Bytes::from_static(b"]"));
        full
    }
}

impl Contents {
    /// Writes one message with the bracket or comma before it.
    fn push(&mut self, message: &ReadMessagesResponse) -> io::Result<()> {
        let time = message.send_time.unwrap_or_default();
        self.write_all(if self.length == 0 { b"[{\"author\":" } else { b",{\"author\":" })?;
        self.string(&message.author)?;
        self.write_all(b",\"text\":")?;
        self.string(&message.text)?;
        write!(self, ",\"sendTime\":\"{}\"}}", rfc3339(&time))
    }

    fn string(&mut self, text: &str) -> io::Result<()> {
        if needs_escapes(text) {
            return Ok(serde_json::to_writer(self, text)?);
        }
        self.write_all(b"\"")?;
        self.write_all(text.as_bytes())?;
        self.write_all(b"\"")
    }
}

impl Write for Contents {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.len() == self.last.capacity() {
            let next = Vec::with_capacity(self.length.clamp(SMALLEST_PIECE, LARGEST_PIECE));
            let full = std::mem::replace(&mut self.last, next);
            if !full.is_empty() {
                self.full.push(full.into());
            }
        }
        let size = bytes.len().min(self.last.capacity() - self.last.len());
        self.last.extend_from_slice(&bytes[..size]);
        self.length += size;
        Ok(size)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether something in `text` can't stand in a JSON string as it is. Almost never, and looking at all of it without a branch is
/// several times as fast as looking for what comes first.
#[allow(clippy::needless_bitwise_bool)]
fn needs_escapes(text: &str) -> bool {
    text.bytes().fold(false, |found, byte| found | (byte < b' ') | (byte == b'"') | (byte == b'\\'))
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn message(author: &str, text: &str, nanos: i32) -> ReadMessagesResponse {
        let send_time = Some(Timestamp { seconds: 1_758_365_922, nanos });
        ReadMessagesResponse { author: author.to_owned(), text: text.to_owned(), send_time }
    }

    fn flush(postbox: &Postbox) -> Value {
        serde_json::from_slice(&postbox.flush().concat()).expect("JSON")
    }

    #[test]
    fn an_answer_is_exactly_the_array_that_is_asked_for() {
        let postbox = Postbox::default();
        assert_eq!(postbox.flush().concat(), b"[]");
        postbox.push(&message("alice", "hey", 665_193_557));
        postbox.push(&message("", "", 1));
        assert_eq!(
            String::from_utf8(postbox.flush().concat()).expect("text"),
            r#"[{"author":"alice","text":"hey","sendTime":"2025-09-20T10:58:42.665193557Z"},{"author":"","text":"","sendTime":"2025-09-20T10:58:42.000000001Z"}]"#
        );
        assert_eq!(postbox.flush().concat(), b"[]");
    }

    #[test]
    fn any_text_comes_back_as_it_was() {
        let postbox = Postbox::default();
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
    fn every_character_is_written_as_serde_json_does() {
        for text in ('\0'..='\u{ff}').map(|char| format!("a{char}b")) {
            let mut contents = Contents::default();
            contents.string(&text).expect("written");
            assert_eq!(contents.last, serde_json::to_vec(&text).expect("JSON"), "{text:?}");
        }
    }

    #[test]
    fn pieces_are_no_larger_than_all_before_them() {
        let mut contents = Contents::default();
        for number in 0..20_000 {
            contents.push(&message("author", "text", number)).expect("written");
            let before: usize = contents.full.iter().map(Bytes::len).sum();
            let most = before.clamp(SMALLEST_PIECE, LARGEST_PIECE);
            assert_eq!((contents.last.capacity(), before + contents.last.len()), (most, contents.length));
        }
    }

    #[test]
    fn pieces_join_into_one_array() {
        let postbox = Postbox::default();
        for i in 0..20_000 {
            postbox.push(&message("author", &i.to_string(), i));
        }
        let pieces = postbox.flush();
        assert!(pieces.len() > 5, "several pieces");
        assert!(pieces.iter().all(|piece| piece.len() <= LARGEST_PIECE));
        let all: Vec<Value> = serde_json::from_slice(&pieces.concat()).expect("JSON");
        assert_eq!(all.len(), 20_000);
        assert!(all.iter().enumerate().all(|(i, message)| message["text"].as_str() == Some(&i.to_string())));
    }

    #[test]
    fn a_message_without_a_time_still_has_the_key() {
        let postbox = Postbox::default();
        postbox.push(&ReadMessagesResponse::default());
        assert_eq!(flush(&postbox)[0]["sendTime"], "1970-01-01T00:00:00.000000000Z");
    }
}
