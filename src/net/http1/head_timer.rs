//! The timer for the head of a request. hyper has one timeout for the wait before the head and for
//! the head itself; here the second one begins with the first byte.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use super::read_ahead::Peer;

/// Gives hyper a sleep for each head. hyper asks for one before it reads the head, and polls it
/// after each read.
pub(super) struct HeadTimer {
    peer: Peer,
    head: Duration,
}

struct HeadSleep {
    /// Ends when the first byte is late, and after that when the rest is.
    sleep: Pin<Box<tokio::time::Sleep>>,
    begun: bool,
    peer: Peer,
    head: Duration,
}

impl HeadTimer {
    pub(super) fn new(peer: Peer, head: Duration) -> Self {
        Self { peer, head }
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        // Earlier bytes belong to the previous request.
        self.peer.heard();
        Box::pin(HeadSleep {
            sleep: Box::pin(tokio::time::sleep_until(deadline.into())),
            begun: false,
            peer: self.peer.clone(),
            head: self.head,
        })
    }
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if !this.begun && this.peer.heard() {
            this.begun = true;
            this.sleep.as_mut().reset(tokio::time::Instant::now() + this.head);
        }
        this.sleep.as_mut().poll(cx)
    }
}
