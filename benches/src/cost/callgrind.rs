//! Runs a server under callgrind, and reads the counts.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::machine::first_line;
use crate::server::Server;

/// With one worker no thread steals work, so the count does not depend on the number of cores. The
/// log filter is set, so that the caller's own does not count.
const VARIABLES: &str = "MESSENGER_SERVER_PORT={port} TOKIO_WORKER_THREADS=1 RUST_LOG=info";
/// The allocating functions of the C library. Rust's own are inlined into their callers.
const ALLOCATING: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

/// The counts of a process from start to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub instructions: u64,
    pub allocations: u64,
}

/// A server that runs under callgrind.
pub struct ProfiledServer {
    pub server: Server,
    out: PathBuf,
}

/// The version of valgrind, or `None` if it is not installed.
pub fn version() -> Option<String> {
    first_line("valgrind", &["--version"])
}

impl ProfiledServer {
    pub fn start(program: &str) -> Result<Self> {
        let out = std::env::temp_dir().join(format!("messenger-cost-{}.out", std::process::id()));
        // Valgrind runs one thread at a time. Without fair scheduling one thread may run for too
        // long.
        let valgrind = "valgrind -q --tool=callgrind --fair-sched=yes --callgrind-out-file";
        let server = Server::start(&format!("{VARIABLES} {valgrind}={} {program}", out.display()))?;
        Ok(Self { server, out })
    }

    /// Ends the server with SIGTERM and reads the counts, which callgrind writes at the end.
    pub fn end(self) -> Result<Count> {
        self.server.end()?;
        let text =
            fs::read_to_string(&self.out).with_context(|| format!("no {}", self.out.display()))?;
        fs::remove_file(&self.out)?;
        count(&text).context("callgrind's file has no totals")
    }
}

/// Reads the totals and the numbers of calls from callgrind's file. The file spells out a name
/// once, and refers to it by a number afterwards.
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
        let text = "events: Ir\nsummary: 90\n\nfn=(1) main\n3 7\ncfn=(2) malloc\ncalls=4 0\n3 60\n\
                    cfn=(3) free\ncalls=9 0\n3 1\n\
                    \nfn=(4) other\ncfn=(2)\ncalls=2 0\n1 30\n\ntotals: 98\n";
        assert_eq!(count(text), Some(Count { instructions: 98, allocations: 6 }));
        assert_eq!(count("events: Ir\n"), None);
    }
}
