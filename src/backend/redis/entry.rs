//! A message as the stream has it.

use redis::Value;

use crate::room::Epoch;

/// One entry of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its time, in microseconds: the first half of its id.
    pub(super) micros: u64,
    pub(super) epoch: Epoch,
    /// The time of the one before it.
    pub(super) previous: u64,
    pub(super) author: String,
    pub(super) text: String,
}

/// Entries as the engine sends them: each an id, and names and values of fields by turns.
pub(super) type Raw = Vec<(String, Vec<Vec<u8>>)>;

/// Streams as the engine sends them.
pub(super) type RawStreams = Option<Vec<(Value, Raw)>>;

/// The first half of an id.
pub(super) fn micros(id: &str) -> Option<u64> {
    id.split_once('-')?.0.parse().ok()
}

impl Entry {
    /// `None` if it is no message: somebody else has written into the stream.
    pub(super) fn new(id: &str, fields: Vec<Vec<u8>>) -> Option<Self> {
        let micros = id.strip_suffix("-0")?.parse().ok()?;
        let (mut epoch, mut previous, mut author, mut text) = (None, None, None, None);
        let mut fields = fields.into_iter();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            let place = match name.as_slice() {
                b"e" => &mut epoch,
                b"p" => &mut previous,
                b"a" => &mut author,
                b"t" => &mut text,
                // Of a later version, perhaps.
                _ => continue,
            };
            *place = Some(String::from_utf8(value).ok()?);
        }
        Some(Self {
            micros,
            epoch: epoch?.parse().ok()?,
            previous: previous?.parse().ok()?,
            author: author?,
            text: text?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, fields: &[(&str, &str)]) -> Option<Entry> {
        Entry::new(
            id,
            fields.iter().flat_map(|(name, value)| [*name, *value].map(|text| text.as_bytes().to_vec())).collect(),
        )
    }

    #[test]
    fn only_messages_are_taken() {
        let fields = [("e", "0123456789abcdef"), ("p", "41"), ("a", "alice"), ("t", "\0hey"), ("later", "x")];
        let read = entry("42-0", &fields).expect("a message");
        assert_eq!((read.micros, read.previous, read.author.as_str(), read.text.as_str()), (42, 41, "alice", "\0hey"));
        assert_eq!(entry("42-1", &fields), None);
        assert_eq!(entry("x-0", &fields), None);
        for missing in 0..4 {
            let mut fields = fields.to_vec();
            fields.remove(missing);
            assert_eq!(entry("42-0", &fields), None);
        }
    }
}
