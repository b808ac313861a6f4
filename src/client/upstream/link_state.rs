//! The state of the link, as sends, `GET /ready` and the page see it.

use std::sync::Arc;

use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Status};

use super::link_end::LinkEnd;
use crate::net::Connection;

/// The state of the stream from the server.
#[derive(Debug, Clone)]
pub(in crate::client) enum LinkState {
    /// There is no stream, and no reason that would help a caller.
    Down,
    /// The client has called `ReadMessages` and waits for the response headers.
    Opening,
    /// Every message that the server accepts from now on arrives through the stream.
    Open(Arc<OpenStream>),
    /// The server answered `ReadMessages` with this status and a message for people.
    Unavailable(Status),
    /// The server rejected the client's credentials. It would reject a message too.
    Unauthenticated(Status),
}

/// An open stream, whose connection takes sends too.
#[derive(Debug)]
pub(in crate::client) struct OpenStream {
    pub(in crate::client) connection: Connection,
    /// The epoch that the server named. Servers of other implementations name none: they know
    /// neither positions nor idempotency keys.
    pub(super) epoch: Option<AsciiMetadataValue>,
}

impl LinkState {
    /// The open stream, if there is one.
    pub(in crate::client) fn open(&self) -> Option<&Arc<OpenStream>> {
        match self {
            Self::Open(stream) => Some(stream),
            _ => None,
        }
    }

    /// The state after a stream has ended, which `was_open` or failed to open.
    pub(super) fn after(end: &LinkEnd, was_open: bool) -> Self {
        match end {
            LinkEnd::Status(status) if status.code() == Code::Unauthenticated => Self::Unauthenticated(status.clone()),
            LinkEnd::Status(status) if !was_open && end.is_from_server() && !status.message().is_empty() => {
                Self::Unavailable(status.clone())
            }
            _ => Self::Down,
        }
    }
}
