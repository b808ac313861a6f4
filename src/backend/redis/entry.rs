//! A message as an entry of the stream.

use redis::Value;

use crate::room::{EncodedMessage, Epoch};

/// The format of the entries that `post.lua` writes, in their field `v`: author and text are
/// encoded in the field `m`. Format 1 had the fields `a` and `t` instead, and no version.
const FORMAT: &[u8] = b"2";

/// An entry of the stream. Times are in microseconds.
#[derive(Debug)]
pub(super) struct Entry {
    /// The time of the message: the first half of the entry's id.
    pub(super) micros: u64,
    pub(super) epoch: Epoch,
    /// The time of the message before it.
    pub(super) previous: u64,
    pub(super) message: EncodedMessage,
}

/// Entries as Redis sends them: an id, and the names and values of fields in turn.
pub(super) type RawEntries = Vec<(String, Vec<Vec<u8>>)>;

/// Streams as Redis sends them.
pub(super) type RawStreams = Option<Vec<(Value, RawEntries)>>;

/// The time in an id.
pub(super) fn micros(id: &str) -> Option<u64> {
    id.split_once('-')?.0.parse().ok()
}

impl Entry {
    /// Parses an entry. `None` if it is no message: another program has written to the stream.
    pub(super) fn parse(id: &str, fields: &[Vec<u8>]) -> Option<Self> {
        let value = |name: &[u8]| {
            let mut fields = fields.chunks_exact(2);
            fields.find(|field| field[0] == name).map(|field| field[1].as_slice())
        };
        let text = |name| str::from_utf8(value(name)?).ok();
        let message = match value(b"v") {
            Some(FORMAT) => EncodedMessage::from_author_and_text(value(b"m")?)?,
            None => EncodedMessage::new(text(b"a")?.to_owned(), text(b"t")?.to_owned()),
            Some(_) => return None,
        };
        Some(Self {
            micros: id.strip_suffix("-0")?.parse().ok()?,
            epoch: text(b"e")?.parse().ok()?,
            previous: text(b"p")?.parse().ok()?,
            message,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(id: &str, fields: &[(&str, &[u8])]) -> Option<Entry> {
        let parts = fields.iter().flat_map(|(name, value)| [name.as_bytes(), value]);
        Entry::parse(id, &parts.map(<[u8]>::to_vec).collect::<Vec<_>>())
    }

    #[test]
    fn both_formats_are_the_same_message_and_nothing_else_is_one() {
        let message = EncodedMessage::new("alice".to_owned(), "\0hey".to_owned());
        let start: [(&str, &[u8]); 2] = [("e", b"0123456789abcdef"), ("p", b"41")];
        let formats: [[(&str, &[u8]); 2]; 2] =
            [[("a", b"alice"), ("t", b"\0hey")], [("v", b"2"), ("m", message.author_and_text())]];
        for format in formats {
            let fields = [&start[..], &format, &[("later", b"x")]].concat();
            let entry = parse("42-0", &fields).expect("a message");
            assert_eq!((entry.micros, entry.previous), (42, 41));
            assert_eq!(entry.epoch.to_string(), "0123456789abcdef");
            assert_eq!(entry.message.author_and_text(), message.author_and_text());
            assert!(parse("42-1", &fields).is_none() && parse("x-0", &fields).is_none());
            for missing in 0..4 {
                let mut fields = fields.clone();
                fields.remove(missing);
                assert!(parse("42-0", &fields).is_none(), "{missing}");
            }
        }
        let newer = [&start[..], &[("v", b"3"), ("a", b"alice"), ("t", b"hey")]].concat();
        assert!(parse("42-0", &newer).is_none());
        let broken = [&start[..], &[("v", b"2"), ("m", b"alice")]].concat();
        assert!(parse("42-0", &broken).is_none());
    }
}
