//! A message as JSON, `{"author":"...","text":"...","sendTime":"..."}`, for flushes and event
//! streams alike.

use std::io::Write;
use std::ops::Range;

use prost_types::Timestamp;

use crate::proto::ReadMessagesResponse;
use crate::send_time::rfc3339;

/// The capacity of the buffer that stays for the next message.
const KEPT_CAPACITY: usize = 64 * 1024;

/// One message as JSON, written once for the postbox and the history. It is a single line: JSON
/// escapes the line breaks in its strings.
#[derive(Debug, Default)]
pub(in crate::client) struct MessageJson {
    json: Vec<u8>,
    send_time_text: Range<usize>,
    send_time: Timestamp,
}

impl MessageJson {
    /// Replaces the message, and reuses the memory.
    pub(in crate::client) fn write(&mut self, message: &ReadMessagesResponse) {
        self.json.clear();
        self.json.shrink_to(KEPT_CAPACITY);
        self.json.reserve(128 + message.author.len() + message.text.len());
        self.send_time = message.send_time.unwrap_or_default();
        self.json.extend_from_slice(b"{\"author\":");
        string(&mut self.json, &message.author);
        self.json.extend_from_slice(b",\"text\":");
        string(&mut self.json, &message.text);
        self.json.extend_from_slice(b",\"sendTime\":\"");
        let start = self.json.len();
        // Writing to a vector does not fail.
        let _ = write!(self.json, "{}", rfc3339(&self.send_time));
        self.send_time_text = start..self.json.len();
        self.json.extend_from_slice(b"\"}");
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.json
    }

    /// The `sendTime` as it is written in the JSON.
    pub(super) fn send_time_text(&self) -> &[u8] {
        &self.json[self.send_time_text.clone()]
    }

    pub(super) fn send_time(&self) -> Timestamp {
        self.send_time
    }
}

fn string(json: &mut Vec<u8>, text: &str) {
    if needs_escapes(text) {
        // Neither writing to a vector nor serializing a string fails.
        let _ = serde_json::to_writer(json, text);
        return;
    }
    json.push(b'"');
    json.extend_from_slice(text.as_bytes());
    json.push(b'"');
}

/// Whether JSON has to escape a character of `text`, which is rare. Looking at every byte without a
/// branch is several times as fast as stopping at the first such character.
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
