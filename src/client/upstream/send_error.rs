//! The reasons why a message was not sent, and the meaning of a failed call for its message.

use std::error::Error as _;

use thiserror::Error;
use tonic::{Code, Status};

use crate::net::{self, Backpressure, CallError};
use crate::proto::NOT_ACCEPTED;

/// The reason why a message was not sent, or why that is unknown.
#[derive(Debug, Error)]
pub(in crate::client) enum SendError {
    /// The message is not in the room.
    #[error("the server is away: the message was not sent")]
    ServerAway,
    /// The server allowed no further call. The message is not in the room.
    #[error("{0}: the message was not sent")]
    NoRoom(Backpressure),
    /// The server takes no messages now, and says why. The message is not in the room.
    #[error("the message was not sent, the server says: {}", .0.message())]
    NotAccepted(Status),
    /// The server gave no answer before the deadline.
    #[error("the server gave no answer in time: the message may or may not be in the chat")]
    NoAnswer,
    /// The connection broke during the call.
    #[error("the connection to the server broke: the message may or may not be in the chat")]
    Broken,
    /// The client shuts down. The message is not in the room.
    #[error("the client is shutting down: the message was not sent")]
    ShuttingDown,
    /// The server rejected the message. The message is not in the room.
    #[error("the server refused the message: {}", .0.message())]
    Refused(Status),
    /// The server answered with a status that does not tell whether it accepted the message.
    #[error("the server failed ({}: {}): the message may or may not be in the chat", .0.code(), .0.message())]
    Failed(Status),
}

impl SendError {
    /// A short name, for metrics.
    pub(in crate::client) fn name(&self) -> &'static str {
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

/// The meaning of a failed call for its message.
pub(super) enum CallFailure {
    /// The message is not in the room, and may be sent again.
    NotProcessed(Status),
    /// The server rejected the message, and would reject it again.
    Refused(SendError),
    /// The message may be in the room.
    Unknown(SendError),
}

impl From<Status> for CallFailure {
    fn from(status: Status) -> Self {
        if was_not_processed(&status) {
            Self::NotProcessed(status)
        } else if status.source().is_some() {
            // The server did not send this status: the connection failed.
            Self::Unknown(SendError::Broken)
        } else if status.code() == Code::DeadlineExceeded {
            Self::Unknown(SendError::NoAnswer)
        } else if is_refusal(status.code()) {
            Self::Refused(SendError::Refused(status))
        } else {
            Self::Unknown(SendError::Failed(status))
        }
    }
}

/// Whether the message surely did not reach the room. Either it never left this process, or the
/// server's HTTP/2 layer refused its stream (RFC 9113, section 8.7), or the server says so.
fn was_not_processed(status: &Status) -> bool {
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
        let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // A GOAWAY with NO_ERROR fails exactly the streams that the server has not processed.
        let goodbye = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
        refused || goodbye
    })
}

/// Whether servers give this status before they do anything. With any other status the server may
/// have accepted the message first, and failed then.
///
/// See <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
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
