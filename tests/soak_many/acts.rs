//! What is done to the servers and to the engine, in a random order.

use crate::engine::{LOSSES, Loss};

/// Something that is done in the middle of everything.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    KillServer,
    KillEngine,
    /// The engine first, or the server.
    KillBoth,
    Lose(Loss),
    StopServer,
    StopEngine,
}

/// A pack of cards: each comes once before any comes again.
#[derive(Debug)]
pub struct Pack {
    all: Vec<Act>,
    left: Vec<Act>,
}

impl Pack {
    pub fn stops() -> Self {
        Self::of(&[Act::StopServer, Act::StopEngine])
    }

    pub fn kills() -> Self {
        Self::of(&[Act::KillServer, Act::KillServer, Act::KillEngine, Act::KillBoth])
    }

    pub fn losses() -> Self {
        let losses: Vec<Act> = LOSSES.into_iter().map(Act::Lose).chain([Act::KillServer]).collect();
        Self::of(&losses)
    }

    fn of(acts: &[Act]) -> Self {
        Self { all: acts.to_vec(), left: Vec::new() }
    }

    pub fn next(&mut self, random: &mut fastrand::Rng) -> Act {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            random.shuffle(&mut self.left);
        }
        self.left.pop().expect("one")
    }
}
