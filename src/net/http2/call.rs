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
use super::gate::Slot;

/// How long after the socket was closed a call may still get the answer that had come before. Normally HTTP/2 ends all calls with the
/// connection; about one in thousands, made in the very moment in which a server said goodbye and closed, was never heard of again.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// A call got no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// It has not left: the connection takes no more calls.
    #[error("{0}")]
    NotMade(#[source] h2::Error),
    /// HTTP/2 says why.
    #[error("{0}")]
    Http2(#[source] h2::Error),
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

/// What a call comes to.
type Answered = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, CallError>> + Send>>;

impl Connection {
    /// Waits until a call may leave: the server has a free stream for it, and reads. Until then nothing of
    /// it has left.
    pub async fn reserve(&self) -> Reserved {
        Reserved { connection: self.clone(), slot: Some(self.http2.enter().await) }
    }

    /// Makes a call, once there is room for it.
    fn make(mut self, mut request: Request<Body>, slot: Option<Slot>) -> Answered {
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.current().header());
        }
        Box::pin(async move {
            let (socket, retired) = (self.socket.clone(), self.retired.clone());
            let gone = async {
                socket.closed().await;
                tokio::time::sleep(LAST_ANSWERS).await;
            };
            let answer = async {
                let slot = match slot {
                    Some(slot) => slot,
                    None => self.http2.enter().await,
                };
                let call = self.http2.call(request, slot).map_err(|error| {
                    retired.send_replace(true);
                    CallError::NotMade(error)
                })?;
                // While it runs it holds the connection by its slot alone.
                drop(self);
                call.await.map_err(|error| {
                    if error.is_go_away() {
                        retired.send_replace(true);
                    }
                    CallError::Http2(error)
                })
            };
            tokio::select! {
                biased;
                answer = answer => answer,
                () = gone => Err(CallError::Gone),
            }
        })
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<ResponseBody>;
    type Error = CallError;
    type Future = Answered;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        // Always: a call waits for its room itself, and what a closed connection says in `call` tells the
        // caller that nothing was sent; an error here would reach it without that.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answered {
        self.clone().make(request, None)
    }
}

/// A connection with room for one call. Further calls wait for their own.
#[derive(Debug)]
pub struct Reserved {
    connection: Connection,
    slot: Option<Slot>,
}

impl Service<Request<Body>> for Reserved {
    type Response = Response<ResponseBody>;
    type Error = CallError;
    type Future = Answered;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answered {
        self.connection.clone().make(request, self.slot.take())
    }
}
