//! The scope of a panic: it ends the call or the connection in which it happens. It ends the
//! program only if the program can't work without the task that panicked.
//!
//! Every panic is logged with its place, and counted. [`run_all`] passes the panic of a needed task
//! on to the program, which ends with status 1. A lock that was held during a panic may protect
//! half-changed data, so the next use of the lock ends the program ([`unpoisoned`]).

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::convert::Infallible;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{LazyLock, LockResult, OnceLock};

use futures_util::FutureExt;
use prometheus_client::metrics::counter::Counter;
use tokio::task::JoinSet;
use tracing::field::display;
use tracing::{dispatcher, error};

use super::stderr;

static COUNT: LazyLock<Counter> = LazyLock::new(Counter::default);
/// The name of the program, for its last line.
static PROGRAM: OnceLock<String> = OnceLock::new();

/// From now on each panic is logged in one line, and counted.
pub(super) fn watch(program: &str) {
    let _ = PROGRAM.set(program.to_owned());
    panic::set_hook(Box::new(note));
}

fn note(panic: &PanicHookInfo<'_>) {
    COUNT.inc();
    let place = panic.location().map(display);
    let reason = reason(panic.payload());
    // Captured only if RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| display(backtrace));
    if dispatcher::has_been_set() {
        error!(place, reason, backtrace, "panicked");
    } else {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(io::stderr(), "panicked at {place}: {reason}");
    }
}

/// The number of panics since the start.
pub(crate) fn count() -> Counter {
    COUNT.clone()
}

/// The message of a panic.
pub(super) fn reason(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

/// Runs a future, and returns `None` if it panics. The panic is logged.
///
/// Not an `async fn`: that would hold the future twice, as its argument and where it runs, so every
/// open call would take 2 KiB more.
pub(crate) fn catch_panic<T>(future: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
    AssertUnwindSafe(future).catch_unwind().map(Result::ok)
}

/// Never completes, and panics when one of the tasks does: the program needs them all.
pub(crate) async fn run_all(tasks: &mut JoinSet<()>) -> Infallible {
    while let Some(ended) = tasks.join_next().await {
        // A task is cancelled only with its set.
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            panic::resume_unwind(panic);
        }
    }
    std::future::pending().await
}

/// The guard of a lock. If a panic happened under the lock, the data may be half changed, and the
/// program ends.
pub(crate) fn unpoisoned<T>(lock: LockResult<T>) -> T {
    lock.unwrap_or_else(|_| end_poisoned())
}

/// Ends the program after a panic under a lock.
pub(crate) fn end_poisoned() -> ! {
    end("a panic under a lock may have left its data half changed")
}

/// Ends the program at once, with status 1 and one line.
pub(super) fn end(reason: &str) -> ! {
    stderr::flush();
    let program = PROGRAM.get().map_or("messenger", String::as_str);
    let _ = writeln!(io::stderr(), "{program}: {reason}");
    std::process::exit(1);
}
