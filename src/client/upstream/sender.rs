//! Sending: when, over which connection, and what a failure means.

use std::error::Error as _;
use std::time::Duration;

use prost_types::Timestamp;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Status};

use super::link_state::{Epoch, LinkState};
use crate::net::{self, Backpressure, CallError, Connection};
use crate::process::{NoRandomness, random};
use crate::proto::messenger_server_client::MessengerServerClient;
use crate::proto::{self, EPOCH, IDEMPOTENCY_KEY, NOT_ACCEPTED, SendMessageRequest};

/// How long a send waits for the stream's response headers, counted from when the stream was asked for.
pub(crate) const STREAM_PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait after a call that was not processed, unless the link changes before.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long after its first try a message whose fate is unknown may be sent again. Less than our own server remembers its key in
/// any case, which is 15 seconds.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// The idempotency key of one message.
#[derive(Debug, Clone)]
pub(crate) struct Key(AsciiMetadataValue);

/// A message was not sent, or nobody knows.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    /// The message is not in the room.
    #[error("the server is away: the message was not sent")]
    ServerAway,
    /// The server is there, and there was no room for the call. The message is not in the room.
    #[error("{0}: the message was not sent")]
    NoRoom(Backpressure),
    /// The server is there, and says why it takes no messages now. The message is not in the room.
    #[error("the message was not sent, the server says: {}", .0.message())]
    NotAccepted(Status),
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
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::ServerAway => "server_away",
            Self::NoRoom(_) => "no_room",
            Self::NotAccepted(_) => "not_accepted",
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
pub(crate) struct Sender {
    link: watch::Receiver<LinkState>,
    ending: watch::Receiver<bool>,
    deadline: Duration,
}

impl Sender {
    /// `ending` becomes true when the client shuts down; who still waits for a server then waits in vain.
    pub(crate) fn new(link: watch::Receiver<LinkState>, ending: watch::Receiver<bool>, deadline: Duration) -> Self {
        Self { link, ending, deadline }
    }

    /// Sends one message, waiting for the server if it is away. What is tried again is what surely never reached the room, and what a
    /// server that remembers `key` would recognise: no message is put there twice.
    ///
    /// # Errors
    /// What is known about the message: see [`SendError`].
    pub(crate) async fn send(&self, message: SendMessageRequest, key: Key) -> Result<Timestamp, SendError> {
        let start = Instant::now();
        let deadline = start + self.deadline;
        let (mut link, mut ending) = (self.link.clone(), self.ending.clone());
        let mut unknown: Option<Unknown> = None;
        let mut refused: Option<Status> = None;
        loop {
            let ready = tokio::select! {
                // First, because it nearly always is the one, and then no timer is set.
                biased;
                ready = ready_connection(&mut link) => ready.map_err(SendError::Refused),
                _ = ending.wait_for(|ending| *ending) => Err(SendError::ShuttingDown),
                () = tokio::time::sleep_until(deadline) => Err(self.not_sent(refused.take())),
            };
            let (connection, epoch) = match (ready, &unknown) {
                (Ok((_, epoch)), Some(unknown)) if epoch.as_ref() != Some(&unknown.epoch) => break,
                (Ok(ready), _) => ready,
                (Err(_), Some(_)) => break,
                (Err(error), None) => return Err(error),
            };
            let reserved = tokio::select! {
                biased;
                reserved = connection.reserve() => Ok(reserved),
                // There may be another connection, whose server has room. No loop without a pause: the link
                // makes one between two connections.
                Ok(()) = link.changed() => continue,
                _ = ending.wait_for(|ending| *ending) => Err(SendError::ShuttingDown),
                () = tokio::time::sleep_until(deadline) => Err(no_room(&connection)),
            };
            let time = deadline.saturating_duration_since(Instant::now());
            let reserved = match (reserved, &unknown) {
                // Room that comes at the deadline comes too late: the call would have no time, and nobody would
                // know what became of it.
                (Ok(_), None) if time.is_zero() => return Err(no_room(&connection)),
                (Ok(_), Some(_)) if time.is_zero() => break,
                (Ok(reserved), _) => reserved,
                (Err(_), Some(_)) => break,
                (Err(error), None) => return Err(error),
            };
            let mut request = tonic::Request::new(message.clone());
            request.set_timeout(time);
            request.metadata_mut().insert(IDEMPOTENCY_KEY, key.0.clone());
            if let Some(unknown) = &unknown {
                request.metadata_mut().insert(EPOCH, unknown.epoch.clone());
            }
            let origin = connection.origin();
            let mut client = MessengerServerClient::with_origin(reserved, origin);
            let error = match tokio::time::timeout_at(deadline, client.send_message(request)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner().send_time.unwrap_or_default()),
                Ok(Err(status)) if never_processed(&status) => {
                    // The link is about to learn of it; a state that stays the same must not make this a busy loop.
                    let _ = tokio::time::timeout_at(deadline.min(Instant::now() + RETRY_PAUSE), link.changed()).await;
                    refused = Some(status).filter(|status| status.metadata().contains_key(NOT_ACCEPTED));
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
                Err(_) => {
                    connection.doubt();
                    SendError::NoAnswer
                }
            };
            match epoch.filter(|_| start.elapsed() < RETRY_FOR) {
                // Only the server of this epoch knows what became of it.
                Some(epoch) => unknown = Some(Unknown { epoch, error }),
                None => return Err(error),
            }
            let _ = tokio::time::timeout_at(deadline.min(Instant::now() + RETRY_PAUSE), link.changed()).await;
            // A further try would have no time, and end at once: without this the loop would not rest.
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(unknown.map_or_else(|| self.not_sent(refused), |unknown| unknown.error))
    }

    /// Why nothing was sent before the deadline: what a server that is there says now, or has said last.
    fn not_sent(&self, refused: Option<Status>) -> SendError {
        let says = match &*self.link.borrow() {
            LinkState::Unavailable(status) => Some(status.clone()),
            state => refused.filter(|_| state.connection(Duration::ZERO).is_some()),
        };
        says.map_or(SendError::ServerAway, SendError::NotAccepted)
    }
}

/// A try after which nobody here knows whether the message is in the room.
struct Unknown {
    epoch: AsciiMetadataValue,
    error: SendError,
}

impl Key {
    /// One that nobody has used, and nobody can guess: whoever has the key of a message can take its place.
    #[allow(clippy::expect_used)] // Digits always make a value.
    pub(crate) fn new() -> Result<Self, NoRandomness> {
        let digits = format!("{:032x}", random()?);
        Ok(Self(AsciiMetadataValue::try_from(digits).expect("digits are a value")))
    }

    /// One that the caller has given, if it is one.
    pub(crate) fn given(bytes: &[u8]) -> Option<Self> {
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
                if matches!(tokio::time::timeout_at(since + STREAM_PATIENCE, changed).await, Ok(Err(_))) {
                    // As below.
                    std::future::pending::<()>().await;
                }
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

/// A call that waited for room over this connection until there was no more time.
fn no_room(connection: &Connection) -> SendError {
    connection.last_backpressure().map_or(SendError::ServerAway, SendError::NoRoom)
}

/// Whether the call surely did not reach the room: it never left this process, the server's HTTP/2 layer refused its stream (RFC 9113,
/// 8.7), or the server itself says so.
fn never_processed(status: &Status) -> bool {
    if status.metadata().contains_key(NOT_ACCEPTED) {
        return true;
    }
    let mut source = status.source();
    while let Some(error) = source {
        if matches!(error.downcast_ref(), Some(CallError::NotMade(_))) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_copies_of_a_machine_have_different_keys() {
        // What both copies have in memory is the same, the state of each generator included.
        let [one, other] = [(); 2].map(|()| {
            fastrand::seed(7);
            Key::new().expect("random numbers").0
        });
        assert_ne!(one, other);
    }
}
