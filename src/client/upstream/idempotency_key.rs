//! The idempotency key that goes with a message.

use tonic::metadata::AsciiMetadataValue;

use crate::process::{NoRandomness, random};
use crate::proto;

/// The idempotency key of one message: the server accepts one message under it.
#[derive(Debug, Clone)]
pub(in crate::client) struct IdempotencyKey(AsciiMetadataValue);

impl IdempotencyKey {
    /// A new random key. A stranger who could guess the key of a message could send another message
    /// in its place.
    #[allow(clippy::expect_used)] // Hexadecimal digits are always a valid metadata value.
    pub(in crate::client) fn random() -> Result<Self, NoRandomness> {
        let digits = format!("{:032x}", random()?);
        Ok(Self(AsciiMetadataValue::try_from(digits).expect("digits are a value")))
    }

    /// The key that a caller chose, if it is valid.
    pub(in crate::client) fn parse(bytes: &[u8]) -> Option<Self> {
        proto::is_idempotency_key(bytes).then(|| AsciiMetadataValue::try_from(bytes).ok()).flatten().map(Self)
    }

    /// The key as the value of its metadata.
    pub(super) fn metadata(&self) -> AsciiMetadataValue {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_copies_of_a_virtual_machine_get_different_keys() {
        // A copied virtual machine has the same memory, with the state of every pseudorandom
        // generator in it.
        let [one, other] = [(); 2].map(|()| {
            fastrand::seed(7);
            IdempotencyKey::random().expect("random numbers").0
        });
        assert_ne!(one, other);
    }
}
