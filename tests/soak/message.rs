//! The messages of the soak, which are recognised by their texts.

use std::fmt;

/// A `sendTime` as text with 9 digits, which sorts by time.
pub type Time = String;

/// The sender of a message and its number there, which make a unique text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub sender: u16,
    pub number: u32,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.sender, self.number)
    }
}

impl Id {
    /// The text of this message with padding.
    pub fn text(self, padding: usize) -> String {
        format!("{self} {padding} {}", "x".repeat(padding))
    }

    /// The message with this text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let (sender, number) = parts.next()?.split_once('/')?;
        let id = Self { sender: sender.parse().ok()?, number: number.parse().ok()? };
        let padding = parts.next()?.parse().ok()?;
        (text == id.text(padding)).then_some(id)
    }
}
