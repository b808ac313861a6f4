//! A message on its way into the room: encoded, except for its time.

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;

use crate::proto::ReadMessagesResponse;
use crate::proto::frame::{self, PREFIX_LEN};
use crate::send_time::SendTime;

/// The most bytes of the encoded time: two of its field header, and a `Timestamp` of at most 6 for
/// the seconds (up to 2^35) and 6 for the nanoseconds.
const ENCODED_TIME_MAX: usize = 14;

/// One message as every reader gets it: a gRPC frame with a [`ReadMessagesResponse`] that lacks
/// only its time.
///
/// All work that grows with the text is done before the room's lock is taken. The time can be added
/// later because protobuf's fields may come in any order: appended bytes are one more field.
#[derive(Debug)]
pub struct EncodedMessage {
    frame: Vec<u8>,
}

impl EncodedMessage {
    /// Encodes a message. Author and text may be empty.
    #[must_use]
    pub fn new(author: String, text: String) -> Self {
        let message = ReadMessagesResponse { author, text, send_time: None };
        let mut frame = frame::begin(message.encoded_len() + ENCODED_TIME_MAX);
        message.encode_raw(&mut frame);
        Self { frame }
    }

    /// Makes a message from the bytes of [`EncodedMessage::author_and_text`]. `None` if they do not
    /// parse, or have a time already.
    #[must_use]
    pub fn from_author_and_text(bytes: &[u8]) -> Option<Self> {
        let ReadMessagesResponse { send_time: None, .. } = ReadMessagesResponse::decode(bytes).ok()? else {
            return None;
        };
        let mut frame = frame::begin(bytes.len() + ENCODED_TIME_MAX);
        frame.extend_from_slice(bytes);
        Some(Self { frame })
    }

    /// The most bytes that a reader's gRPC library counts for this message, whatever its time.
    #[must_use]
    pub fn outgoing_size(&self) -> usize {
        self.frame.len() - PREFIX_LEN + ENCODED_TIME_MAX
    }

    /// Author and text, encoded.
    #[must_use]
    pub fn author_and_text(&self) -> &[u8] {
        &self.frame[PREFIX_LEN..]
    }

    /// The most bytes of the complete frame.
    pub(super) fn frame_size(&self) -> usize {
        self.frame.len() + ENCODED_TIME_MAX
    }

    /// Appends the complete frame to `frames`.
    pub fn append_to(&self, frames: &mut Vec<u8>, time: SendTime) {
        let start = frames.len();
        frames.extend_from_slice(&self.frame);
        complete(frames, start, time);
    }

    /// Gives the complete frame without copying it.
    pub(super) fn into_frame(mut self, time: SendTime) -> Bytes {
        complete(&mut self.frame, 0, time);
        Bytes::from(self.frame)
    }
}

/// Adds the time to the frame that begins at `start` and ends the buffer.
fn complete(buffer: &mut Vec<u8>, start: usize, time: SendTime) {
    let send_time = Some(Timestamp::from(time));
    ReadMessagesResponse { send_time, ..Default::default() }.encode_raw(buffer);
    frame::set_length(&mut buffer[start..]);
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn becomes_the_frame_that_a_reader_decodes() {
        let long = "x".repeat(300_000);
        for (author, text) in [("", ""), ("alice", "hey"), ("Вася", "привет 👋\0\"\n"), ("a", &long)] {
            let time = SendTime::default().next(SystemTime::now()).expect("a time");
            let message = EncodedMessage::new(author.to_owned(), text.to_owned());
            let again = EncodedMessage::from_author_and_text(message.author_and_text());
            assert_eq!(again.expect("a message").frame, message.frame);

            let (size, frame_size) = (message.outgoing_size(), message.frame_size());
            let mut frames = b"before".to_vec();
            message.append_to(&mut frames, time);
            let frame = message.into_frame(time);
            assert_eq!(frames[6..], frame[..]);

            let (message, rest) = frame::split(&frame).expect("a frame");
            assert_eq!((frame[0], rest), (0, &[][..]));
            assert!(message.len() <= size && frame.len() <= frame_size);
            let decoded = ReadMessagesResponse::decode(message).expect("a message");
            let (author, text) = (author.to_owned(), text.to_owned());
            assert_eq!(decoded, ReadMessagesResponse { author, text, send_time: Some(time.into()) });
        }
    }

    #[test]
    fn other_bytes_are_not_taken_for_author_and_text() {
        let send_time = Some(Timestamp::default());
        let complete = ReadMessagesResponse { send_time, ..Default::default() }.encode_to_vec();
        for bytes in [&complete[..], b"\x0a\x02a", b"\x0a\x01\xff", b"alice"] {
            assert!(EncodedMessage::from_author_and_text(bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn the_latest_time_fits() {
        let seconds = i64::from(u32::MAX) * 4;
        let send_time = Some(Timestamp { seconds, nanos: 999_999_999 });
        let time = ReadMessagesResponse { send_time, ..Default::default() };
        assert!(time.encoded_len() <= ENCODED_TIME_MAX, "{}", time.encoded_len());
    }
}
