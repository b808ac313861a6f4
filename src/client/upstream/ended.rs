//! Why a stream from the server is over.

use std::error::Error as _;

use thiserror::Error;
use tonic::Status;

use crate::net::{self, ConnectError, Connection, Unresponsive};

/// Why a stream is over.
#[derive(Debug, Error)]
pub(crate) enum Ended {
    #[error(transparent)]
    NoConnection(#[from] ConnectError),
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] Status),
    #[error("the server ended it")]
    Cleanly,
    #[error("fell behind: the server no longer keeps the messages that come next")]
    FellBehind,
    #[error("the connection takes no more calls")]
    Retired,
    #[error("the server is silent, and answers no ping")]
    Silent,
    #[error("the server takes nothing of what is sent to it")]
    Stuck,
    #[error("the server answers no calls")]
    Hangs,
}

impl Ended {
    /// What a status that ends the stream stands for, on a connection that may have been given up.
    pub(crate) fn of(status: Status, connection: &Connection) -> Self {
        match connection.unresponsive() {
            Some(Unresponsive::Silent) => Self::Silent,
            Some(Unresponsive::Stuck) => Self::Stuck,
            None => status.into(),
        }
    }

    /// What it is, in a word or a few.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NoConnection(_) => "no connection",
            Self::Status(status) if status.source().is_some() => "connection lost",
            Self::Status(status) => status.code().description(),
            Self::Cleanly => "ended by the server",
            Self::FellBehind => "fell behind",
            Self::Retired => "connection retired",
            Self::Silent => "server silent",
            Self::Stuck => "server stuck",
            Self::Hangs => "server hangs",
        }
    }
}

/// Whether the server itself has said so, in words.
pub(crate) fn is_said(status: &Status) -> bool {
    status.source().is_none() && !status.message().is_empty()
}

/// Whether the server has ended a stream which it could not even tell so.
pub(crate) fn is_too_slow(status: &Status) -> bool {
    net::http2_error(status).and_then(h2::Error::reason) == Some(h2::Reason::ENHANCE_YOUR_CALM)
}
