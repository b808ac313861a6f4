//! The errors of the backends.

use std::sync::Arc;

use thiserror::Error;

use crate::room::{FuturePosition, Rejection};

/// The reason why a message is not in the room, or why that is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PostError {
    /// The room rejects the message.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Redis answered with this error.
    #[error("Redis refuses the message ({0}): the message was not accepted")]
    Refused(Arc<str>),
    /// Redis is away.
    #[error("Redis is away: the message was not accepted")]
    Away,
    /// The messages that wait for Redis take too much memory.
    #[error("too many messages wait for Redis: the message was not accepted")]
    TooManyWaiting,
    /// Redis was given the message and has not answered. The sender may send it again under its
    /// key.
    #[error("Redis has not answered: the outcome is unknown")]
    Unknown,
    /// Redis has the message, but too few replicas have confirmed it in time. The sender may send
    /// it again under its key.
    #[error("{confirmed} of {required} replicas have confirmed the message: the outcome is unknown")]
    TooFewReplicas {
        /// Replicas that have confirmed the message.
        confirmed: usize,
        /// Replicas that must confirm it.
        required: usize,
    },
    /// Redis has the message, but has not confirmed in time that it is on disk. The sender may send
    /// it again under its key.
    #[error("Redis has not written the message to its disk yet: the outcome is unknown")]
    NotOnDisk,
}

/// The reason why a reader can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The reader wants to begin after a time that the room has not reached.
    #[error(transparent)]
    FuturePosition(#[from] FuturePosition),
    /// The room is closed.
    #[error("the server is shutting down")]
    Closed,
    /// Redis answered with this error, so the server can't know which messages are new.
    #[error("Redis refuses to say which messages are new ({0})")]
    Refused(Arc<str>),
    /// Redis is away, so the server can't know which messages are new.
    #[error("Redis is away: nobody can say which messages are new")]
    Away,
}
