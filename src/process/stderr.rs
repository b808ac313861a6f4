//! Writing the log without waiting for its reader.
//!
//! A pipe that nobody reads is full after 64 KiB, and then the next write blocks. The whole program
//! would hang, with its signals. So lines go through a bounded queue to their own thread. When the
//! queue is full, new lines are dropped, and their number is logged once there is room.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How many lines the queue holds.
const QUEUE: usize = 1024;
/// How long the program waits for its last lines when it ends.
const LAST_LINES: Duration = Duration::from_millis(200);

enum Job {
    Line(Vec<u8>),
    /// Replies when all earlier lines are written.
    Flush(SyncSender<()>),
}

/// The sending end of the queue, as the log's writer.
#[derive(Clone)]
pub(super) struct Stderr {
    jobs: SyncSender<Job>,
    lost: Arc<AtomicUsize>,
}

/// The log of this process.
static LOG: OnceLock<Stderr> = OnceLock::new();

/// Waits for the last lines when it is dropped.
#[must_use]
pub struct LogGuard(Stderr);

impl Stderr {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn start() -> io::Result<(Self, LogGuard)> {
        let (jobs, queue) = sync_channel(QUEUE);
        let stderr = Self { jobs, lost: Arc::default() };
        let lost = Arc::clone(&stderr.lost);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&queue, &lost))?;
        let _ = LOG.set(stderr.clone());
        Ok((stderr.clone(), LogGuard(stderr)))
    }
}

/// Writes the lines of the queue. A closed stderr ends nothing: the lines are lost.
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
    /// Queues one event: the subscriber writes each in a single call.
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
    /// Waits a short time for all lines to be written.
    fn wait(&self) {
        let (done, written) = sync_channel(1);
        if self.jobs.try_send(Job::Flush(done)).is_ok() {
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

/// Waits a short time for the last lines, before the process exits.
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
