//! Writing the log without ever waiting for whoever reads it.
//!
//! A pipe that nobody drains is full after 64 KiB, and the next write to it waits: the whole program would stand still, its signals
//! too. Here lines go through a bounded queue to a thread of their own; when the queue is full, the newest lines are lost, and how
//! many is said once there is room.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const QUEUE: usize = 1024;
/// How long the end of the program waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(200);

enum Job {
    Line(Vec<u8>),
    /// Answer when everything before this is written.
    Flush(SyncSender<()>),
}

/// The queue's end into which the log writes.
#[derive(Clone)]
pub(super) struct Stderr {
    jobs: SyncSender<Job>,
    lost: Arc<AtomicUsize>,
}

/// Where the log of this process goes.
static LOG: OnceLock<Stderr> = OnceLock::new();

/// Writes the last lines when it is dropped.
#[must_use]
pub struct LogGuard(Stderr);

impl Stderr {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start() -> io::Result<(Self, LogGuard)> {
        let (jobs, queue) = sync_channel(QUEUE);
        let stderr = Self { jobs, lost: Arc::default() };
        let lost = Arc::clone(&stderr.lost);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&queue, &lost))?;
        let _ = LOG.set(stderr.clone());
        Ok((stderr.clone(), LogGuard(stderr)))
    }
}

/// A stderr that is closed or full ends nothing: what can't be written is not.
fn write_all(queue: &Receiver<Job>, lost: &AtomicUsize) {
    for job in queue {
        match job {
            Job::Line(line) => {
                let _ = io::stderr().write_all(&line);
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(io::stderr(), "{lost} lines of the log are lost, stderr was not read");
                }
            }
            Job::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

impl Write for Stderr {
    /// One event of the log: the subscriber writes each as a whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.jobs.try_send(Job::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stderr {
    /// Waits until all lines are written, for a moment at most.
    fn wait(&self) {
        let (done, written) = sync_channel(1);
        if self.jobs.try_send(Job::Flush(done)).is_ok() {
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

/// Writes the last lines before the process ends by itself.
pub(super) fn flush() {
    if let Some(log) = LOG.get() {
        log.wait();
    }
}

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.wait();
    }
}
