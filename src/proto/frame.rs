//! gRPC's framing: each message follows a prefix of five bytes.
//!
//! The first byte of the prefix says whether the message is compressed, the other four are its
//! length, big-endian.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use bytes::{BufMut, Bytes};
use prost::Message;

/// The bytes of a prefix.
pub const PREFIX_LEN: usize = 5;

/// The prefix of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// 0 for a plain message, 1 for a compressed one. gRPC defines no other value.
    pub compressed: u8,
    /// The length of the message after the prefix, in bytes.
    pub length: usize,
}

impl Prefix {
    /// Reads the prefix at the beginning of `bytes`, or gives `None` if there are fewer than five.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let &[compressed, a, b, c, d] = bytes.first_chunk::<PREFIX_LEN>()?;
        Some(Self { compressed, length: u32::from_be_bytes([a, b, c, d]) as usize })
    }
}

/// Encodes a message as an uncompressed frame.
pub fn encode(message: &impl Message) -> Bytes {
    let mut frame = begin(message.encoded_len());
    message.encode_raw(&mut frame);
    set_length(&mut frame);
    frame.into()
}

/// Starts an uncompressed frame whose message takes about `capacity` bytes. The caller appends the
/// message and then calls [`set_length`].
#[must_use]
pub fn begin(capacity: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(PREFIX_LEN + capacity);
    frame.put_bytes(0, PREFIX_LEN);
    frame
}

/// Writes the length of a complete frame into its prefix.
pub fn set_length(frame: &mut [u8]) {
    if let Some((prefix, message)) = frame.split_first_chunk_mut::<PREFIX_LEN>() {
        // A longer message is impossible: the server limits messages to 4 MiB.
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        prefix[1..].copy_from_slice(&length.to_be_bytes());
    }
}

/// Splits `frames` after its first frame: that frame's message, and the bytes after it. `None` if
/// the first frame is not complete.
#[must_use]
pub fn split(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    frames.get(PREFIX_LEN..)?.split_at_checked(Prefix::read(frames)?.length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::SendMessageRequest;

    #[test]
    fn a_frame_is_a_flag_a_length_and_the_message() {
        let message = SendMessageRequest { author: "a".repeat(300), text: String::new() };
        let frame = encode(&message);
        assert_eq!(frame[..PREFIX_LEN], [0, 0, 0, 1, 47]);
        assert_eq!(frame[PREFIX_LEN..], message.encode_to_vec());
        assert_eq!(encode(&SendMessageRequest::default())[..], [0; 5]);
    }

    #[test]
    fn split_takes_one_frame_at_a_time() {
        let two = [0, 0, 0, 0, 1, b'a', 0, 0, 0, 0, 0];
        assert_eq!(split(&two), Some((&b"a"[..], &[0; 5][..])));
        assert_eq!(split(&[0; 5]), Some((&[][..], &[][..])));
        for incomplete in [&two[..0], &two[..4], &two[..5]] {
            assert_eq!(split(incomplete), None, "{incomplete:?}");
        }
    }

    #[test]
    fn a_prefix_is_read_once_all_of_it_has_come() {
        assert_eq!(Prefix::read(&[1, 0xff, 0, 0, 2, 9]), Some(Prefix { compressed: 1, length: 0xff00_0002 }));
        assert_eq!(Prefix::read(&[1, 0, 0, 2]), None);
    }
}
