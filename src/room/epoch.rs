//! Which life of the room it is.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::process::{NoRandomness, random};

/// A name that each room has for itself. Two positions can be compared only within one epoch: a server that starts again begins a new
/// one, and knows nothing of the messages before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

/// The text is no epoch: 16 hexadecimal digits in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("16 hexadecimal digits are expected")]
pub struct EpochError;

impl Epoch {
    /// One that no other room has had.
    pub(crate) fn new() -> Result<Self, NoRandomness> {
        // Half of the bits are enough: what they are is no secret.
        #[allow(clippy::cast_possible_truncation)]
        random().map(|number| Self(number as u64))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = EpochError;

    fn from_str(text: &str) -> Result<Self, EpochError> {
        let digits = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        digits.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self).ok_or(EpochError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_from_its_text() {
        let epoch = Epoch::new().expect("random numbers");
        assert_ne!(epoch, Epoch::new().expect("random numbers"));
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        assert_eq!(Epoch(15).to_string(), "000000000000000f");
    }

    #[test]
    fn nothing_else_is_one() {
        for text in ["", "f", "000000000000000F", "+00000000000000f", "00000000000000000", "0000 00000000000"] {
            assert_eq!(text.parse::<Epoch>(), Err(EpochError), "{text:?}");
        }
    }
}
