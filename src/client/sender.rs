//! Sending: when, over which connection, and what a failure means.

use std::error::Error as _;
use std::time::Duration;

use http::Uri;
use prost_types::Timestamp;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::link::LinkState;
use crate::net::Connection;
use crate::proto::messenger_server_client::MessengerServerClient;
use crate::proto::{NOT_ACCEPTED, SendMessageRequest};

/// How long a send waits for the stream's response headers, counted from when the stream was asked for.
const STREAM_PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait after a call that was not processed, unless the link changes before.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A message was not sent, or nobody knows.
#[derive(Debug, Error)]
pub(super) enum SendError {
    /// The message is not in the room.
    #[error("the server is away: the message was not sent")]
    ServerAway,
    /// The call was made, and no answer came before the deadline.
    #[error("the server gave no answer in time: the message may or may not be in the chat")]
    NoAnswer,
    /// The connection broke while the call was on its way.
    #[error("the connection to the server broke: the message may or may not be in the chat")]
    Broken,
    /// The client ends. The message is not in the room.
    #[error("the client is shutting down: the message was not sent")]
    ShuttingDown,
    /// The server answered with a status that says no. The message is not in the room.
    #[error("the server refused the message: {}", .0.message())]
    Refused(Status),
    /// The server answered with a status that says nothing about the message.
    #[error("the server failed ({}: {}): the message may or may not be in the chat", .0.code(), .0.message())]
    Failed(Status),
}

/// Sends messages over the connection whose stream brings them back.
#[derive(Debug)]
pub(super) struct Sender {
    link: watch::Receiver<LinkState>,
    ending: watch::Receiver<bool>,
    origin: Uri,
    deadline: Duration,
}

impl Sender {
    /// `ending` becomes true when the client shuts down; who still waits for a server then waits in vain.
    pub(super) fn new(
        link: watch::Receiver<LinkState>,
        ending: watch::Receiver<bool>,
        origin: Uri,
        deadline: Duration,
    ) -> Self {
        Self { link, ending, origin, deadline }
    }

    /// Sends one message, waiting for the server if it is away. Tries again only what surely never reached the room, so that no
    /// message is put there twice.
    ///
    /// # Errors
    /// What is known about the message: see [`SendError`].
    pub(super) async fn send(&self, message: SendMessageRequest) -> Result<Timestamp, SendError> {
        let deadline = Instant::now() + self.deadline;
        let (mut link, mut ending) = (self.link.clone(), self.ending.clone());
        loop {
            let connection = tokio::select! {
                // First, because it nearly always is the one, and then no timer is set.
                biased;
                connection = ready_connection(&mut link) => connection,
                _ = ending.wait_for(|ending| *ending) => return Err(SendError::ShuttingDown),
                () = tokio::time::sleep_until(deadline) => return Err(SendError::ServerAway),
            };
            let mut client = MessengerServerClient::with_origin(connection, self.origin.clone());
            let mut request = tonic::Request::new(message.clone());
            request.set_timeout(deadline.duration_since(Instant::now()));
            match tokio::time::timeout_at(deadline, client.send_message(request)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner().send_time.unwrap_or_default()),
                Ok(Err(status)) if never_processed(&status) => {
                    // The link is about to learn of it; a state that stays the same must not make this a busy loop.
                    let _ = tokio::time::timeout_at(deadline.min(Instant::now() + RETRY_PAUSE), link.changed()).await;
                }
                Ok(Err(status)) if is_transport(&status) => return Err(SendError::Broken),
                Ok(Err(status)) if status.code() == Code::DeadlineExceeded => return Err(SendError::NoAnswer),
                Ok(Err(status)) if is_refusal(&status) => return Err(SendError::Refused(status)),
                Ok(Err(status)) => return Err(SendError::Failed(status)),
                Err(_) => return Err(SendError::NoAnswer),
            }
        }
    }
}

/// Waits for a connection over which to send.
async fn ready_connection(link: &mut watch::Receiver<LinkState>) -> Connection {
    loop {
        let state = link.borrow_and_update().clone();
        if let Some(connection) = state.connection(STREAM_PATIENCE) {
            return connection;
        }
        let changed = link.changed();
        match state {
            LinkState::Opening(_, since) => {
                let _ = tokio::time::timeout_at(since + STREAM_PATIENCE, changed).await;
            }
            _ => {
                // An error means that the link is gone for good, as it is while the program ends: there is nothing to wait for.
                if changed.await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

/// Whether the call surely did not reach the room: it never left this process, the server's HTTP/2 layer refused its stream (RFC 9113,
/// 8.7), or the server itself says so.
fn never_processed(status: &Status) -> bool {
    if status.metadata().contains_key(NOT_ACCEPTED) {
        return true;
    }
    let mut source = status.source();
    while let Some(error) = source {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            // A GOAWAY with NO_ERROR fails exactly those streams that the server says it has not looked at.
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let goodbye = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
            return refused || goodbye;
        }
        source = error.source();
    }
    false
}

/// Whether the status is one that a server gives before it does anything (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).
/// With any other it may have taken the message first and failed then.
fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::ResourceExhausted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::NotFound
    )
}

/// Whether the status stands for a failure of the connection and was not sent by the server.
fn is_transport(status: &Status) -> bool {
    status.source().is_some()
}
