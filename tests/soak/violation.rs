//! Violations in the records, and their reports.

use std::fmt;

use crate::message::{Id, Time};

/// A violation of a guarantee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The record continues after this message without it.
    Loss { reader: String, message: Id, time: Time, acknowledged: bool },
    /// The record continues in a later life of the server without a reported gap.
    UnflaggedGap { reader: String, last: Time, next: Time },
    /// The reader was told of more gaps than lives have ended.
    FalseGap { reader: String, gaps: u64, lives: u64 },
    /// A reader got a message twice.
    Repeat { reader: String, message: Id, time: Time },
    /// A message is in the room twice.
    Twice { reader: String, message: Id, first: Time, again: Time },
    /// A message follows a later one.
    Inversion { reader: String, message: Id, time: Time, after: Time },
    /// Two messages have the same time.
    TwoAtOnce { reader: String, message: Id, other: Id, time: Time },
    /// The answer had another time, or one before the previous message of its sender.
    WrongTime { message: Id, told: Time, is: Time },
    /// The sender was told that this message was not accepted.
    Refused { reader: String, message: Id, time: Time },
    /// No sender has sent this.
    Invented { reader: String, message: Id, time: Time },
    /// The room had more epochs than lives.
    NewEpoch { reader: String, epoch: String, epochs: usize, lives: usize },
    /// The reader returned to an earlier epoch.
    OldEpoch { reader: String, epoch: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss { reader, message, time, acknowledged } => {
                let known = if *acknowledged { "its sender was told so" } else { "other readers have it" };
                write!(
                    f,
                    "LOSS: {reader} has messages after {message} ({time}), and not that one, which is in the room: {known}"
                )
            }
            Self::UnflaggedGap { reader, last, next } => {
                write!(
                    f,
                    "UNFLAGGED GAP: {reader} went on from {last} to {next}, in a later life of the server, and was told of no gap"
                )
            }
            Self::FalseGap { reader, gaps, lives } => {
                write!(
                    f,
                    "FALSE GAP: {reader} was told of {gaps} gaps, and the server has ended {lives} times since its record began"
                )
            }
            Self::Repeat { reader, message, time } => {
                write!(f, "REPEAT: {reader} got {message} ({time}) a second time")
            }
            Self::Twice { reader, message, first, again } => {
                write!(f, "TWICE IN THE ROOM: {message} has the time {first}, and {again} says {reader}")
            }
            Self::Inversion { reader, message, time, after } => {
                write!(f, "INVERSION: {reader} got {message} ({time}) after it had come to {after}")
            }
            Self::TwoAtOnce { reader, message, other, time } => {
                write!(f, "TWO AT ONCE: {reader} got {message} with the time {time}, which is that of {other}")
            }
            Self::WrongTime { message, told, is } => {
                write!(f, "WRONG TIME: the sender of {message} was told {told}, where it has to do with {is}")
            }
            Self::Refused { reader, message, time } => {
                write!(
                    f,
                    "REFUSED, and there: {reader} got {message} ({time}), whose sender was told that it was not sent"
                )
            }
            Self::Invented { reader, message, time } => {
                write!(f, "INVENTED: {reader} got {message} ({time}), which nobody sent")
            }
            Self::NewEpoch { reader, epoch, epochs, lives } => {
                write!(f, "NEW EPOCH: {reader} is in {epoch}, the {epochs}. one of {lives} lives of the room")
            }
            Self::OldEpoch { reader, epoch } => {
                write!(f, "OLD EPOCH: {reader} is in {epoch} again, and has been in a later one")
            }
        }
    }
}
