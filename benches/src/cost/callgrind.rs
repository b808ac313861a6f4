//! A server under callgrind, and what it counted.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::machine::first_line;
use crate::server::Server;

/// With one worker nobody steals from another, so the count does not depend on the cores of the machine. Whatever the caller's own
/// log filter is, it is not measured.
const VARIABLES: &str = "MESSENGER_SERVER_PORT={port} TOKIO_WORKER_THREADS=1 RUST_LOG=info";
/// The allocating functions of the C library. Rust's own are inlined into whoever calls them.
const ALLOCATING: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

/// What a process did in its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub instructions: u64,
    pub allocations: u64,
}

/// A running server whose instructions are counted.
pub struct Counted {
    pub server: Server,
    out: PathBuf,
}

/// The version of valgrind, if it is there.
pub fn version() -> Option<String> {
    first_line("valgrind", &["--version"])
}

impl Counted {
    pub fn start(program: &str) -> Result<Self> {
        let out = std::env::temp_dir().join(format!("messenger-cost-{}.out", std::process::id()));
        // Without fair scheduling one thread may keep the only processor that valgrind has for as long as it likes.
        let valgrind = "valgrind -q --tool=callgrind --fair-sched=yes --callgrind-out-file";
        let server = Server::start(&format!("{VARIABLES} {valgrind}={} {program}", out.display()))?;
        Ok(Self { server, out })
    }

    /// Ends the server in good order, which is when callgrind writes.
    pub fn end(self) -> Result<Count> {
        self.server.end()?;
        let text = fs::read_to_string(&self.out).with_context(|| format!("no {}", self.out.display()))?;
        fs::remove_file(&self.out)?;
        count(&text).context("callgrind's file has no totals")
    }
}

/// Reads callgrind's file, of which two things matter: the line with the totals, and the pairs of a callee and its number of calls. A
/// name is written out where it comes first, and has a number from then on.
fn count(text: &str) -> Option<Count> {
    let (mut instructions, mut allocations) = (None, 0);
    let (mut allocating, mut callee) = (HashSet::new(), "");
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn=")) {
            let (number, name) = name.split_once(' ').unwrap_or((name, ""));
            if ALLOCATING.contains(&name) {
                allocating.insert(number);
            }
            if line.starts_with('c') {
                callee = number;
            }
        } else if let Some(calls) = line.strip_prefix("calls=")
            && allocating.contains(callee)
        {
            allocations += calls.split(' ').next()?.parse::<u64>().ok()?;
        } else if let Some(total) = line.strip_prefix("totals:") {
            instructions = total.trim().parse().ok();
        }
    }
    Some(Count { instructions: instructions?, allocations })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_calls_that_allocate() {
        let text = "events: Ir\nsummary: 90\n\nfn=(1) main\n3 7\ncfn=(2) malloc\ncalls=4 0\n3 60\ncfn=(3) free\ncalls=9 0\n3 1\n\
                    \nfn=(4) other\ncfn=(2)\ncalls=2 0\n1 30\n\ntotals: 98\n";
        assert_eq!(count(text), Some(Count { instructions: 98, allocations: 6 }));
        assert_eq!(count("events: Ir\n"), None);
    }
}
