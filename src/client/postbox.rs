//! The messages that nobody has fetched yet.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};

use crate::proto::ReadMessagesResponse;
use crate::send_time::rfc3339;

/// Messages are kept in pieces of about this many bytes, so that the buffer never has to be moved as a whole to grow.
const PIECE: usize = 256 * 1024;

/// Everything since the last flush, already as the JSON that the flush will answer: fetching costs nothing but the lock.
#[derive(Debug, Default)]
pub(super) struct Postbox {
    contents: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    full: Vec<Bytes>,
    /// The piece being written.
    last: BytesMut,
}

impl Postbox {
    /// Adds a message at the end.
    pub(super) fn push(&self, message: &ReadMessagesResponse) {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let first = contents.full.is_empty() && contents.last.is_empty();
        write_json(&mut contents.last, first, message);
        if contents.last.len() >= PIECE {
            let piece = contents.last.split().freeze();
            contents.full.push(piece);
        }
    }

    /// Takes everything out: a JSON array in pieces. Each message is in exactly one answer, however many flush at once.
    pub(super) fn flush(&self) -> Vec<Bytes> {
        let Contents { mut full, last } =
            std::mem::take(&mut *self.contents.lock().unwrap_or_else(PoisonError::into_inner));
        if full.is_empty() && last.is_empty() {
            return vec![Bytes::from_static(b"[]")];
        }
        full.push(last.freeze());
        full.push(Bytes::from_static(b"]"));
        full
    }
}

/// Writes one message with the bracket or comma before it.
fn write_json(buffer: &mut BytesMut, first: bool, message: &ReadMessagesResponse) {
    let time = message.send_time.unwrap_or_default();
    let mut out = buffer.writer();
    // Writing to memory does not fail, and a string is always valid JSON.
    let _ = out.write_all(if first { b"[{\"author\":" } else { b",{\"author\":" });
    let _ = serde_json::to_writer(&mut out, &message.author);
    let _ = out.write_all(b",\"text\":");
    let _ = serde_json::to_writer(&mut out, &message.text);
    let _ = write!(out, ",\"sendTime\":\"{}\"}}", rfc3339(&time));
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
        let texts =
            ["\0\u{1}\u{1f}\u{7f}", "\"quoted\" \\ and / \n\r\t", "Привет 👋🏽 \u{2028}\u{202e}", &"я".repeat(PIECE)];
        for text in texts {
            postbox.push(&message(text, text, 1));
        }
        let expected =
            texts.map(|text| json!({"author": text, "text": text, "sendTime": "2025-09-20T10:58:42.000000001Z"}));
        assert_eq!(flush(&postbox), json!(expected));
    }

    #[test]
    fn pieces_join_into_one_array() {
        let postbox = Postbox::default();
        for i in 0..20_000 {
            postbox.push(&message("author", &i.to_string(), i));
        }
        let pieces = postbox.flush();
        assert!(pieces.len() > 3, "several pieces");
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
