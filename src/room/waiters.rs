//! The wait list of readers, for the end of a round or of a lap.

use std::task::Waker;

use slab::Slab;

/// A reader's slot in the wait list, valid until the current round ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    round: u64,
    slot: usize,
}

impl Ticket {
    /// Whether the ticket is valid after `rounds` rounds have ended.
    pub(super) fn is_of_round(self, rounds: u64) -> bool {
        self.round == rounds
    }
}

/// The wait list of one round. A reader that leaves frees its slot, so a silent room does not grow
/// while readers come and go.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    wakers: Slab<Waker>,
    round: u64,
}

impl Waiters {
    /// Adds a reader, or updates the slot that the reader has in this round.
    pub(super) fn wait(&mut self, ticket: Option<Ticket>, waker: &Waker) -> Ticket {
        if let Some(ticket) = ticket.filter(|ticket| ticket.round == self.round)
            && let Some(slot) = self.wakers.get_mut(ticket.slot)
        {
            slot.clone_from(waker);
            return ticket;
        }
        Ticket { round: self.round, slot: self.wakers.insert(waker.clone()) }
    }

    /// The number of rounds that have ended.
    pub(super) fn rounds(&self) -> u64 {
        self.round
    }

    /// Removes a reader.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if ticket.round == self.round {
            self.wakers.try_remove(ticket.slot);
        }
    }

    /// Ends the round and adds all waiting readers to `woken`.
    pub(super) fn end_round_into(&mut self, woken: &mut Slab<Waker>) {
        self.round += 1;
        for waker in self.wakers.drain() {
            woken.insert(waker);
        }
    }

    /// Ends the round and swaps all waiting readers into `woken`, which must be empty: its memory
    /// serves the next round.
    pub(super) fn end_round(&mut self, woken: &mut Slab<Waker>) {
        debug_assert!(woken.is_empty());
        self.round += 1;
        std::mem::swap(&mut self.wakers, woken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_updated_left_and_reused() {
        let mut waiters = Waiters::default();
        let waker = Waker::noop();
        let ticket = waiters.wait(None, waker);
        assert_eq!(waiters.wait(Some(ticket), waker), ticket);
        for _ in 0..1_000 {
            let left = waiters.wait(None, waker);
            waiters.leave(left);
        }
        assert_eq!(waiters.wakers.len(), 1);
        assert!(waiters.wakers.capacity() <= 4, "a silent room does not grow");
    }

    #[test]
    fn a_ticket_of_an_old_round_changes_nothing() {
        let mut waiters = Waiters::default();
        let old = waiters.wait(None, Waker::noop());
        let mut woken = Slab::new();
        waiters.end_round(&mut woken);
        assert_eq!(woken.len(), 1);
        let new = waiters.wait(Some(old), Waker::noop());
        assert_ne!(old, new);
        waiters.leave(old);
        assert_eq!(waiters.wakers.len(), 1);
    }
}
