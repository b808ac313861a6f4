//! The faults of the servers and of Redis, in a random order.

/// A fault.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    KillServer,
    KillEngine,
    /// A server and Redis, in either order.
    KillBoth,
    /// Redis loses messages, each time in another way.
    Lose,
    StopServer,
    StopEngine,
}

/// A shuffled pack: each act comes once before any is repeated.
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
        Self::of(&[Act::Lose, Act::Lose, Act::Lose, Act::KillServer])
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
