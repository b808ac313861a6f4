//! Noticing that the server at the other end of a connection has stopped, although its machine may
//! still acknowledge what is sent: a program that hangs, a route that swallows, a proxy without a server.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::sync::Notify;

use crate::net::Activity;

/// How often to look. Time is counted in looks and not by the clock: a moment in which this process did
/// not run itself says nothing about the server.
const LOOK: Duration = Duration::from_millis(500);

/// Our own server that has been silent for so long is pinged ...
const CLOSE_PING: u32 = looks(3);
/// ... and is gone after so long.
const CLOSE_LIMIT: u32 = looks(10);
/// A foreign server is pinged after this silence. One that is pinged more often than every five
/// minutes may end the connection (GOAWAY, `too_many_pings`).
const IDLE_PING: u32 = looks(330);
/// How long it may take to say anything after that.
const IDLE_PATIENCE: u32 = looks(20);
/// The same after a ping because of a call that got no answer.
const DOUBT_PATIENCE: u32 = looks(5);
/// So many pings too early are forgiven, and counted anew after each answer.
const DOUBTS: u32 = 2;
/// A server that takes nothing of what there is to write for so long is gone, whatever it says.
const STUCK_LIMIT: u32 = looks(10);

const fn looks(seconds: u32) -> u32 {
    seconds * 2
}

/// What the calls over a connection have learnt about its server, and why the connection was given up.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// The server does not mind pings.
    close: AtomicBool,
    /// A call got no answer.
    doubted: AtomicBool,
    /// A call got one.
    answered: AtomicBool,
    /// Something has come after a ping.
    sign: Notify,
    doubts: Notify,
    gone: OnceLock<Unresponsive>,
}

/// Why a connection was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresponsive {
    /// Nothing has come, not even the answer to a ping.
    Silent,
    /// The server has taken nothing.
    Stuck,
}

impl Liveness {
    /// The server is our own.
    pub(super) fn watch_closely(&self) {
        self.close.store(true, Ordering::Relaxed);
    }

    /// A call has waited in vain.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
        self.doubts.notify_one();
    }

    /// Completes when a call has waited in vain since this was last asked.
    pub(super) async fn doubted(&self) {
        self.doubts.notified().await;
    }

    /// Completes when something has come after a call was in doubt.
    pub(super) async fn sign(&self) {
        self.sign.notified().await;
    }

    /// A call got an answer.
    pub(super) fn answered(&self) {
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
    }

    /// Why the connection was given up, if it was.
    pub(super) fn unresponsive(&self) -> Option<Unresponsive> {
        self.gone.get().copied()
    }

    /// Completes when the server is gone.
    pub(super) async fn ends(self: Arc<Self>, pings: Option<PingPong>, activity: Activity) -> Unresponsive {
        let Some(mut pings) = pings else { return std::future::pending().await };
        let (mut silent, mut stuck, mut doubts) = (0, 0, DOUBTS);
        // How long to wait for a sign of life after a ping.
        let mut patience: Option<u32> = None;
        let gone = loop {
            tokio::time::sleep(LOOK).await;
            // Takes the answer to the last ping, or the next could not be sent.
            poll_fn(|cx| Poll::Ready(pings.poll_pong(cx).is_ready())).await;
            stuck = if activity.is_stuck() { stuck + 1 } else { 0 };
            if stuck >= STUCK_LIMIT {
                break Unresponsive::Stuck;
            }
            if self.answered.swap(false, Ordering::Relaxed) {
                doubts = DOUBTS;
            }
            let doubted = self.doubted.swap(false, Ordering::Relaxed);
            if activity.heard() {
                if patience.is_some() {
                    self.sign.notify_one();
                }
                (silent, patience) = (0, None);
                // A call that has just run out of time is doubt enough: what was heard may be older.
                if !doubted {
                    continue;
                }
            } else {
                silent += 1;
            }
            if self.close.load(Ordering::Relaxed) {
                if silent >= CLOSE_LIMIT {
                    break Unresponsive::Silent;
                }
                if silent >= CLOSE_PING {
                    // It fails while the last one is unanswered.
                    let _ = pings.send_ping(Ping::opaque());
                }
                continue;
            }
            patience = match patience {
                Some(0) => break Unresponsive::Silent,
                Some(looks) => Some(looks - 1),
                None if doubted && doubts > 0 => {
                    doubts -= 1;
                    pings.send_ping(Ping::opaque()).ok().map(|()| DOUBT_PATIENCE)
                }
                None if silent >= IDLE_PING => pings.send_ping(Ping::opaque()).ok().map(|()| IDLE_PATIENCE),
                None => None,
            };
        };
        *self.gone.get_or_init(|| gone)
    }
}
