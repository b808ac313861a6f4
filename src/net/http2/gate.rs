//! Decides when a call may start on an HTTP/2 connection.
//!
//! h2 queues without a bound: bytes that a server does not read stay in memory, and so does each
//! call that is cancelled meanwhile. So a call enters h2 only when the server has a free stream for
//! it and reads what is written. Until then nothing of the call has been sent.

use std::fmt::{self, Display, Formatter};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::net::WriteState;

/// The number of streams that h2 reports before the server's SETTINGS have arrived. No server can
/// announce this many.
pub(super) const UNKNOWN_STREAMS: usize = usize::MAX - 1;

/// A wait of this length is logged. Shorter waits are normal on a busy connection.
const TOO_LONG: Duration = Duration::from_secs(1);

/// Lets calls enter a connection, first come, first served.
#[derive(Debug)]
pub(super) struct Gate {
    write_state: WriteState,
    /// Calls that have entered and have not ended.
    inside: AtomicUsize,
    /// Notified when there may be room.
    room: Arc<Notify>,
    /// Held by the call that waits for room; the others wait for the lock.
    first: Mutex<()>,
    /// Whether the first call has waited for a long time.
    congested: AtomicBool,
    /// The reason why the latest delayed call had to wait.
    last: std::sync::Mutex<Option<Backpressure>>,
    /// Dropped with the last user of the connection, which the receiver notices.
    _used: watch::Sender<()>,
}

/// One of the calls that the connection may carry. The slot is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<Gate>);

/// The reason why no call can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backpressure {
    /// The server's limit of concurrent calls on a connection.
    Streams(usize),
    /// The server does not read.
    Blocked,
}

impl Gate {
    /// Returns the gate, and a receiver that sees when nobody uses the connection any more. The
    /// caller notifies `room` when the server's settings change.
    pub(super) fn new(write_state: WriteState, room: Arc<Notify>) -> (Arc<Self>, watch::Receiver<()>) {
        let (used, users) = watch::channel(());
        let gate = Self {
            write_state,
            inside: AtomicUsize::new(0),
            room,
            first: Mutex::new(()),
            congested: AtomicBool::new(false),
            last: std::sync::Mutex::default(),
            _used: used,
        };
        (Arc::new(gate), users)
    }

    /// Waits until a call may start.
    pub(super) async fn enter(self: &Arc<Self>, requests: &SendRequest<Bytes>) -> Slot {
        let _first = self.first.lock().await;
        let since = Instant::now();
        loop {
            let Some(reason) = self.backpressure_now(requests) else {
                self.inside.fetch_add(1, Ordering::Relaxed);
                if self.congested.swap(false, Ordering::Relaxed) {
                    info!("calls to the server go out again");
                }
                return Slot(Arc::clone(self));
            };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            if since.elapsed() >= TOO_LONG && !self.congested.swap(true, Ordering::Relaxed) {
                warn!(%reason, "calls to the server are waiting");
            }
            tokio::select! {
                () = self.room.notified() => {}
                () = self.write_state.unblocked() => {}
                () = tokio::time::sleep(TOO_LONG) => {}
            }
        }
    }

    /// The reason why the latest delayed call had to wait.
    pub(super) fn last_backpressure(&self) -> Option<Backpressure> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reason why calls can't start, if that state lasts.
    pub(super) fn backpressure(&self, requests: &SendRequest<Bytes>) -> Option<Backpressure> {
        let reason = self.backpressure_now(requests)?;
        // The message stream never ends: with one call at once, no other can ever start.
        let lasts = reason == Backpressure::Streams(1) || self.congested.load(Ordering::Relaxed);
        lasts.then_some(reason)
    }

    fn backpressure_now(&self, requests: &SendRequest<Bytes>) -> Option<Backpressure> {
        let streams = match requests.current_max_send_streams() {
            UNKNOWN_STREAMS => 0,
            streams => streams,
        };
        if self.inside.load(Ordering::Relaxed) >= streams {
            return Some(Backpressure::Streams(streams));
        }
        self.write_state.is_blocked().then_some(Backpressure::Blocked)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
        self.0.room.notify_one();
    }
}

impl Display for Backpressure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Streams(0) => f.write_str("the server takes no calls on this connection"),
            Self::Streams(1) => f.write_str("the server takes one call at once, which is the message stream"),
            Self::Streams(streams) => write!(f, "the server takes {streams} calls at once, and none has ended"),
            Self::Blocked => f.write_str("the server does not read what is sent to it"),
        }
    }
}
