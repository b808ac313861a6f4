//! Checks that a reader gets every message once and in one order.

use crate::text;

/// How a received message was classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A message of the warm-up, which opens the readers.
    WarmUp,
    /// A message of the measurement. `intended` is when it should have been sent, in nanoseconds.
    Counted { intended: u64, disordered: bool },
    /// A text that the load generator has not sent.
    Foreign,
}

/// The messages that one reader has got so far.
#[derive(Debug, Clone)]
pub struct Check {
    /// The next expected number of each sender.
    next: Vec<u64>,
    last_time: u64,
    count: u64,
}

impl Check {
    pub fn new(senders: usize) -> Self {
        Self { next: vec![0; senders], last_time: 0, count: 0 }
    }

    pub fn take(&mut self, text: &[u8], time: u64) -> Received {
        let Some((sender, number, intended)) = text::read(text) else { return Received::Foreign };
        if sender == text::WARM_UP {
            return Received::WarmUp;
        }
        let Some(next) = self.next.get_mut(sender) else { return Received::Foreign };
        // Messages are in the order of their times, because a server may accept concurrent calls of
        // one sender in any order. Messages without times are in the order of each sender. Lost
        // messages are counted at the end.
        let disordered = if time == 0 { number < *next } else { time <= self.last_time };
        *next = (*next).max(number + 1);
        self.last_time = time;
        self.count += 1;
        Received::Counted { intended, disordered }
    }

    /// The number of messages of the measurement.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The number of messages that are missing before the last one of each sender.
    pub fn gaps(&self) -> u64 {
        self.next.iter().sum::<u64>().saturating_sub(self.count)
    }
}
