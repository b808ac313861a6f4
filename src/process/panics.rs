//! What a panic ends: the call or the connection in which it happens, and nothing else; or the program, if it cannot do without what has
//! panicked.
//!
//! Each is logged with its place and counted, wherever it happens. A task that the program needs hands its panic on to the task that
//! waits for it ([`run_all`]), up to the program's own, which then ends with status 1. A lock that was held meanwhile protects something
//! that may be half changed: whoever takes it next ends the program ([`unpoisoned`]).

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
/// The program, as its last line names it.
static PROGRAM: OnceLock<String> = OnceLock::new();

/// From now on each panic is one line of the log, and counted.
pub(super) fn watch(program: &str) {
    let _ = PROGRAM.set(program.to_owned());
    panic::set_hook(Box::new(note));
}

fn note(panic: &PanicHookInfo<'_>) {
    COUNT.inc();
    let place = panic.location().map(display);
    let reason = reason(panic.payload());
    // Only where RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| display(backtrace));
    if dispatcher::has_been_set() {
        error!(place, reason, backtrace, "panicked");
    } else {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(io::stderr(), "panicked at {place}: {reason}");
    }
}

/// How often anything has panicked.
pub(crate) fn count() -> Counter {
    COUNT.clone()
}

/// What a panic says.
pub(super) fn reason(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

/// The outcome, or `None` if it has panicked. The log has said so, and what it was at is over.
///
/// Not an `async fn`: that would hold the future twice, as its argument and where it runs, and every
/// open call would take 2 KiB more.
pub(crate) fn catch_panic<T>(future: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
    AssertUnwindSafe(future).catch_unwind().map(Result::ok)
}

/// Never completes, and panics when one of these tasks does: the program needs them all.
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

/// What a lock protects. Ends the program if a panic has poisoned the lock: what it protects may be
/// half changed.
pub(crate) fn unpoisoned<T>(lock: LockResult<T>) -> T {
    lock.unwrap_or_else(|_| end_poisoned())
}

/// Ends the program after a panic of whoever held a lock.
pub(crate) fn end_poisoned() -> ! {
    end("what a lock protects may be half changed by what has panicked")
}

/// Ends the program at once, with status 1 and one line.
pub(super) fn end(reason: &str) -> ! {
    stderr::flush();
    let program = PROGRAM.get().map_or("messenger", String::as_str);
    let _ = writeln!(io::stderr(), "{program}: {reason}");
    std::process::exit(1);
}
