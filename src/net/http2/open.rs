//! Opens a connection to a server, with TCP, TLS and HTTP/2, at the first of its addresses that
//! answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::connection::Connection;
use super::preface::ServerPreface;
use super::session::Session;
use crate::net::connect::happy_eyeballs::{order, race};
use crate::net::tls::{self, TlsError};
use crate::net::{KeepalivePolicy, Reloaded, ServerAddr, Token, WatchedTcp, lookup};
use crate::process::test_panic;

/// The limit for TCP to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The limit for all addresses together, with TLS and the server's preface. TLS takes two round
/// trips, and much computation where many clients come back to a server at once.
const OPEN_TIMEOUT: Duration = Duration::from_secs(6);

/// For connections to a server. TCP probes, and not HTTP/2 pings, because other implementations end
/// the connection of a client that pings an idle stream more often than every five minutes
/// (`too_many_pings`).
const KEEPALIVE: KeepalivePolicy = KeepalivePolicy {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    probes: 3,
    unacknowledged: Duration::from_secs(30),
};

/// The reason why no connection could be opened.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("can't resolve {0}: {1}")]
    Resolve(ServerAddr, io::Error),
    /// No address accepted a connection. The error is that of the last attempt.
    #[error("can't connect to {0}: {1}")]
    Connect(ServerAddr, io::Error),
    /// The peer does not speak TLS, or is not the server.
    #[error("no TLS with {0}: {1}")]
    Tls(ServerAddr, TlsError),
    /// The address asks for TLS, and no CA is configured.
    #[error("no TLS with {0}: no CA is configured")]
    NoCa(ServerAddr),
    /// The peer does not speak HTTP/2.
    #[error("no HTTP/2 with {0}: {1}")]
    Handshake(ServerAddr, h2::Error),
    /// The peer sends nothing, or closes the connection at once.
    #[error("no HTTP/2 with {0}: {1}")]
    NoPreface(ServerAddr, io::Error),
}

/// How a client authenticates a server, and itself to the server.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// For a server whose address starts with `https://`.
    pub tls: Option<Arc<tls::Connector>>,
    /// Sent with every call.
    pub token: Option<Arc<Reloaded<Token>>>,
}

impl Connection {
    /// Opens a connection to a server without a token.
    ///
    /// # Errors
    /// [`ConnectError`], which names the server.
    pub async fn open(server: &ServerAddr) -> Result<Self, ConnectError> {
        Self::open_with(server, &Credentials::default(), None).await
    }

    /// Resolves the host and opens a connection to the first of its addresses that answers.
    /// `shunned`, where a connection has failed before, is the last address that is tried.
    ///
    /// # Errors
    /// [`ConnectError`], which names the server.
    pub async fn open_with(
        server: &ServerAddr,
        credentials: &Credentials,
        shunned: Option<SocketAddr>,
    ) -> Result<Self, ConnectError> {
        let addresses = lookup(server.host(), server.port()).await;
        let addresses = addresses.map_err(|error| ConnectError::Resolve(server.clone(), error))?;
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let attempt = |address| open_at(address, server, credentials, deadline);
        // A peer that accepts a connection may be the server, so its error says more than a
        // refusal.
        let says_more = |error: &ConnectError| !matches!(error, ConnectError::Connect(..));
        match race(order(addresses, shunned), attempt, says_more).await {
            Some(opened) => opened,
            None => Err(ConnectError::Resolve(server.clone(), io::ErrorKind::NotFound.into())),
        }
    }
}

async fn open_at(
    address: SocketAddr,
    server: &ServerAddr,
    credentials: &Credentials,
    deadline: Instant,
) -> Result<Connection, ConnectError> {
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        // While nobody listens on a local port, the kernel may choose that port for our end, and
        // connect us to ourselves.
        Ok(Ok(stream)) if stream.local_addr().ok() == stream.peer_addr().ok() => {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let stream = stream.and_then(|stream| {
        stream.set_nodelay(true)?;
        KEEPALIVE.apply(&stream)?;
        Ok(stream)
    });
    let stream = stream.map_err(|error| ConnectError::Connect(server.clone(), error))?;
    handshake(server, credentials, stream, address, deadline).await
}

async fn handshake(
    server: &ServerAddr,
    credentials: &Credentials,
    stream: TcpStream,
    peer: SocketAddr,
    deadline: Instant,
) -> Result<Connection, ConnectError> {
    let (stream, activity, close_signal) = WatchedTcp::new(stream);
    let socket = match (&credentials.tls, server.is_tls()) {
        (_, false) => stream.into(),
        (None, true) => return Err(ConnectError::NoCa(server.clone())),
        (Some(tls), true) => {
            let handshake = tokio::time::timeout_at(deadline, tls.connect(server.name(), stream)).await;
            let handshake = handshake.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
            handshake.map_err(|error| ConnectError::Tls(server.clone(), error))?
        }
    };
    let (socket, preface) = ServerPreface::watch(socket);
    let (session, driver) =
        Session::start(socket, activity).await.map_err(|error| ConnectError::Handshake(server.clone(), error))?;
    let address = server.clone();
    let (failed, failure) = oneshot::channel();
    // Nobody waits for this task. When it ends or panics, calls fail or the socket closes, and then
    // `retired` completes.
    tokio::spawn(async move {
        test_panic("client connection");
        if let Err(error) = driver.await {
            if wants_tls(&address, &error) {
                warn!(server = %address, "server does not speak HTTP/2, it may want TLS: https://{address}");
            }
            debug!(%error, "connection to the server ended");
            // Nobody receives it after the preface.
            let _ = failed.send(error);
        }
    });
    let greeted = async {
        if preface.await.is_ok() {
            return Ok(());
        }
        Err(match failure.await {
            Ok(error) => ConnectError::Handshake(server.clone(), error),
            Err(_) => ConnectError::NoPreface(server.clone(), io::ErrorKind::ConnectionReset.into()),
        })
    };
    match tokio::time::timeout_at(deadline, greeted).await {
        Ok(greeted) => greeted?,
        Err(_) => return Err(ConnectError::NoPreface(server.clone(), io::ErrorKind::TimedOut.into())),
    }
    Ok(Connection {
        session,
        socket: close_signal,
        token: credentials.token.clone(),
        retired: watch::Sender::new(false),
        origin: server.origin(),
        peer,
        slot: None,
    })
}

/// Whether the first bytes may be the TLS alert to a plaintext client. Read as a frame of HTTP/2,
/// its length is about a megabyte.
fn wants_tls(server: &ServerAddr, error: &h2::Error) -> bool {
    !server.is_tls() && error.reason() == Some(h2::Reason::FRAME_SIZE_ERROR)
}
