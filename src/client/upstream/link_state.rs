//! How the stream from the server stands.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::AsciiMetadataValue;

use crate::net::Connection;

/// How the stream stands. Those who send look at it: a message sent before the stream is open would not come back through it.
#[derive(Debug, Clone)]
pub(crate) enum LinkState {
    /// No connection.
    Down,
    /// The call was made over this connection, its response headers have not come. Our own server sends them at once;
    /// others (grpcio, grpc-go) only with the first message, so they cannot be waited for without a bound.
    Opening(Connection, Instant),
    /// Every message that is accepted from now on comes through the stream.
    Open(Connection, Epoch),
    /// The server is there and says why it opens no stream now.
    Unavailable(Status),
    /// The server does not let the client in, and would not take a message from it either.
    NotAdmitted(Status),
}

/// Which life of the room a server says it has, in its own words. `None` from a foreign server: it knows neither positions nor
/// idempotency keys.
pub(crate) type Epoch = Option<AsciiMetadataValue>;

impl LinkState {
    /// The connection to send over, if it is time to: the stream is open, or has been opening for `patience`.
    pub(crate) fn connection(&self, patience: Duration) -> Option<(Connection, Epoch)> {
        match self {
            Self::Open(connection, epoch) => Some((connection.clone(), epoch.clone())),
            Self::Opening(connection, since) if since.elapsed() >= patience => Some((connection.clone(), None)),
            _ => None,
        }
    }
}
