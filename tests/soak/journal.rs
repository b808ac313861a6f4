//! A journal of the faults, for the report of a failure.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The time before a failure that is reported.
const TOLD: Duration = Duration::from_secs(8);

/// The name of the only server.
pub const SERVER: &str = "the one server";

/// Whether the faults of this process affect everybody.
fn is_everybodys(whom: &str) -> bool {
    whom.starts_with("the ")
}

#[derive(Debug)]
pub struct Journal {
    start: Instant,
    faults: Mutex<VecDeque<(Instant, String, String)>>,
}

impl Journal {
    pub fn new() -> Self {
        Self { start: Instant::now(), faults: Mutex::default() }
    }

    /// Notes a fault of `whom`.
    pub fn note(&self, whom: &str, what: impl Into<String>) {
        let now = Instant::now();
        let mut faults = self.faults.lock().expect("no panic");
        faults.push_back((now, whom.to_owned(), what.into()));
        while faults.front().is_some_and(|(time, ..)| now - *time > TOLD) {
            faults.pop_front();
        }
    }

    /// The last faults, one per line: those that affect everybody, and those of the names in
    /// `story`, or of all if it has none.
    pub fn tell(&self, story: &str) -> String {
        let faults = self.faults.lock().expect("no panic");
        let named = faults.iter().any(|(_, whom, _)| story.contains(whom));
        let mut lines = String::new();
        let told = |whom: &str| !named || is_everybodys(whom) || story.contains(whom);
        for (time, whom, what) in faults.iter().filter(|(_, whom, _)| told(whom)) {
            lines += &format!("  at {:8.3} s  {whom}: {what}\n", (*time - self.start).as_secs_f64());
        }
        lines + &format!("  at {:8.3} s  this was seen\n", self.start.elapsed().as_secs_f64())
    }
}
