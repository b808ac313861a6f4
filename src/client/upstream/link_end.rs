//! The reasons for which a stream from the server ends.

use std::error::Error as _;

use thiserror::Error;
use tonic::Status;

use crate::net::{self, ConnectError, Connection, Unresponsive};

/// The reason why a stream ended, or could not be opened.
#[derive(Debug, Error)]
pub(super) enum LinkEnd {
    #[error(transparent)]
    NoConnection(#[from] ConnectError),
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] Status),
    #[error("the server ended the stream")]
    Cleanly,
    #[error("fell behind: the server no longer keeps the next messages")]
    FellBehind,
    #[error("the connection takes no more calls")]
    Retired,
    #[error("the server is silent and answers no ping")]
    Silent,
    #[error("the server reads nothing of what the client sends")]
    Stuck,
    #[error("the server answers no calls")]
    Hangs,
}

impl LinkEnd {
    /// The reason for a status that ended a stream over `connection`.
    pub(super) fn from_status(status: Status, connection: &Connection) -> Self {
        match connection.unresponsive() {
            Some(Unresponsive::Silent) => Self::Silent,
            Some(Unresponsive::Stuck) => Self::Stuck,
            None => Self::Status(status),
        }
    }

    /// A short name, for metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::NoConnection(_) => "no connection",
            Self::Status(_) if !self.is_from_server() => "connection lost",
            Self::Status(status) => status.code().description(),
            Self::Cleanly => "ended by the server",
            Self::FellBehind => "fell behind",
            Self::Retired => "connection retired",
            Self::Silent => "server silent",
            Self::Stuck => "server stuck",
            Self::Hangs => "server hangs",
        }
    }

    /// Whether the server sent this status. tonic makes one for a broken connection too.
    pub(super) fn is_from_server(&self) -> bool {
        matches!(self, Self::Status(status) if status.source().is_none())
    }

    /// Whether the server hangs: it takes connections and does no work.
    pub(super) fn is_hang(&self) -> bool {
        matches!(self, Self::Silent | Self::Stuck | Self::Hangs)
    }
}

/// Whether the server reset the stream of a slow reader. Such a reader has no flow-control window
/// left for trailers with a status.
pub(super) fn is_too_slow(status: &Status) -> bool {
    net::http2_error(status).and_then(h2::Error::reason) == Some(h2::Reason::ENHANCE_YOUR_CALM)
}
