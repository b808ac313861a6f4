//! A bound for the memory that all peers together may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;

/// So many bytes, for everybody who has a clone.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    limit: usize,
    taken: AtomicUsize,
}

/// What one of them has taken of it; given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    bytes: usize,
    of: Budget,
}

/// So much is not left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many bytes are on their way here at once, the limit is {limit}")]
pub struct Exhausted {
    /// Bytes that all together may take.
    pub limit: usize,
}

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Pool { limit, taken: AtomicUsize::new(0) }))
    }

    /// A share with nothing in it yet.
    #[must_use]
    pub fn share(&self) -> Share {
        Share { bytes: 0, of: self.clone() }
    }
}

impl Share {
    /// Takes what is missing to so many bytes.
    ///
    /// # Errors
    /// [`Exhausted`], and then it is as it was.
    pub fn cover(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let (more, Pool { limit, taken }) = (bytes.saturating_sub(self.bytes), &*self.of.0);
        // Two that come in one moment for the last bytes may both be turned away: neither waits for the other.
        if taken.fetch_add(more, Ordering::Relaxed) + more > *limit {
            taken.fetch_sub(more, Ordering::Relaxed);
            return Err(Exhausted { limit: *limit });
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.0.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_bounded_and_comes_back() {
        let budget = Budget::new(10);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert_eq!((one.cover(6), other.cover(4)), (Ok(()), Ok(())));
        assert_eq!((one.cover(6), other.cover(5)), (Ok(()), Err(Exhausted { limit: 10 })));
        drop(one);
        assert_eq!((other.cover(10), other.cover(11)), (Ok(()), Err(Exhausted { limit: 10 })));
        drop(other);
        assert_eq!(budget.share().cover(10), Ok(()));
    }
}
