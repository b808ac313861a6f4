//! Connections of HTTP/1.1, on every port that serves it: how long they are kept, how they are closed,
//! and what a handler may know of the peer.
//!
//! A connection between two requests is closed after [`Patience::idle`]. That is longer than the minute
//! at which programs poll and after which load balancers drop connections: with a minute here, too, some
//! requests would meet the close. Peers that go by `Keep-Alive` close earlier themselves.

#[cfg(test)]
mod tests;

use std::convert::identity;
use std::error::Error;
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

use super::head_timer::HeadTimer;
use super::read_ahead::{Peer, ReadAhead};
use crate::net::{Drain, Socket};

/// Bytes of a request's head.
const HEADERS: usize = 64 * 1024;
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Earlier than [`PATIENCE`] ends, so that a peer that goes by it never meets the close.
const ANNOUNCED: HeaderValue = HeaderValue::from_static("timeout=90");

/// How long a connection waits for its peer.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For the first byte of a request.
    idle: Duration,
    /// For the rest of its head, from the first byte on.
    head: Duration,
    /// For the peer's own close, after ours. What it has sent meanwhile is thrown away: if it were left
    /// unread, TCP would reset the connection, and the peer would see an error instead of the close.
    goodbye: Duration,
}

const PATIENCE: Patience =
    Patience { idle: Duration::from_secs(95), head: Duration::from_mins(1), goodbye: Duration::from_secs(2) };

/// Serves a connection until its peer closes it, waits too long, or the drain begins and the last
/// request has its answer. Each request has the [`Peer`] among its extensions.
///
/// # Errors
/// What hyper says of a connection that has not ended in good order.
pub async fn serve_http1<S, B>(socket: Socket, service: S, drain: Drain) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Unpin,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    serve(socket, service, drain, PATIENCE).await
}

async fn serve<S, B>(socket: Socket, service: S, mut drain: Drain, patience: Patience) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Unpin,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (ahead, peer) = ReadAhead::new(socket);
    let mut connection = Builder::new()
        .timer(HeadTimer::new(peer.clone(), patience.head))
        .header_read_timeout(patience.idle)
        .max_buf_size(HEADERS)
        // A peer that has said all it will say (`nc -N`) still waits for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(ahead), Served { service, peer });
    let ended = tokio::select! {
        // First, so that a request that has come already has its answer.
        biased;
        ended = &mut connection => ended,
        () = drain.begun() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            return connection.await;
        }
    };
    if ended.as_ref().is_err_and(hyper::Error::is_timeout) {
        let mut socket = connection.into_parts().io.into_inner();
        let goodbye = async {
            socket.shutdown().await?;
            while socket.read(&mut [0; 1024]).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        tokio::select! {
            _ = tokio::time::timeout(patience.goodbye, goodbye) => {}
            () = drain.begun() => {}
        }
    }
    ended
}

/// A service whose answers say how long the connection is kept.
struct Served<S> {
    service: S,
    peer: Peer,
}

impl<S, B> Service<Request<Incoming>> for Served<S>
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

/// Whether the connection is for more than one request, if the peer has its way (RFC 9112, 9.3).
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
