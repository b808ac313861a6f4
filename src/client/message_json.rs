//! A message as JSON: `{"author":"...","text":"...","sendTime":"..."}`, the same in a flush and in a page's stream.

use std::io::{self, Write};

use crate::proto::ReadMessagesResponse;
use crate::send_time::rfc3339;

/// Writes a message. There is no line break in it: JSON escapes those of its strings.
///
/// # Errors
/// Those of `out`.
pub(super) fn write(out: &mut impl Write, message: &ReadMessagesResponse) -> io::Result<()> {
    out.write_all(b"{\"author\":")?;
    string(out, &message.author)?;
    out.write_all(b",\"text\":")?;
    string(out, &message.text)?;
    write!(out, ",\"sendTime\":\"{}\"}}", rfc3339(&message.send_time.unwrap_or_default()))
}

fn string(out: &mut impl Write, text: &str) -> io::Result<()> {
    if needs_escapes(text) {
        return Ok(serde_json::to_writer(out, text)?);
    }
    out.write_all(b"\"")?;
    out.write_all(text.as_bytes())?;
    out.write_all(b"\"")
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
            string(&mut written, &text).expect("written");
            assert_eq!(written, serde_json::to_vec(&text).expect("JSON"), "{text:?}");
        }
    }
}
