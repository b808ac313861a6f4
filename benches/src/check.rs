//! What a reader must see: every message once, in one order, without a gap.

use crate::text;

/// What a message turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// One of those that only wait for readers to be open.
    WarmUp,
    /// One that counts, meant to be sent at this time in nanoseconds.
    Counted { intended: u64, disordered: bool },
    /// Nobody has sent such a text.
    Foreign,
}

/// One reader's view so far.
#[derive(Debug, Clone)]
pub struct Check {
    /// The next number of each sender.
    next: Vec<u64>,
    last_time: u64,
    count: u64,
}

impl Check {
    pub fn new(senders: usize) -> Self {
        Self { next: vec![0; senders], last_time: 0, count: 0 }
    }

    pub fn take(&mut self, text: &[u8], time: u64) -> Taken {
        let Some((sender, number, intended)) = text::read(text) else { return Taken::Foreign };
        if sender == text::WARM_UP {
            return Taken::WarmUp;
        }
        let Some(next) = self.next.get_mut(sender) else { return Taken::Foreign };
        // The order is the one of the times, where there are times: calls of one sender that are under way together may be accepted
        // in any order. Without them it is each sender's own. What is lost is counted at the end.
        let disordered = if time == 0 { number < *next } else { time <= self.last_time };
        *next = (*next).max(number + 1);
        self.last_time = time;
        self.count += 1;
        Taken::Counted { intended, disordered }
    }

    /// Messages that counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Messages that are missing before the last one of each sender.
    pub fn gaps(&self) -> u64 {
        self.next.iter().sum::<u64>().saturating_sub(self.count)
    }
}
