//! A call over a connection.

use std::error::Error as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Request, Response};
use thiserror::Error;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::body::ResponseBody;
use super::connection::Connection;

/// How long a call may still get a response that arrived before the socket was closed. Normally
/// HTTP/2 ends all calls with the connection. But of thousands of calls that started just as the
/// server sent GOAWAY and closed, about one never ended.
const LAST_RESPONSES: Duration = Duration::from_millis(100);

/// The reason why a call got no response.
#[derive(Debug, Error)]
pub enum CallError {
    /// Nothing was sent: the connection takes no more calls.
    #[error("{0}")]
    NotMade(#[source] h2::Error),
    /// HTTP/2 failed.
    #[error("{0}")]
    Http2(#[source] h2::Error),
    /// The socket is closed.
    #[error("the connection is closed")]
    Closed,
}

/// The HTTP/2 error behind a status, if HTTP/2 is what failed.
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

impl Service<Request<Body>> for Connection {
    type Response = Response<ResponseBody>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, CallError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        // Always ready: a call waits for its slot itself. An error here would reach the caller
        // without the information that nothing was sent.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.current().header());
        }
        let (mut connection, slot) = (self.clone(), self.slot.take());
        Box::pin(async move {
            let (socket, retired) = (connection.socket.clone(), connection.retired.clone());
            let closed = async {
                socket.closed().await;
                tokio::time::sleep(LAST_RESPONSES).await;
            };
            let response = async {
                let slot = match slot {
                    Some(slot) => slot,
                    None => connection.session.enter().await,
                };
                let call = connection.session.call(request, slot).map_err(|error| {
                    retired.send_replace(true);
                    CallError::NotMade(error)
                })?;
                // From here on only the slot keeps the connection open.
                drop(connection);
                call.await.map_err(|error| {
                    if error.is_go_away() {
                        retired.send_replace(true);
                    }
                    CallError::Http2(error)
                })
            };
            tokio::select! {
                biased;
                response = response => response,
                () = closed => Err(CallError::Closed),
            }
        })
    }
}
