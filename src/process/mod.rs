//! The process of a program: its runtime, log, signals, file descriptors and exit status.

#[cfg(target_env = "musl")]
mod allocator;
mod filter;
mod log;
mod panics;
mod random;
mod signals;
mod stderr;
mod test_panic;
mod threads;

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

pub use self::log::LogSettings;
pub(crate) use self::panics::{catch_panic, count as panic_count, end_poisoned, run_all, unpoisoned};
pub use self::random::NoRandomness;
pub(crate) use self::random::random;
pub(crate) use self::signals::Hangups;
pub use self::signals::Signals;
pub use self::stderr::LogGuard;
pub(crate) use self::test_panic::test_panic;

/// Runs a program on one thread per core, and returns its exit status: 0, or 1 after one line on
/// stderr.
pub fn run(name: &str, program: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let workers = worker_threads();
    run_on(Builder::new_multi_thread().worker_threads(workers), workers, name, program)
}

/// The number of worker threads: `TOKIO_WORKER_THREADS` as in tokio's own default, or one per core.
fn worker_threads() -> usize {
    let set = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|text| text.parse().ok());
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    set.filter(|workers| *workers > 0).unwrap_or_else(cores)
}

/// Runs a program on one thread, and returns its exit status: 0, or 1 after one line on stderr.
pub fn run_on_one_thread(name: &str, program: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    run_on(&mut Builder::new_current_thread(), 0, name, program)
}

fn run_on(
    runtime: &mut Builder,
    workers: usize,
    name: &str,
    program: impl Future<Output = anyhow::Result<()>>,
) -> ExitCode {
    panics::watch(name);
    let mut start = || -> anyhow::Result<Runtime> {
        threads::try_threads(workers)?;
        Ok(runtime.enable_all().build()?)
    };
    let result = start().and_then(|runtime| {
        let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(program)));
        let result = result.unwrap_or_else(|panic| Err(anyhow::anyhow!("panicked: {}", panics::reason(&*panic))));
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `eprintln!` would panic if stderr is closed.
            let _ = writeln!(io::stderr(), "{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The limit of open files.
#[must_use]
pub fn file_limit() -> usize {
    #[cfg(unix)]
    if let Ok(limit) = rlimit::Resource::NOFILE.get_soft() {
        return usize::try_from(limit).unwrap_or(usize::MAX);
    }
    usize::MAX
}

/// Raises the limit of open files as far as the system permits. Each connection takes one, and the
/// usual soft limit is 1024.
pub fn raise_file_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "can't raise the limit of open files"),
    }
}
