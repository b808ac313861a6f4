//! Why a message is not in the room, or nobody knows whether it is.

use thiserror::Error;

use crate::backend::redis::Refusal;
use crate::room::Epoch;
use crate::send_time::ClockError;

/// The room takes no more messages: what it was asked to post is in nobody's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the server is shutting down: the message was not accepted")]
pub struct Closed;

/// Why a message with a key is not in the room.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotPosted {
    /// The room takes no more messages.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The clock shows no time that a message can have.
    #[error("{0}; the message was not accepted")]
    Clock(#[from] ClockError),
    /// The key has been used for another message.
    #[error("another message has come with this idempotency key")]
    KeyTaken,
    /// The caller means another life of the room than this one.
    #[error("the room of that epoch is over, and now it is {0}: the message was not accepted")]
    OtherEpoch(Epoch),
    /// The engine that keeps the room is there, and refuses messages.
    #[error("the engine that keeps the room refuses it ({0}): the message was not accepted")]
    Refused(Refusal),
    /// The engine that keeps the room is not there.
    #[error("the engine that keeps the room is away: the message was not accepted")]
    Away,
    /// More messages wait for the engine than are kept.
    #[error("too many messages wait for the engine that keeps the room: the message was not accepted")]
    TooManyWaiting,
    /// The engine was given the message and has not said what became of it. Sent again under its key, it is in the room once.
    #[error("the engine that keeps the room gave no answer: the outcome is unknown")]
    Unknown,
    /// The engine has the message, and too few of its replicas do in time. Sent again under its key, it is in the room once.
    #[error("{0} of {1} replicas have confirmed the message: the outcome is unknown")]
    TooFewReplicas(usize, usize),
    /// The engine has the message, and has not said in time that it is on its disk. Sent again under its key, it is in the room once.
    #[error("the message is not on the engine's disk yet: the outcome is unknown")]
    NotOnDisk,
    /// So many messages with keys have come in the last moments that no further key could be remembered.
    #[error("too many messages with idempotency keys at once: the message was not accepted")]
    TooManyKeys,
}
