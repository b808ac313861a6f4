//! Random numbers from the operating system, for names that must be unique and impossible to guess.

use thiserror::Error;

/// The operating system failed to provide random numbers.
#[derive(Debug, Clone, Copy, Error)]
#[error("the operating system provides no random numbers: {0}")]
pub struct NoRandomness(#[from] getrandom::Error);

/// A random number of 16 bytes. There is no other source to fall back to: a generator seeded by the
/// program yields the same numbers in each copy of a virtual machine.
pub(crate) fn random() -> Result<u128, NoRandomness> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}
