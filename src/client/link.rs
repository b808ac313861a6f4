//! The one stream from the server: opened at the start, kept for life.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::backoff::Backoff;
use super::postbox::Postbox;
use crate::net::{ConnectError, Connection, ServerAddr};
use crate::proto::ReadMessagesResponse;
use crate::proto::messenger_server_client::MessengerServerClient;

/// The largest message taken from a server. Ours sends none over 4 MiB; one of another make may be set to allow more, and a
/// message that is refused here would end the stream at every try.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// How the stream stands. Those who send look at it: a message sent before the stream is open would not come back through it.
#[derive(Debug, Clone)]
pub(super) enum LinkState {
    /// No connection.
    Down,
    /// The call was made over this connection, its response headers have not come. A server of our make sends them at once;
    /// others (grpcio, grpc-go) only with the first message, so they cannot be waited for without a bound.
    Opening(Connection, Instant),
    /// Every message that is accepted from now on comes through the stream.
    Open(Connection),
}

/// Why a stream is over.
#[derive(Debug, Error)]
enum Ended {
    #[error(transparent)]
    NoConnection(#[from] ConnectError),
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] Status),
    #[error("the server ended it")]
    Cleanly,
}

/// Keeps the stream open and carries what comes through it into the postbox.
#[derive(Debug)]
pub(super) struct Link {
    server: ServerAddr,
    postbox: Arc<Postbox>,
    state: watch::Sender<LinkState>,
}

impl Link {
    pub(super) fn new(server: ServerAddr, postbox: Arc<Postbox>) -> Self {
        Self { server, postbox, state: watch::Sender::new(LinkState::Down) }
    }

    pub(super) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Opens the stream, and again whenever it ends: cleanly, with a status, or because the server vanished. Never returns.
    pub(super) async fn keep_open(&self) {
        let mut backoff = Backoff::default();
        loop {
            let ended = self.read_stream(&mut backoff).await;
            self.state.send_replace(LinkState::Down);
            let pause = backoff.next();
            match ended {
                Ended::NoConnection(reason) => warn!(%reason, ?pause, "no connection, will retry"),
                reason => warn!(server = %self.server, %reason, ?pause, "stream ended, will reopen"),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One stream from beginning to end.
    async fn read_stream(&self, backoff: &mut Backoff) -> Ended {
        let (connection, mut messages) = match self.open().await {
            Ok(opened) => opened,
            Err(ended) => return ended,
        };
        info!(server = %self.server, "stream open");
        backoff.reset();
        self.state.send_replace(LinkState::Open(connection));
        loop {
            match messages.message().await {
                // Nothing here waits: the stream is always drained, however full the postbox is.
                Ok(Some(message)) => self.postbox.push(&message),
                Ok(None) => return Ended::Cleanly,
                Err(status) => return status.into(),
            }
        }
    }

    async fn open(&self) -> Result<(Connection, Streaming<ReadMessagesResponse>), Ended> {
        let connection = Connection::open(&self.server).await?;
        let mut client = MessengerServerClient::with_origin(connection.clone(), self.server.origin())
            .max_decoding_message_size(MAX_MESSAGE);
        info!(server = %self.server, "connected, opening the stream");
        self.state.send_replace(LinkState::Opening(connection.clone(), Instant::now()));
        let messages = client.read_messages(()).await?.into_inner();
        Ok((connection, messages))
    }
}

impl LinkState {
    /// The connection to send over, if it is time to: the stream is open, or has been opening for `patience`.
    pub(super) fn connection(&self, patience: Duration) -> Option<Connection> {
        match self {
            Self::Open(connection) => Some(connection.clone()),
            Self::Opening(connection, since) if since.elapsed() >= patience => Some(connection.clone()),
            _ => None,
        }
    }
}
