//! A message as JSON: `{"author":"...","text":"...","sendTime":"..."}`, the same in a flush and in a page's stream.

use std::io::Write;
use std::ops::Range;

use prost_types::Timestamp;

use crate::proto::ReadMessagesResponse;
use crate::send_time::rfc3339;

/// What a message may leave behind for the next one to be written into.
const KEPT: usize = 64 * 1024;

/// A message, written once for all who keep it. There is no line break in it: JSON escapes those of its strings.
#[derive(Debug, Default)]
pub(crate) struct MessageJson {
    json: Vec<u8>,
    time: Range<usize>,
    stamp: Timestamp,
}

impl MessageJson {
    /// Takes another message, into the same memory.
    pub(crate) fn write(&mut self, message: &ReadMessagesResponse) {
        self.json.clear();
        self.json.shrink_to(KEPT);
        self.json.reserve(128 + message.author.len() + message.text.len());
        self.stamp = message.send_time.unwrap_or_default();
        self.json.extend_from_slice(b"{\"author\":");
        string(&mut self.json, &message.author);
        self.json.extend_from_slice(b",\"text\":");
        string(&mut self.json, &message.text);
        self.json.extend_from_slice(b",\"sendTime\":\"");
        let start = self.json.len();
        // Writing to memory does not fail.
        let _ = write!(self.json, "{}", rfc3339(&self.stamp));
        self.time = start..self.json.len();
        self.json.extend_from_slice(b"\"}");
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.json
    }

    /// Its `sendTime`, as it is written ...
    pub(crate) fn time(&self) -> &[u8] {
        &self.json[self.time.clone()]
    }

    /// ... and as it came.
    pub(crate) fn stamp(&self) -> Timestamp {
        self.stamp
    }
}

fn string(json: &mut Vec<u8>, text: &str) {
    if needs_escapes(text) {
        // Neither writing to memory nor a string fails.
        let _ = serde_json::to_writer(json, text);
        return;
    }
    json.push(b'"');
    json.extend_from_slice(text.as_bytes());
    json.push(b'"');
}

/// Whether something in `text` can't stand in a JSON string as it is. Almost never, and looking at all of it without a branch is
/// several times as fast as looking for what comes first.
#[allow(clippy::needless_bitwise_bool)]
fn needs_escapes(text: &str) -> bool {
    text.bytes().fold(false, |found, byte| found | (byte < b' ') | (byte == b'"') | (byte == b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_is_written_as_serde_json_does() {
        for text in ('\0'..='\u{ff}').map(|char| format!("a{char}b")) {
            let mut written = Vec::new();
            string(&mut written, &text);
            assert_eq!(written, serde_json::to_vec(&text).expect("JSON"), "{text:?}");
        }
    }
}
