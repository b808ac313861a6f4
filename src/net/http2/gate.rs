//! When a call may leave over an HTTP/2 connection.
//!
//! h2 queues without a bound: what a server does not take stays in memory, and so does each call that
//! was cancelled meanwhile. So a call enters h2 only when the server has a free stream for it, and takes
//! what is written to it. Until then it has surely not left.

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

/// h2's number of streams before the server's SETTINGS have come. No server can announce so many.
pub(super) const UNKNOWN_STREAMS: usize = usize::MAX - 1;

/// Calls that wait so long are a state that people should know of, and not a busy moment.
const LONG: Duration = Duration::from_secs(1);

/// Lets calls enter a connection in the order in which they came.
#[derive(Debug)]
pub(super) struct Gate {
    write_state: WriteState,
    /// Calls that have entered and have not ended.
    inside: AtomicUsize,
    /// There may be room that was not there before.
    room: Arc<Notify>,
    /// Who holds it looks whether there is room; the others wait for it.
    turn: Mutex<()>,
    /// The call that waits first has waited for long.
    crowded: AtomicBool,
    /// Why a call had to wait last.
    last: std::sync::Mutex<Option<Backpressure>>,
    /// Its receiver sees when the last user of the connection is gone.
    _used: watch::Sender<()>,
}

/// One call's slot in the connection, as long as it lives.
#[derive(Debug)]
pub(super) struct Slot(Arc<Gate>);

/// Why no call can leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backpressure {
    /// The server has said how many calls it takes at once on a connection.
    Streams(usize),
    /// The server does not read.
    Blocked,
}

impl Gate {
    /// A gate before what `write_state` shows, and what sees when nobody uses the connection any more. `room` is
    /// to be told when the server's settings change.
    pub(super) fn new(write_state: WriteState, room: Arc<Notify>) -> (Arc<Self>, watch::Receiver<()>) {
        let (used, users) = watch::channel(());
        let gate = Self {
            write_state,
            inside: AtomicUsize::new(0),
            room,
            turn: Mutex::new(()),
            crowded: AtomicBool::new(false),
            last: std::sync::Mutex::default(),
            _used: used,
        };
        (Arc::new(gate), users)
    }

    /// Waits until a call may leave.
    pub(super) async fn enter(self: &Arc<Self>, requests: &SendRequest<Bytes>) -> Slot {
        let _turn = self.turn.lock().await;
        let since = Instant::now();
        loop {
            let Some(full) = self.full_now(requests) else {
                self.inside.fetch_add(1, Ordering::Relaxed);
                if self.crowded.swap(false, Ordering::Relaxed) {
                    info!("calls leave for the server again");
                }
                return Slot(Arc::clone(self));
            };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(full);
            if since.elapsed() >= LONG && !self.crowded.swap(true, Ordering::Relaxed) {
                warn!(reason = %full, "calls to the server can't leave, they wait");
            }
            tokio::select! {
                () = self.room.notified() => {}
                () = self.write_state.unblocked() => {}
                () = tokio::time::sleep(LONG) => {}
            }
        }
    }

    /// Why a call had to wait last.
    pub(super) fn last(&self) -> Option<Backpressure> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why calls can't leave, and could not for a while or never will.
    pub(super) fn backpressure(&self, requests: &SendRequest<Bytes>) -> Option<Backpressure> {
        let full = self.full_now(requests)?;
        // The stream of the messages never ends: with room for one call, no other can ever be made.
        (full == Backpressure::Streams(1) || self.crowded.load(Ordering::Relaxed)).then_some(full)
    }

    fn full_now(&self, requests: &SendRequest<Bytes>) -> Option<Backpressure> {
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
            Self::Streams(1) => f.write_str("the server takes one call at once, which is the stream of messages"),
            Self::Streams(streams) => write!(f, "the server takes {streams} calls at once, and none has ended"),
            Self::Blocked => f.write_str("the server does not read what is sent to it"),
        }
    }
}
