//! Readers that wait for something to happen in the room: a round, if they have read everything.

use std::task::Waker;

use slab::Slab;

/// A place among those who wait. Good for one round: after it everybody has been woken, and must come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    round: u64,
    key: usize,
}

impl Ticket {
    /// Whether it is good when so many rounds have ended.
    pub(super) fn is_of_round(self, rounds: u64) -> bool {
        self.round == rounds
    }
}

/// Wakers of this round, each at a place from which its reader can take it back: readers that come and go in a silent room leave
/// nothing behind.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    wakers: Slab<Waker>,
    round: u64,
}

impl Waiting {
    /// Adds a reader, or renews the place that it already has in this round.
    pub(super) fn wait(&mut self, ticket: Option<Ticket>, waker: &Waker) -> Ticket {
        if let Some(ticket) = ticket.filter(|ticket| ticket.round == self.round)
            && let Some(place) = self.wakers.get_mut(ticket.key)
        {
            place.clone_from(waker);
            return ticket;
        }
        Ticket { round: self.round, key: self.wakers.insert(waker.clone()) }
    }

    /// How many rounds have ended.
    pub(super) fn rounds(&self) -> u64 {
        self.round
    }

    /// Takes a reader away that will not come back.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if ticket.round == self.round {
            self.wakers.try_remove(ticket.key);
        }
    }

    /// Ends the round: adds everybody who waits to `woken`.
    pub(super) fn end_round_into(&mut self, woken: &mut Slab<Waker>) {
        self.round += 1;
        for waker in self.wakers.drain() {
            woken.insert(waker);
        }
    }

    /// Ends the round: moves everybody who waits into `woken`, which must be empty and whose memory serves the next round.
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
    fn places_are_renewed_left_and_reused() {
        let mut waiting = Waiting::default();
        let waker = Waker::noop();
        let ticket = waiting.wait(None, waker);
        assert_eq!(waiting.wait(Some(ticket), waker), ticket);
        for _ in 0..1_000 {
            let gone = waiting.wait(None, waker);
            waiting.leave(gone);
        }
        assert_eq!(waiting.wakers.len(), 1);
        assert!(waiting.wakers.capacity() <= 4, "a silent room does not grow");
    }

    #[test]
    fn a_ticket_of_an_old_round_touches_nobody() {
        let mut waiting = Waiting::default();
        let old = waiting.wait(None, Waker::noop());
        let mut woken = Slab::new();
        waiting.end_round(&mut woken);
        assert_eq!(woken.len(), 1);
        let new = waiting.wait(Some(old), Waker::noop());
        assert_ne!(old, new);
        waiting.leave(old);
        assert_eq!(waiting.wakers.len(), 1);
    }
}
