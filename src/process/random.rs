//! Random numbers of the operating system, for names that nobody else may have or guess.

use thiserror::Error;

/// The operating system has failed to give random numbers.
#[derive(Debug, Clone, Copy, Error)]
#[error("the operating system gives no random numbers: {0}")]
pub struct NoRandomness(#[from] getrandom::Error);

/// Sixteen random bytes as one number. There is no other source to fall back to: a generator with a
/// seed of its own gives the same numbers in each copy of a virtual machine.
pub(crate) fn random() -> Result<u128, NoRandomness> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}
