//! Detects a server that has stopped answering, although its machine may still acknowledge packets:
//! a program that hangs, a route that drops packets, a proxy without a server.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::sync::Notify;

use crate::net::Activity;

/// How often the connection is checked. Times are counted in checks and not by the clock: if this
/// process was not scheduled for a moment, that says nothing about the server.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Our own server is pinged after this much silence.
const CLOSE_PING: u32 = checks(3);
/// Our own server is unresponsive after this much silence.
const CLOSE_LIMIT: u32 = checks(10);
/// Another server is pinged after this much silence. One that is pinged more often than every five
/// minutes may end the connection (GOAWAY, `too_many_pings`).
const IDLE_PING: u32 = checks(330);
/// How long another server may take to answer that ping.
const IDLE_PATIENCE: u32 = checks(20);
/// How long another server may take to answer a ping that follows a call without a response.
const DOUBT_PATIENCE: u32 = checks(5);
/// How many pings after calls without a response other servers tolerate. The count starts again
/// with each response.
const DOUBTS: u32 = 2;
/// A server that reads nothing for this long is unresponsive, whatever it sends.
const STUCK_LIMIT: u32 = checks(10);

const fn checks(seconds: u32) -> u32 {
    seconds * 2
}

/// The signs of life that the calls over a connection report, and the reason why the connection was
/// given up.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// The server is our own, and tolerates pings.
    close: AtomicBool,
    /// A call got no response in time.
    doubted: AtomicBool,
    /// A call got a response.
    answered: AtomicBool,
    /// A byte has arrived after a ping.
    sign: Notify,
    doubts: Notify,
    unresponsive: OnceLock<Unresponsive>,
}

/// The reason why a connection was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresponsive {
    /// Nothing arrived, not even the answer to a ping.
    Silent,
    /// The server read nothing.
    Stuck,
}

impl Liveness {
    /// Treats the server as our own.
    pub(super) fn watch_closely(&self) {
        self.close.store(true, Ordering::Relaxed);
    }

    /// Reports that a call got no response in time.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
        self.doubts.notify_one();
    }

    /// Completes when `doubt` was called since the last time that this completed.
    pub(super) async fn doubted(&self) {
        self.doubts.notified().await;
    }

    /// Completes when a byte has arrived after a ping.
    pub(super) async fn sign(&self) {
        self.sign.notified().await;
    }

    /// Reports that a call got a response.
    pub(super) fn answered(&self) {
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
    }

    /// The reason why the connection was given up, if it was.
    pub(super) fn unresponsive(&self) -> Option<Unresponsive> {
        self.unresponsive.get().copied()
    }

    /// Completes when the server is unresponsive.
    pub(super) async fn watch(self: Arc<Self>, pings: Option<PingPong>, activity: Activity) -> Unresponsive {
        let Some(mut pings) = pings else { return std::future::pending().await };
        let (mut silent, mut stuck, mut doubts) = (0, 0, DOUBTS);
        // How many more checks the answer to a ping may take.
        let mut patience: Option<u32> = None;
        let reason = loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            // Takes the answer to the last ping; without that, the next one could not be sent.
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
                // After a call without a response the server is pinged all the same: the bytes that
                // arrived may be older.
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
                    // Fails while the last one is unanswered.
                    let _ = pings.send_ping(Ping::opaque());
                }
                continue;
            }
            patience = match patience {
                Some(0) => break Unresponsive::Silent,
                Some(left) => Some(left - 1),
                None if doubted && doubts > 0 => {
                    doubts -= 1;
                    pings.send_ping(Ping::opaque()).ok().map(|()| DOUBT_PATIENCE)
                }
                None if silent >= IDLE_PING => pings.send_ping(Ping::opaque()).ok().map(|()| IDLE_PATIENCE),
                None => None,
            };
        };
        *self.unresponsive.get_or_init(|| reason)
    }
}
