//! Lines of the log that would repeat with each try.

use std::time::{Duration, Instant};

/// How often the same thing is said.
const EVERY: Duration = Duration::from_secs(10);

/// What was said of each server, and when.
#[derive(Debug)]
pub(crate) struct Repeats(Vec<Option<(String, Instant)>>);

impl Repeats {
    pub(crate) fn new(servers: usize) -> Self {
        Self(vec![None; servers])
    }

    /// Whether this is news of a server, or was last said long ago.
    pub(crate) fn is_due(&mut self, server: usize, text: &str) -> bool {
        let Some(said) = self.0.get_mut(server) else { return true };
        if said.as_ref().is_some_and(|(last, when)| last == text && when.elapsed() < EVERY) {
            return false;
        }
        *said = Some((text.to_owned(), Instant::now()));
        true
    }

    /// The next thing is news again, of each server.
    pub(crate) fn reset(&mut self) {
        self.0.fill(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_of_each_server() {
        let mut repeats = Repeats::new(2);
        assert!(repeats.is_due(0, "refused") && repeats.is_due(1, "refused"));
        assert!(!repeats.is_due(0, "refused") && !repeats.is_due(1, "refused"));
        assert!(repeats.is_due(0, "timed out") && repeats.is_due(0, "refused"));
        repeats.reset();
        assert!(repeats.is_due(0, "refused"));
    }
}
