//! A budget for the memory of messages in transit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;
use tokio::sync::Notify;

/// A number of bytes that all clones share.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    limit: usize,
    taken: AtomicUsize,
    /// Notified when all bytes are returned.
    returned: Notify,
}

/// The part of a budget that one user has taken. Dropping it returns the bytes.
#[derive(Debug)]
pub struct Share {
    bytes: usize,
    budget: Budget,
}

/// The budget has too few bytes left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many bytes of unfinished requests, the limit is {limit}")]
pub struct Exhausted {
    /// The size of the budget, in bytes.
    pub limit: usize,
}

impl Budget {
    /// Creates a budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Pool { limit, taken: AtomicUsize::new(0), returned: Notify::new() }))
    }

    /// Creates an empty share.
    #[must_use]
    pub fn share(&self) -> Share {
        Share { bytes: 0, budget: self.clone() }
    }

    /// Completes when all bytes are returned.
    pub async fn all_returned(&self) {
        loop {
            let returned = self.0.returned.notified();
            if self.0.taken.load(Ordering::Acquire) == 0 {
                return;
            }
            returned.await;
        }
    }
}

impl Share {
    /// Grows the share to `bytes`, if it is smaller.
    ///
    /// # Errors
    /// [`Exhausted`], and then the share is unchanged.
    pub fn cover(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let more = bytes.saturating_sub(self.bytes);
        let Pool { limit, taken, .. } = &*self.budget.0;
        // Of two users that race for the last bytes both may be refused; neither waits for the
        // other.
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
        let Pool { taken, returned, .. } = &*self.budget.0;
        if self.bytes > 0 && taken.fetch_sub(self.bytes, Ordering::Release) == self.bytes {
            returned.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bounded_and_return_their_bytes() {
        let budget = Budget::new(10);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert_eq!((one.cover(6), other.cover(4)), (Ok(()), Ok(())));
        assert_eq!((one.cover(6), other.cover(5)), (Ok(()), Err(Exhausted { limit: 10 })));
        drop(one);
        assert_eq!((other.cover(10), other.cover(11)), (Ok(()), Err(Exhausted { limit: 10 })));
        drop(other);
        assert_eq!(budget.share().cover(10), Ok(()));
    }

    #[tokio::test]
    async fn tells_when_all_is_returned() {
        let budget = Budget::new(10);
        budget.all_returned().await;
        let mut share = budget.share();
        share.cover(1).expect("enough is left");
        let (all_returned, ()) =
            tokio::join!(tokio::time::timeout(std::time::Duration::from_secs(10), budget.all_returned()), async {
                drop(share);
            });
        all_returned.expect("all is returned");
    }
}
