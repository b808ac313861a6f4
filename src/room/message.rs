//! A message on its way into the room: encoded, all but its time.

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;

use crate::proto::ReadMessagesResponse;
use crate::proto::frame::{self, PREFIX_LEN};
use crate::send_time::SendTime;

/// Room for the time at the end: two bytes of field header, and a `Timestamp` of at most 6 (seconds up to 2^35) + 6 bytes.
const ENCODED_TIME_MAX: usize = 14;

/// One message as every reader will get it, a gRPC frame with a [`ReadMessagesResponse`], of which only the time is missing.
///
/// Everything that costs in proportion to the text is done here, before the room's lock is taken. The time can wait because
/// protobuf's fields may come in any order, one after the other: whoever decodes the text's bytes and then the time's sees one
/// message with both.
#[derive(Debug)]
pub struct Draft {
    frame: Vec<u8>,
}

impl Draft {
    /// Encodes a message. Any text is fine, empty ones too.
    #[must_use]
    pub fn new(author: String, text: String) -> Self {
        let message = ReadMessagesResponse { author, text, send_time: None };
        let mut frame = frame::begin(message.encoded_len() + ENCODED_TIME_MAX);
        message.encode_raw(&mut frame);
        Self { frame }
    }

    /// The most bytes that a reader's gRPC library will count for this message, whatever its time.
    #[must_use]
    pub fn outgoing_size(&self) -> usize {
        self.frame.len() - PREFIX_LEN + ENCODED_TIME_MAX
    }

    /// Author and text, encoded.
    pub(crate) fn message(&self) -> &[u8] {
        &self.frame[PREFIX_LEN..]
    }

    /// Author and text.
    pub(crate) fn author_and_text(&self) -> (String, String) {
        // It was encoded here.
        let ReadMessagesResponse { author, text, .. } =
            ReadMessagesResponse::decode(self.message()).unwrap_or_default();
        (author, text)
    }

    /// Bytes of the whole frame, at most.
    pub(crate) fn frame_size(&self) -> usize {
        self.frame.len() + ENCODED_TIME_MAX
    }

    /// Appends the finished frame to `log`.
    pub(crate) fn append_to(&self, log: &mut Vec<u8>, time: SendTime) {
        let start = log.len();
        log.extend_from_slice(&self.frame);
        finish(log, start, time);
    }

    /// The finished frame by itself, without a copy.
    pub(crate) fn into_bytes(mut self, time: SendTime) -> Bytes {
        finish(&mut self.frame, 0, time);
        Bytes::from(self.frame)
    }
}

/// Adds the time to the frame that begins at `start` and ends the buffer, and writes the frame's length.
fn finish(buffer: &mut Vec<u8>, start: usize, time: SendTime) {
    let time = ReadMessagesResponse { send_time: Some(Timestamp::from(time)), ..Default::default() };
    time.encode_raw(buffer);
    frame::set_length(&mut buffer[start..]);
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn is_the_frame_that_a_reader_decodes() {
        for (author, text) in [("", ""), ("alice", "hey"), ("Вася", "привет 👋\0\"\n"), ("a", &"x".repeat(300_000))]
        {
            let time = SendTime::default().next(SystemTime::now()).expect("a time");
            let draft = Draft::new(author.to_owned(), text.to_owned());
            let (size, frame_size) = (draft.outgoing_size(), draft.frame_size());
            let mut log = b"before".to_vec();
            draft.append_to(&mut log, time);
            let bytes = draft.into_bytes(time);
            assert_eq!(log[6..], bytes[..]);

            let (message, rest) = frame::split(&bytes).expect("a frame");
            assert_eq!((bytes[0], rest), (0, &[][..]));
            assert!(message.len() <= size && bytes.len() <= frame_size);
            let decoded = ReadMessagesResponse::decode(message).expect("a message");
            assert_eq!(
                decoded,
                ReadMessagesResponse { author: author.to_owned(), text: text.to_owned(), send_time: Some(time.into()) }
            );
        }
    }

    #[test]
    fn the_latest_time_fits() {
        let time = ReadMessagesResponse {
            send_time: Some(Timestamp { seconds: i64::from(u32::MAX) * 4, nanos: 999_999_999 }),
            ..Default::default()
        };
        assert!(time.encoded_len() <= ENCODED_TIME_MAX, "{}", time.encoded_len());
    }
}
