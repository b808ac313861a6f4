//! One HTTP/2 connection to a server.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;
use tracing::{debug, warn};

use super::tls::{self, TlsError};
use super::{Lifetime, Reloaded, ServerAddr, Token, Wire};

/// For each of the host's addresses in turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// For the handshake of TLS: two round trips, and the server's calculations when many come back to it at once.
const TLS_TIMEOUT: Duration = Duration::from_secs(5);

/// Silence after which the kernel asks whether the server's machine is still there, the pause between its questions, and how many
/// may stay unanswered. TCP's keepalive and not HTTP/2's: a gRPC server of another make closes the connection of a client that
/// pings an idle stream more often than every five minutes (`too_many_pings`).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long what we have sent may stay unacknowledged. TCP's keepalive is silent meanwhile, and the kernel alone would go on sending
/// it again for a quarter of an hour.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// Pings for a server whose machine answers and which does not itself, such as one that hangs. Less often than every five minutes: see
/// above.
const PING_INTERVAL: Duration = Duration::from_secs(330);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What the server may have in flight to us, per stream and in all. The defaults of 64 KiB make a busy stream wait for its window,
/// and a reader that falls behind in small frames is cut; this client always drains its stream, so large windows cost it nothing.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// How long after the socket was closed a call may still get the answer that had come before. Normally HTTP/2 ends all calls with the
/// connection; about one in thousands, made in the very moment in which a server said goodbye and closed, was never heard of again.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

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
    Handshake(ServerAddr, hyper::Error),
}

/// What a server asks for, and how it is known.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// For a server whose address says `https://`.
    pub tls: Option<Arc<tls::Connector>>,
    /// Sent with every call.
    pub token: Option<Arc<Reloaded<Token>>>,
}

/// An open connection, to be cloned for each user; a generated client takes it as its transport. It never reconnects by itself: who
/// reads the one stream must be sure that a message is sent over the same connection, or not at all.
#[derive(Debug, Clone)]
pub struct Connection {
    requests: http2::SendRequest<Body>,
    socket: Lifetime,
    token: Option<Arc<Reloaded<Token>>>,
    retired: watch::Sender<bool>,
    /// Of all calls over it.
    origin: Uri,
}

/// A call got no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// HTTP/2 says why.
    #[error("{0}")]
    Http2(#[source] hyper::Error),
    /// The socket is closed.
    #[error("the connection is gone")]
    Gone,
}

/// What HTTP/2 has to say about a call that has failed, if it was HTTP/2 that failed.
#[must_use]
pub fn http2_error(status: &Status) -> Option<&h2::Error> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

impl Connection {
    /// Resolves the host and connects to the first of its addresses that answers. The connection closes when the last clone is
    /// dropped and its calls have ended.
    ///
    /// # Errors
    /// [`ConnectError`], which names the server.
    pub async fn open(server: &ServerAddr) -> Result<Self, ConnectError> {
        Self::open_with(server, &Access::default()).await
    }

    /// The same with a server that asks for more.
    ///
    /// # Errors
    /// [`ConnectError`], which names the server.
    pub async fn open_with(server: &ServerAddr, access: &Access) -> Result<Self, ConnectError> {
        let addresses = tokio::net::lookup_host((server.host(), server.port())).await;
        let addresses = addresses.map_err(|error| ConnectError::Resolve(server.clone(), error))?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                // While nobody listens on a local port, the kernel may pick that very port for our end, and connect us to ourselves.
                Ok(Ok(stream)) if stream.local_addr().ok() == stream.peer_addr().ok() => {
                    last = io::Error::from(io::ErrorKind::ConnectionRefused);
                }
                Ok(Ok(stream)) => return Self::handshake(server, access, stream).await,
                Ok(Err(error)) => last = error,
                Err(_) => last = io::Error::from(io::ErrorKind::TimedOut),
            }
        }
        Err(ConnectError::Connect(server.clone(), last))
    }

    async fn handshake(server: &ServerAddr, access: &Access, stream: TcpStream) -> Result<Self, ConnectError> {
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES);
        let socket = SockRef::from(&stream);
        stream
            .set_nodelay(true)
            .and_then(|()| socket.set_tcp_keepalive(&keepalive))
            .and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)))
            .map_err(|error| ConnectError::Connect(server.clone(), error))?;
        let (wire, _, lifetime) = Wire::new(stream);
        let socket = match (&access.tls, server.is_tls()) {
            (_, false) => wire.into(),
            (None, true) => return Err(ConnectError::NoCa(server.clone())),
            (Some(tls), true) => {
                let handshake = tokio::time::timeout(TLS_TIMEOUT, tls.connect(server.host(), wire)).await;
                let handshake = handshake.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
                handshake.map_err(|error| ConnectError::Tls(server.clone(), error))?
            }
        };
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|error| ConnectError::Handshake(server.clone(), error))?;
        let address = server.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                if wants_tls(&address, &error) {
                    warn!(server = %address, "what it speaks is not HTTP/2; does it want TLS, as https://{address}?");
                }
                debug!(%error, "connection to the server ended");
            }
        });
        let (token, origin) = (access.token.clone(), server.origin());
        Ok(Self { requests, socket: lifetime, token, retired: watch::Sender::new(false), origin })
    }

    /// The origin of calls to the server at the other end.
    #[must_use]
    pub fn origin(&self) -> Uri {
        self.origin.clone()
    }

    /// Completes once a call was refused because the peer takes no more of them on this connection. Those that are open may go on for
    /// ever: a proxy says so (GOAWAY) after so many calls, or so much time, and waits for the last stream to end.
    pub async fn retired(&self) {
        // It fails when the sender is gone, and this has one.
        let _ = self.retired.subscribe().wait_for(|retired| *retired).await;
    }
}

/// Whether the first thing that came can have been TLS's answer to what is none, which as a frame of HTTP/2 would be a megabyte long.
fn wants_tls(server: &ServerAddr, error: &hyper::Error) -> bool {
    let http2 = error.source().and_then(|error| error.downcast_ref::<h2::Error>());
    !server.is_tls() && http2.and_then(h2::Error::reason) == Some(h2::Reason::FRAME_SIZE_ERROR)
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, CallError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        // HTTP/2 is always ready, and what a closed connection says in `call` tells the caller that nothing was sent; an error here
        // would reach it without that.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.current().header());
        }
        let answer = self.requests.send_request(request);
        let (socket, retired) = (self.socket.clone(), self.retired.clone());
        Box::pin(async move {
            let gone = async {
                socket.ended().await;
                tokio::time::sleep(LAST_ANSWERS).await;
            };
            tokio::select! {
                biased;
                answer = answer => answer.map_err(|error| {
                    if takes_no_more(&error) {
                        retired.send_replace(true);
                    }
                    CallError::Http2(error)
                }),
                () = gone => Err(CallError::Gone),
            }
        })
    }
}

/// Whether the call was not made because the peer has said goodbye.
fn takes_no_more(error: &hyper::Error) -> bool {
    let goodbye =
        error.source().and_then(|source| source.downcast_ref::<h2::Error>()).is_some_and(h2::Error::is_go_away);
    error.is_canceled() || goodbye
}
