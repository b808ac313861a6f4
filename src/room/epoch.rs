//! The name of one unbroken history of the room.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The name of one unbroken history of the room. Two positions can be compared only within one
/// epoch: a server that restarts without its messages begins a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

/// The text is not an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("16 hexadecimal digits in lower case are expected")]
pub struct InvalidEpoch;

impl Epoch {
    /// Makes an epoch of a random number. Half of the bits are enough, because an epoch is no
    /// secret.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub fn from_random(number: u128) -> Self {
        Self(number as u64)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = InvalidEpoch;

    fn from_str(text: &str) -> Result<Self, InvalidEpoch> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(is_digit) {
            return Err(InvalidEpoch);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| InvalidEpoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_its_own_text() {
        let epoch = Epoch::from_random(0xfedc_ba98_7654_3210_0123_4567_89ab_cdef);
        assert_eq!(epoch.to_string(), "0123456789abcdef");
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        assert_eq!(Epoch(15).to_string(), "000000000000000f");
    }

    #[test]
    fn refuses_any_other_text() {
        for text in ["", "f", "000000000000000F", "+00000000000000f", "00000000000000000", "0000 00000000000"] {
            assert_eq!(text.parse::<Epoch>(), Err(InvalidEpoch), "{text:?}");
        }
    }
}
