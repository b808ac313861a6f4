//! The point at which a stream starts, as the client requests it and as the server confirms it.

use std::time::Duration;

use prost_types::Timestamp;
use tokio::time::Instant;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use crate::proto::{EPOCH, POSITION, RESUME_AFTER, RESUMED, WAITING, WAITING_MAX};
use crate::send_time::{SendTime, rfc3339};

/// The first message that the client wants from the next stream.
#[derive(Debug)]
pub(super) enum StreamStart {
    /// The first message that the server accepted after the client started, at this moment.
    Since(Instant),
    /// The first message after this position: the postbox got everything up to it.
    After { epoch: AsciiMetadataValue, position: Timestamp },
    /// The first message that the server accepts after the stream has opened.
    Now,
}

/// The response headers of a stream from a server.
pub(super) struct StreamHeaders {
    /// The epoch of the stream. Servers of other implementations send none.
    pub(super) epoch: Option<AsciiMetadataValue>,
    /// The stream has every message after this time.
    pub(super) position: Option<SendTime>,
    /// Whether the stream starts where the client asked; `None` if the client did not ask, or the
    /// server does not know how to.
    pub(super) resumed: Option<bool>,
}

impl StreamStart {
    /// Adds the starting point to the metadata of a `ReadMessages` call.
    pub(super) fn write_to(&self, metadata: &mut MetadataMap) {
        match self {
            Self::Since(start) => {
                // The client measures this after the server's first frame has arrived. So the
                // server knows that the client started no earlier than this long before the frame.
                if let Ok(waiting) = whole_millis(start.elapsed()).parse() {
                    metadata.insert(WAITING, waiting);
                }
            }
            Self::After { epoch, position } => {
                if let Ok(position) = rfc3339(position).to_string().parse() {
                    metadata.insert(EPOCH, epoch.clone());
                    metadata.insert(RESUME_AFTER, position);
                }
            }
            Self::Now => {}
        }
    }

    /// Notes that the stream has brought a message with this `sendTime`.
    pub(super) fn advance(&mut self, send_time: Option<Timestamp>) {
        if let (Self::After { position, .. }, Some(send_time)) = (self, send_time) {
            *position = send_time;
        }
    }
}

impl StreamHeaders {
    pub(super) fn read(metadata: &MetadataMap) -> Self {
        let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
        Self {
            epoch: metadata.get(EPOCH).cloned(),
            position: text(POSITION).and_then(|position| position.parse().ok()),
            resumed: metadata.get(RESUMED).map(|resumed| resumed == "true"),
        }
    }

    /// The point at which the next stream starts if this one ends before its first message.
    pub(super) fn start(&self) -> StreamStart {
        match (&self.epoch, self.position) {
            (Some(epoch), Some(position)) => StreamStart::After { epoch: epoch.clone(), position: position.into() },
            _ => StreamStart::Now,
        }
    }
}

/// A duration in milliseconds, rounded up: the server must not start too late.
fn whole_millis(time: Duration) -> String {
    time.as_millis().saturating_add(1).min(WAITING_MAX.into()).to_string()
}
