//! The public interface of one HTTP/2 connection to a server.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Uri;
use tokio::sync::watch;

use super::gate::{Backpressure, Slot};
use super::liveness::Unresponsive;
use super::session::Session;
use crate::net::{CloseSignal, Reloaded, Token};

/// An open connection. It is cloned for each user; a generated client takes it as its transport.
///
/// It never reconnects by itself: the reader of the message stream must know that a message is sent
/// over the same connection, or not at all. It closes when the last clone is dropped and its calls
/// have ended.
#[derive(Debug)]
pub struct Connection {
    pub(super) session: Session,
    pub(super) socket: CloseSignal,
    pub(super) token: Option<Arc<Reloaded<Token>>>,
    pub(super) retired: watch::Sender<bool>,
    pub(super) origin: Uri,
    pub(super) peer: SocketAddr,
    /// Reserved for the next call.
    pub(super) slot: Option<Slot>,
}

impl Clone for Connection {
    /// Makes a further user of the same connection, without a reserved slot.
    fn clone(&self) -> Self {
        Self {
            session: self.session.clone(),
            socket: self.socket.clone(),
            token: self.token.clone(),
            retired: self.retired.clone(),
            origin: self.origin.clone(),
            peer: self.peer,
            slot: None,
        }
    }
}

impl Connection {
    /// Waits until the server has a free stream and reads, and returns a user of the connection
    /// whose next call starts at once. Until then nothing of that call has been sent.
    pub async fn reserve(&self) -> Self {
        let slot = Some(self.session.enter().await);
        Self { slot, ..self.clone() }
    }

    /// The address of the server.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The origin of calls to the server.
    #[must_use]
    pub fn origin(&self) -> Uri {
        self.origin.clone()
    }

    /// The reason why calls can't start, if that state lasts.
    #[must_use]
    pub fn backpressure(&self) -> Option<Backpressure> {
        self.session.backpressure()
    }

    /// The reason why the latest delayed call had to wait, even if it no longer applies.
    #[must_use]
    pub fn last_backpressure(&self) -> Option<Backpressure> {
        self.session.last_backpressure()
    }

    /// Pings the server often, and closes the connection after ten seconds without a byte. Only for
    /// our own server: others end connections that ping often.
    pub fn watch_closely(&self) {
        self.session.liveness().watch_closely();
    }

    /// Reports that a call got no response in time, so that the server is pinged.
    pub fn doubt(&self) {
        self.session.liveness().doubt();
    }

    /// Completes when [`doubt`](Self::doubt) was called since the last time that this completed.
    pub async fn doubted(&self) {
        self.session.liveness().doubted().await;
    }

    /// Pings the server, and returns whether it answered before the connection ended.
    pub async fn sign_of_life(&self) -> bool {
        self.doubt();
        tokio::select! {
            () = self.session.liveness().sign() => true,
            () = self.socket.clone().closed() => false,
        }
    }

    /// The reason why this side gave the connection up, if it did.
    #[must_use]
    pub fn unresponsive(&self) -> Option<Unresponsive> {
        self.session.liveness().unresponsive()
    }

    /// Completes when no further call can start: the server refused one on this connection, or the
    /// socket is closed.
    ///
    /// After a refusal the open calls may continue without end: a proxy sends GOAWAY after some
    /// calls or some time, and waits for the last stream to end. When the socket closes, HTTP/2
    /// ends the open calls, except after a panic under its own lock: then nothing would wake them.
    pub async fn retired(&self) {
        let mut retired = self.retired.subscribe();
        tokio::select! {
            // Can't fail: this connection has the sender.
            _ = retired.wait_for(|retired| *retired) => {}
            () = self.socket.clone().closed() => {}
        }
    }
}
