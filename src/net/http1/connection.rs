//! Serves a connection of HTTP/1.1: keeps it for a bounded time, closes it cleanly, and tells
//! handlers about the peer.
//!
//! A connection between two requests is closed after [`Patience::idle`]. Programs often poll once a
//! minute, and load balancers drop connections after one. With a limit of a minute here too, some
//! requests would arrive just as the connection closes. Peers that honour `Keep-Alive` close
//! earlier themselves.

#[cfg(test)]
mod tests;

use std::convert::identity;
use std::error::Error;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt;
use futures_util::future::MapOk;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::head_timer::HeadTimer;
use super::read_ahead::{Peer, read_ahead};
use crate::net::tls::Acceptor;
use crate::net::{ConnectionError, Drain, Socket, handshake};

/// The largest head of a request, in bytes.
const HEAD_MAX: usize = 64 * 1024;
/// A connection is closed if its peer reads nothing of its response for this long. The close can
/// come up to twice as late.
const STUCK_LIMIT: Duration = Duration::from_secs(30);
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Shorter than [`Patience::idle`], so that a peer that honours it never sends a request to a
/// connection that is closing.
const ANNOUNCED: HeaderValue = HeaderValue::from_static("timeout=90");

/// How long a connection waits for its peer.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For the first byte of a request.
    idle: Duration,
    /// For the rest of its head, after the first byte.
    head: Duration,
    /// For the peer's close, after ours. What the peer sends meanwhile is discarded: if it stayed
    /// unread, TCP would reset the connection, and the peer would see an error instead of the
    /// close.
    close: Duration,
}

const PATIENCE: Patience =
    Patience { idle: Duration::from_secs(95), head: Duration::from_mins(1), close: Duration::from_secs(2) };

/// Serves an accepted connection until its peer closes it or waits too long. Once the drain begins,
/// the connection ends with the response to its last request. Each request has the [`Peer`] among
/// its extensions.
///
/// # Errors
/// [`ConnectionError`], for a connection that did not end in good order.
pub async fn serve_http1<S, B>(
    stream: TcpStream,
    tls: Option<Arc<Acceptor>>,
    service: S,
    mut drain: Drain,
) -> Result<(), ConnectionError>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Unpin,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let opened = handshake(stream, tls, &mut drain, |socket| ready(Ok(socket))).await?;
    let Some((socket, activity)) = opened else { return Ok(()) };
    tokio::select! {
        served = serve(socket, service, drain, PATIENCE) => Ok(served?),
        () = activity.stuck(STUCK_LIMIT) => Err(ConnectionError::Stuck),
    }
}

async fn serve<S, B>(socket: Socket, service: S, mut drain: Drain, patience: Patience) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Unpin,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (socket, peer) = read_ahead(socket);
    let mut connection = Builder::new()
        .timer(HeadTimer::new(peer.clone(), patience.head))
        .header_read_timeout(patience.idle)
        .max_buf_size(HEAD_MAX)
        // A peer that has closed its sending side (`nc -N`) still waits for the response.
        .half_close(true)
        .serve_connection(TokioIo::new(socket), WithPeer { service, peer });
    let ended = tokio::select! {
        // A request that has arrived before the drain gets its response.
        biased;
        ended = &mut connection => ended,
        () = drain.begun() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            return connection.await;
        }
    };
    if ended.as_ref().is_err_and(hyper::Error::is_timeout) {
        let mut socket = connection.into_parts().io.into_inner();
        let close = async {
            socket.shutdown().await?;
            while socket.read(&mut [0; 1024]).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        tokio::select! {
            _ = tokio::time::timeout(patience.close, close) => {}
            () = drain.begun() => {}
        }
    }
    ended
}

/// A service that gives each request the [`Peer`], and whose responses announce how long the
/// connection is kept.
struct WithPeer<S> {
    service: S,
    peer: Peer,
}

impl<S, B> Service<Request<Incoming>> for WithPeer<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(Response<B>) -> Response<B>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        let kept = is_kept(request.version(), request.headers());
        self.service.call(request).map_ok(if kept { announce } else { identity })
    }
}

/// Whether the peer wants to send further requests over the connection (RFC 9112, 9.3).
fn is_kept(version: Version, headers: &HeaderMap) -> bool {
    let has = |option: &str| {
        let values = headers.get_all(CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(option))
    };
    !has("close") && (version >= Version::HTTP_11 || has("keep-alive"))
}

fn announce<B>(mut response: Response<B>) -> Response<B> {
    let headers = response.headers_mut();
    if !headers.contains_key(CONNECTION) {
        // It is for this connection only, and no proxy passes it on.
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.insert(KEEP_ALIVE, ANNOUNCED);
    }
    response
}
