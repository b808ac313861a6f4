//! The chat itself, with no gRPC call and no HTTP in it: messages go in at one end, and all readers get them in one order.
//!
//! - A message is encoded once, for everybody ([`Draft`]).
//! - [`Room::post`] is one critical section: stamp the time, append to the log. Whoever is first in there is first for everyone.
//! - [`Room::dispatch`] ends a *round*: it publishes what was appended, and wakes the readers.
//! - A [`Reader`] is a position in the shared log. It reads at its own pace, holds nobody up, and when the log no longer reaches
//!   back to it, it is told so.

mod dispatch;
mod draft;
mod log;
#[cfg(test)]
mod model;
mod reader;
mod sync;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::SystemTime;

use slab::Slab;
use thiserror::Error;
use tokio::sync::Notify;

pub use self::draft::Draft;
pub use self::reader::{End, Frames, Reader};

use self::log::{Found, Log};
use self::sync::{Mutex, MutexGuard, lock};
use self::waiting::{Ticket, Waiting};
use crate::send_time::SendTime;

/// The room takes no more messages: what it was asked to post is in nobody's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the server is shutting down: the message was not accepted")]
pub struct Closed;

/// One chat room.
pub struct Room {
    // A lock of the standard library and not tokio's: it is held for at most a copy of one segment, and never across an await.
    state: Mutex<State>,
    /// The number of rounds that have ended, as in `State::waiting`, to be looked at without the lock.
    rounds: AtomicU64,
    /// Tells the dispatcher that there is something to publish.
    posted: Notify,
}

#[derive(Debug)]
struct State {
    log: Log,
    last: SendTime,
    waiting: Waiting,
    closed: bool,
}

impl Room {
    /// An empty room that keeps the last `retention` bytes of messages, for all its readers together.
    #[must_use]
    pub fn new(retention: usize) -> Self {
        let state =
            State { log: Log::new(retention), last: SendTime::default(), waiting: Waiting::default(), closed: false };
        Self { state: Mutex::new(state), rounds: AtomicU64::new(0), posted: Notify::new() }
    }

    /// Puts a message into the room. When this returns, the message has its time and its place, and every reader there is will get
    /// it (with the next round of [`Room::dispatch`]).
    ///
    /// # Errors
    /// [`Closed`] after [`Room::close`].
    pub fn post(&self, draft: Draft) -> Result<SendTime, Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        let time = state.last.next(SystemTime::now());
        state.last = time;
        let first_of_its_round = state.log.published() == state.log.end();
        state.log.append(draft, time);
        drop(state);
        if first_of_its_round {
            self.posted.notify_one();
        }
        Ok(time)
    }

    /// A reader that gets every message posted from now on, and none from before.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>) -> Reader {
        let end = self.lock().log.end();
        Reader::new(Arc::clone(self), end)
    }

    /// Ends the room: no further message is accepted, and readers end once they have read what was.
    pub fn close(&self) {
        self.end_round(&mut Slab::new(), true);
    }

    /// Shows readers what was posted, and wakes them. `woken` is empty, before and after, and kept between rounds so that its memory
    /// is.
    fn publish(&self, woken: &mut Slab<Waker>) {
        self.end_round(woken, false);
    }

    fn end_round(&self, woken: &mut Slab<Waker>, closing: bool) {
        let mut state = self.lock();
        // Together with what was posted last, or a reader in between would end without it.
        state.closed |= closing;
        state.log.publish();
        state.waiting.end_round(woken);
        self.rounds.store(state.waiting.rounds(), Ordering::Release);
        drop(state);
        // Outside the lock: each of them comes for it at once.
        woken.drain().for_each(Waker::wake);
    }

    fn poll_read(&self, position: u64, ticket: &mut Option<Ticket>, waker: &Waker) -> Poll<Result<Frames, End>> {
        let mut state = self.lock();
        match state.log.read(position) {
            Found::Frames(bytes) => {
                let more = position + (bytes.len() as u64) < state.log.published() || state.closed;
                if !more {
                    *ticket = Some(state.waiting.wait(*ticket, waker));
                }
                Poll::Ready(Ok(Frames { bytes, more }))
            }
            Found::Gone => Poll::Ready(Err(End::FellBehind)),
            Found::Nothing if state.closed => Poll::Ready(Err(End::Closed)),
            // Looked and not found, registered to be woken: one critical section, so no round can pass unnoticed in between.
            Found::Nothing => {
                *ticket = Some(state.waiting.wait(*ticket, waker));
                Poll::Pending
            }
        }
    }

    /// Whether the holder of `ticket` still has its place: nothing has happened since, and what happens next will wake it.
    fn is_waiting(&self, ticket: Ticket) -> bool {
        ticket.is_of_round(self.rounds.load(Ordering::Acquire))
    }

    fn leave(&self, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket {
            self.lock().waiting.leave(ticket);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}
