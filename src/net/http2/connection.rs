//! One HTTP/2 connection to a server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::gate::Backpressure;
use super::liveness::Unresponsive;
use super::preface::ServerPreface;
use super::session::Session;
use crate::net::connect::happy_eyeballs::{order, race};
use crate::net::tls::{self, TlsError};
use crate::net::{CloseSignal, KeepalivePolicy, Reloaded, ServerAddr, Token, WatchedTcp, lookup};
use crate::process::test_panic;

/// For TCP to each of the host's addresses.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// For all of them together, with TLS and the first frame of the server, which it sends at once. TLS is two
/// round trips, and the server's calculations when many come back to it in one moment.
const CONNECT_BUDGET: Duration = Duration::from_secs(6);

/// For connections to a server. It is TCP's keepalive and not HTTP/2's: a foreign gRPC server ends the
/// connection of a client that pings an idle stream more often than every five minutes
/// (`too_many_pings`).
const KEEPALIVE: KeepalivePolicy = KeepalivePolicy {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    probes: 3,
    unacknowledged: Duration::from_secs(30),
};

/// No connection could be made.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("can't resolve {0}: {1}")]
    Resolve(ServerAddr, io::Error),
    /// None of the addresses answered; the error of the last one.
    #[error("can't connect to {0}: {1}")]
    Connect(ServerAddr, io::Error),
    /// What answered does not talk TLS, or is not the server.
    #[error("no TLS with {0}: {1}")]
    Tls(ServerAddr, TlsError),
    /// The address asks for TLS, and nobody has said whom to trust.
    #[error("no TLS with {0}: there is no CA to trust")]
    NoCa(ServerAddr),
    /// What answered does not talk HTTP/2.
    #[error("no HTTP/2 with {0}: {1}")]
    Handshake(ServerAddr, h2::Error),
    /// What answered says nothing, or goes at once.
    #[error("no HTTP/2 with {0}: {1}")]
    NoGreeting(ServerAddr, io::Error),
}

/// What a server asks for, and how it is known.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// For a server whose address says `https://`.
    pub tls: Option<Arc<tls::Connector>>,
    /// Sent with every call.
    pub token: Option<Arc<Reloaded<Token>>>,
}

/// An open connection, to be cloned for each user; a generated client takes it as its transport. It never reconnects by itself: who
/// reads the one stream must be sure that a message is sent over the same connection, or not at all.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(super) http2: Session,
    pub(super) socket: CloseSignal,
    pub(super) token: Option<Arc<Reloaded<Token>>>,
    pub(super) retired: watch::Sender<bool>,
    /// Of all calls over it.
    origin: Uri,
    peer: SocketAddr,
}

impl Connection {
    /// Resolves the host and connects to the first of its addresses that answers. The connection closes when the last clone is
    /// dropped and its calls have ended.
    ///
    /// # Errors
    /// [`ConnectError`], which names the server.
    pub async fn open(server: &ServerAddr) -> Result<Self, ConnectError> {
        Self::open_with(server, &Credentials::default()).await
    }

    /// The same with a server that asks for more.
    ///
    /// # Errors
    /// [`ConnectError`], which names the server.
    pub async fn open_with(server: &ServerAddr, access: &Credentials) -> Result<Self, ConnectError> {
        Self::open_elsewhere(server, access, None).await
    }

    /// The same, with this address last of all the host has: a connection to it was no good.
    ///
    /// # Errors
    /// [`ConnectError`], which names the server.
    pub async fn open_elsewhere(
        server: &ServerAddr,
        access: &Credentials,
        shunned: Option<SocketAddr>,
    ) -> Result<Self, ConnectError> {
        let addresses = lookup(server.host(), server.port()).await;
        let addresses = addresses.map_err(|error| ConnectError::Resolve(server.clone(), error))?;
        let deadline = Instant::now() + CONNECT_BUDGET;
        let attempt = |address| Self::open_at(address, server, access, deadline);
        // Who refuses a connection is not the server; who takes it and is of no use may be.
        let is_worse = |error: &ConnectError| !matches!(error, ConnectError::Connect(..));
        let opened = race(order(addresses, shunned), attempt, is_worse).await;
        match opened {
            Some(opened) => opened,
            None => Err(ConnectError::Resolve(server.clone(), io::ErrorKind::NotFound.into())),
        }
    }

    async fn open_at(
        address: SocketAddr,
        server: &ServerAddr,
        access: &Credentials,
        deadline: Instant,
    ) -> Result<Self, ConnectError> {
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            // While nobody listens on a local port, the kernel may pick that very port for our end, and connect us to ourselves.
            Ok(Ok(stream)) if stream.local_addr().ok() == stream.peer_addr().ok() => {
                Err(io::Error::from(io::ErrorKind::ConnectionRefused))
            }
            Ok(connected) => connected,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        };
        let stream = stream.map_err(|error| ConnectError::Connect(server.clone(), error))?;
        Self::handshake(server, access, stream, address, deadline).await
    }

    async fn handshake(
        server: &ServerAddr,
        access: &Credentials,
        stream: TcpStream,
        peer: SocketAddr,
        deadline: Instant,
    ) -> Result<Self, ConnectError> {
        stream
            .set_nodelay(true)
            .and_then(|()| KEEPALIVE.apply(&stream))
            .map_err(|error| ConnectError::Connect(server.clone(), error))?;
        let (wire, activity, lifetime) = WatchedTcp::new(stream);
        let socket = match (&access.tls, server.is_tls()) {
            (_, false) => wire.into(),
            (None, true) => return Err(ConnectError::NoCa(server.clone())),
            (Some(tls), true) => {
                let handshake = tokio::time::timeout_at(deadline, tls.connect(server.name(), wire)).await;
                let handshake = handshake.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
                handshake.map_err(|error| ConnectError::Tls(server.clone(), error))?
            }
        };
        let (socket, preface) = ServerPreface::watch(socket);
        let (http2, driver) =
            Session::start(socket, activity).await.map_err(|error| ConnectError::Handshake(server.clone(), error))?;
        let address = server.clone();
        let (failed, failure) = oneshot::channel();
        // Nobody waits for this task. When it ends or panics, calls fail or the socket closes, and
        // then `retired` completes.
        tokio::spawn(async move {
            test_panic("client connection");
            if let Err(error) = driver.await {
                if wants_tls(&address, &error) {
                    warn!(server = %address, "what it speaks is not HTTP/2; does it want TLS, as https://{address}?");
                }
                debug!(%error, "connection to the server ended");
                // Nobody waits for it after the greeting.
                let _ = failed.send(error);
            }
        });
        let greeted = async {
            if preface.await.is_ok() {
                return Ok(());
            }
            Err(match failure.await {
                Ok(error) => ConnectError::Handshake(server.clone(), error),
                Err(_) => ConnectError::NoGreeting(server.clone(), io::ErrorKind::ConnectionReset.into()),
            })
        };
        match tokio::time::timeout_at(deadline, greeted).await {
            Ok(greeted) => greeted?,
            Err(_) => return Err(ConnectError::NoGreeting(server.clone(), io::ErrorKind::TimedOut.into())),
        }
        let (token, origin) = (access.token.clone(), server.origin());
        Ok(Self { http2, socket: lifetime, token, retired: watch::Sender::new(false), origin, peer })
    }

    /// The address at the other end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The origin of calls to the server at the other end.
    #[must_use]
    pub fn origin(&self) -> Uri {
        self.origin.clone()
    }

    /// Why no call can leave, if that is so for longer than a moment.
    #[must_use]
    pub fn backpressure(&self) -> Option<Backpressure> {
        self.http2.backpressure()
    }

    /// Why a call had to wait last, whether that is still so or not.
    #[must_use]
    pub fn last_backpressure(&self) -> Option<Backpressure> {
        self.http2.last_backpressure()
    }

    /// The server is our own, and does not mind pings: it is gone after ten seconds without a byte.
    pub fn watch_closely(&self) {
        self.http2.liveness().watch_closely();
    }

    /// A call got no answer in time: the server is asked for a sign of life.
    pub fn doubt(&self) {
        self.http2.liveness().doubt();
    }

    /// Completes when a call got no answer in time since this was last asked.
    pub async fn doubted(&self) {
        self.http2.liveness().doubted().await;
    }

    /// Asks the server for a sign of life, and says whether one has come before the connection ended.
    pub async fn sign_of_life(&self) -> bool {
        self.doubt();
        tokio::select! {
            () = self.http2.liveness().sign() => true,
            () = self.socket.clone().closed() => false,
        }
    }

    /// Why the connection was given up, if it was.
    #[must_use]
    pub fn unresponsive(&self) -> Option<Unresponsive> {
        self.http2.liveness().unresponsive()
    }

    /// Completes once no call can be made any more. Either a call was refused because the peer takes
    /// no more of them on this connection, or the socket is closed.
    ///
    /// After a refusal the open calls may go on without end: a proxy sends GOAWAY after some calls or
    /// some time, and waits for the last stream to end. When the socket closes, HTTP/2 ends the open
    /// calls. Only after a panic under its own lock it does not, and nothing would wake them.
    pub async fn retired(&self) {
        let mut retired = self.retired.subscribe();
        tokio::select! {
            // It fails when the sender is gone, and this has one.
            _ = retired.wait_for(|retired| *retired) => {}
            () = self.socket.clone().closed() => {}
        }
    }
}

/// Whether the first thing that came can have been TLS's answer to what is none, which as a frame of HTTP/2 would be a megabyte long.
fn wants_tls(server: &ServerAddr, error: &h2::Error) -> bool {
    !server.is_tls() && error.reason() == Some(h2::Reason::FRAME_SIZE_ERROR)
}
