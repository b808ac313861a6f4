//! Sending: when, over which connection, and what a failure means.

use std::error::Error as _;
use std::time::Duration;

use prost_types::Timestamp;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Status};

use super::link::{Epoch, LinkState};
use crate::net::{self, Connection};
use crate::proto::messenger_server_client::MessengerServerClient;
use crate::proto::{self, EPOCH, IDEMPOTENCY_KEY, NOT_ACCEPTED, SendMessageRequest};

/// How long a send waits for the stream's response headers, counted from when the stream was asked for.
pub(super) const STREAM_PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait after a call that was not processed, unless the link changes before.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long after its first try a message whose fate is unknown may be sent again. Less than a server of our make remembers its key in
/// any case, which is 15 seconds.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// The idempotency key of one message.
#[derive(Debug, Clone)]
pub(super) struct Key(AsciiMetadataValue);

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

impl SendError {
    /// What it is, in a word.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::ServerAway => "server_away",
            Self::NoAnswer => "no_answer",
            Self::Broken => "broken",
            Self::ShuttingDown => "shutting_down",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }
}

/// Sends messages over the connection whose stream brings them back.
#[derive(Debug)]
pub(super) struct Sender {
    link: watch::Receiver<LinkState>,
    ending: watch::Receiver<bool>,
    deadline: Duration,
}

impl Sender {
    /// `ending` becomes true when the client shuts down; who still waits for a server then waits in vain.
    pub(super) fn new(link: watch::Receiver<LinkState>, ending: watch::Receiver<bool>, deadline: Duration) -> Self {
        Self { link, ending, deadline }
    }

    /// Sends one message, waiting for the server if it is away. What is tried again is what surely never reached the room, and what a
    /// server that remembers `key` would recognise: no message is put there twice.
    ///
    /// # Errors
    /// What is known about the message: see [`SendError`].
    pub(super) async fn send(&self, message: SendMessageRequest, key: Key) -> Result<Timestamp, SendError> {
        let start = Instant::now();
        let deadline = start + self.deadline;
        let (mut link, mut ending) = (self.link.clone(), self.ending.clone());
        let mut unknown: Option<Unknown> = None;
        loop {
            let ready = tokio::select! {
                // First, because it nearly always is the one, and then no timer is set.
                biased;
                ready = ready_connection(&mut link) => ready.map_err(SendError::Refused),
                _ = ending.wait_for(|ending| *ending) => Err(SendError::ShuttingDown),
                () = tokio::time::sleep_until(deadline) => Err(SendError::ServerAway),
            };
            let (connection, epoch) = match (ready, &unknown) {
                (Ok((_, epoch)), Some(unknown)) if epoch.as_ref() != Some(&unknown.epoch) => break,
                (Ok(ready), _) => ready,
                (Err(_), Some(_)) => break,
                (Err(error), None) => return Err(error),
            };
            let mut request = tonic::Request::new(message.clone());
            request.set_timeout(deadline.duration_since(Instant::now()));
            request.metadata_mut().insert(IDEMPOTENCY_KEY, key.0.clone());
            if let Some(unknown) = &unknown {
                request.metadata_mut().insert(EPOCH, unknown.epoch.clone());
            }
            let origin = connection.origin();
            let mut client = MessengerServerClient::with_origin(connection, origin);
            let error = match tokio::time::timeout_at(deadline, client.send_message(request)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner().send_time.unwrap_or_default()),
                Ok(Err(status)) if never_processed(&status) => {
                    // The link is about to learn of it; a state that stays the same must not make this a busy loop.
                    let _ = tokio::time::timeout_at(deadline.min(Instant::now() + RETRY_PAUSE), link.changed()).await;
                    // The connection may look ready all the while, and a try without time would say that nobody knows.
                    if Instant::now() >= deadline {
                        break;
                    }
                    continue;
                }
                Ok(Err(status)) if is_transport(&status) => SendError::Broken,
                Ok(Err(status)) if status.code() == Code::DeadlineExceeded => SendError::NoAnswer,
                // It says nothing about the first try.
                Ok(Err(status)) if is_refusal(&status) && unknown.is_some() => break,
                Ok(Err(status)) if is_refusal(&status) => return Err(SendError::Refused(status)),
                Ok(Err(status)) => SendError::Failed(status),
                Err(_) => SendError::NoAnswer,
            };
            match epoch.filter(|_| start.elapsed() < RETRY_FOR) {
                // Only the server of this epoch knows what became of it.
                Some(epoch) => unknown = Some(Unknown { epoch, error }),
                None => return Err(error),
            }
            let _ = tokio::time::timeout_at(deadline.min(Instant::now() + RETRY_PAUSE), link.changed()).await;
        }
        Err(unknown.map_or(SendError::ServerAway, |unknown| unknown.error))
    }
}

/// A try after which nobody here knows whether the message is in the room.
struct Unknown {
    epoch: AsciiMetadataValue,
    error: SendError,
}

impl Key {
    /// One that nobody has used.
    pub(super) fn new() -> Self {
        let digits = format!("{:032x}", fastrand::u128(..));
        // Digits always make a value.
        Self(AsciiMetadataValue::try_from(digits).unwrap_or_else(|_| AsciiMetadataValue::from_static("0")))
    }

    /// One that the caller has given, if it is one.
    pub(super) fn given(bytes: &[u8]) -> Option<Self> {
        proto::is_idempotency_key(bytes).then(|| AsciiMetadataValue::try_from(bytes).ok()).flatten().map(Self)
    }
}

/// Waits for a connection over which to send.
///
/// # Errors
/// What the server says to a client that it does not let in.
async fn ready_connection(link: &mut watch::Receiver<LinkState>) -> Result<(Connection, Epoch), Status> {
    loop {
        let state = link.borrow_and_update().clone();
        if let Some(ready) = state.connection(STREAM_PATIENCE) {
            return Ok(ready);
        }
        let changed = link.changed();
        match state {
            LinkState::NotAdmitted(status) => return Err(status),
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
        source = error.source();
    }
    net::http2_error(status).is_some_and(|error| {
        // A GOAWAY with NO_ERROR fails exactly those streams that the server says it has not looked at.
        let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
        let goodbye = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
        refused || goodbye
    })
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
            | Code::AlreadyExists
    )
}

/// Whether the status stands for a failure of the connection and was not sent by the server.
fn is_transport(status: &Status) -> bool {
    status.source().is_some()
}
