//! What is found in the records that must not be, and how it is told.

use std::fmt;

use crate::message::{Id, Time};

/// What must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The record goes on after this message, and has it not.
    Loss { reader: String, message: Id, time: Time, acknowledged: bool },
    /// The record goes from one life of the server to a later one, and nobody told the reader that something may be missing.
    UnflaggedGap { reader: String, last: Time, next: Time },
    /// The reader was told more often than anything can have been missing.
    FalseGap { reader: String, gaps: u64, lives: u64 },
    /// A reader got a message that it has.
    Repeat { reader: String, message: Id, time: Time },
    /// A message is in the room a second time.
    Twice { reader: String, message: Id, first: Time, again: Time },
    /// A message comes after a later one.
    Inversion { reader: String, message: Id, time: Time, after: Time },
    /// Two messages with one time.
    TwoAtOnce { reader: String, message: Id, other: Id, time: Time },
    /// Its sender was told another time, or a time that is before that of its message before.
    WrongTime { message: Id, told: Time, is: Time },
    /// Its sender was told that it is surely not in the room.
    Refused { reader: String, message: Id, time: Time },
    /// Nobody has sent this.
    Invented { reader: String, message: Id, time: Time },
    /// There are more epochs than lives of the room.
    NewEpoch { reader: String, epoch: String, epochs: usize, lives: usize },
    /// The reader has been in a later epoch.
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
