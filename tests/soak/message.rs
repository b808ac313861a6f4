//! The messages of the soak. What they are can be told from their texts.

use std::fmt;

/// A `sendTime` in its one form with 9 digits, which sorts as the time does.
pub type Time = String;

/// The name of a message: who sent it, and its number there. Texts are made from it, and no two are the same.
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
    /// The text of this message, with so many further bytes.
    pub fn text(self, padding: usize) -> String {
        format!("{self} {padding} {}", "x".repeat(padding))
    }

    /// The message that this is the whole text of.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let (sender, number) = parts.next()?.split_once('/')?;
        let id = Self { sender: sender.parse().ok()?, number: number.parse().ok()? };
        let padding = parts.next()?.parse().ok()?;
        (text == id.text(padding)).then_some(id)
    }
}
