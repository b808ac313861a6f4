//! The timer of the head of a request. hyper has one time for the wait before it and for the head itself;
//! here the second begins when the first byte comes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use super::read_ahead::Peer;

/// Gives hyper a sleep for each head. hyper asks for one before it reads the head, and polls it after
/// each look at the socket.
pub(super) struct HeadTimer {
    peer: Peer,
    head: Duration,
}

struct HeadSleep {
    /// For the first byte, and then for the rest.
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
        // What has come until now was of the request before.
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
