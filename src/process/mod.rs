//! What every program here needs of its process: a runtime, a log, signals, file descriptors, an exit status.

#[cfg(target_env = "musl")]
mod allocator;
mod log;
mod signals;
mod stderr;

use std::io::{self, Write};
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

pub use self::log::LogSettings;
pub use self::signals::Signals;
pub use self::stderr::LogGuard;

/// Runs a program to its end, with a thread for each core, and turns how it ended into the exit status: 0, or 1 after one line on
/// stderr.
pub fn run(name: &str, program: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    run_on(Runtime::new(), name, program)
}

/// The same with one thread for everything.
pub fn run_on_one_thread(name: &str, program: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    run_on(Builder::new_current_thread().enable_all().build(), name, program)
}

fn run_on(runtime: io::Result<Runtime>, name: &str, program: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let result = runtime.block_on(program);
        // Not waiting for a name look-up that may still be running in a thread of its own.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `eprintln!` would panic where stderr is closed.
            let _ = writeln!(io::stderr(), "{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How many files the process may have open.
#[must_use]
pub fn file_limit() -> usize {
    rlimit::Resource::NOFILE.get_soft().ok().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Lets the process have as many files open as the system permits it to: each reader is one, and the usual soft limit is 1024.
pub fn raise_file_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "can't raise the limit of open files"),
    }
}
