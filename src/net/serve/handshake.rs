//! The beginning of an accepted connection: TLS and the protocol's own handshake, in bounded time.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;

use super::accept::Drain;
use crate::net::tls::{Acceptor, TlsError};
use crate::net::{Activity, Socket, WatchedTcp};

/// How long a peer may take for all handshakes together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The reason why an accepted connection failed.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The peer did not complete TLS or the preface of HTTP/2 in time.
    #[error("no handshake within {HANDSHAKE_TIMEOUT:?}")]
    HandshakeTimeout,
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {0}")]
    Tls(#[from] TlsError),
    /// Nothing arrived, not even the answer to a ping.
    #[error("the peer is silent and answers no ping")]
    Silent,
    /// The peer did not read what was written to it.
    #[error("the peer does not read")]
    Stuck,
    /// HTTP/1.1 failed.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// HTTP/2 failed.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

/// Does the TLS handshake, if there is TLS, and then the handshake of `protocol`. Returns `None` if
/// the drain begins first.
///
/// # Errors
/// If one of the two fails, or both take too long together.
pub async fn handshake<T, F>(
    stream: TcpStream,
    tls: Option<Arc<Acceptor>>,
    drain: &mut Drain,
    protocol: impl FnOnce(Socket) -> F,
) -> Result<Option<(T, Activity)>, ConnectionError>
where
    F: Future<Output = Result<T, ConnectionError>>,
{
    let (stream, activity, _) = WatchedTcp::new(stream);
    let handshakes = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
        let socket = match tls {
            None => stream.into(),
            // Boxed, because the future of every connection would be as large as this one.
            Some(tls) => Box::pin(tls.accept(stream)).await?,
        };
        protocol(socket).await
    });
    tokio::select! {
        // A peer that has completed its handshake may have made a call, which is still answered.
        biased;
        done = handshakes => {
            let done = done.map_err(|_| ConnectionError::HandshakeTimeout)??;
            Ok(Some((done, activity)))
        }
        () = drain.begun() => Ok(None),
    }
}
