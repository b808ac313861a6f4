//! Receiving the one message of a request.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::metadata::MetadataValue;

use super::deadline::deadline_exceeded;
use super::response::{not_accepted, unavailable};
use crate::net::{PartialBody, Share};
use crate::proto::frame::{PREFIX_LEN, Prefix};
use crate::proto::{EPOCH, IDEMPOTENCY_KEY};

/// How long a request may take from its headers to its end: long enough for 4 MiB at 2 Mbit/s.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The header that names the compression of messages.
const ENCODING: &str = "grpc-encoding";
/// The value of [`ENCODING`] for no compression.
const IDENTITY: &str = "identity";

/// The reason why a request has no message.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The caller cancelled the call, or its connection is gone, so nobody waits for an answer.
    CallerGone,
    /// The call ends with this status.
    Refused(Status),
}

/// The part of a request that has arrived.
pub(super) struct PartialRequest<'a> {
    headers: &'a mut HeaderMap,
    limit: usize,
    subject: &'a str,
    /// The body, while it is one piece. It shares a buffer with the connection.
    piece: Bytes,
    /// The body as a copy, once there is more than one piece or the rest is late.
    gathered: PartialBody,
    /// The size of the copied headers. `None` before they are copied.
    copied_headers: Option<usize>,
}

/// Receives the message of a call that takes exactly one, of at most `limit` bytes. An incomplete
/// message counts against `share`. `subject` begins the error text for a message over the limit.
/// Afterwards `headers` may have only those that belong to a message.
///
/// # Errors
/// - `INVALID_ARGUMENT`, which names the field that does not decode
/// - `RESOURCE_EXHAUSTED` over the limit, as soon as the length is known
/// - `UNIMPLEMENTED` for a compressed message, and unless there is exactly one message
/// - `INTERNAL` for broken framing
/// - `DEADLINE_EXCEEDED` if the message is late
/// - `UNAVAILABLE` if incomplete messages take too much memory
pub(super) async fn message<M: Message + Default>(
    headers: &mut HeaderMap,
    body: RecvStream,
    share: Share,
    limit: usize,
    subject: &str,
    deadline: Option<Instant>,
) -> Result<M, RequestError> {
    let received = receive(PartialRequest::new(headers, limit, subject), body, share);
    let timeout = Instant::now() + TIMEOUT;
    let first = deadline.map_or(timeout, |deadline| deadline.min(timeout));
    timeout_at(first, received).await.unwrap_or_else(|_| {
        let status = if first < timeout {
            deadline_exceeded(": the request was not received completely before")
        } else {
            let seconds = TIMEOUT.as_secs();
            Status::deadline_exceeded(format!("the request was not received completely within {seconds} s"))
        };
        Err(not_accepted(status).into())
    })
}

async fn receive<M: Message + Default>(
    mut request: PartialRequest<'_>,
    mut body: RecvStream,
    mut share: Share,
) -> Result<M, RequestError> {
    loop {
        let chunk = if let Some(chunk) = body.data().now_or_never() {
            chunk
        } else {
            // Only late requests count against the budget, so small messages get through while
            // others use it up.
            share.cover(request.copy()).map_err(|exhausted| unavailable(&exhausted))?;
            body.data().await
        };
        let Some(chunk) = chunk.transpose().map_err(|_| RequestError::CallerGone)? else {
            return Ok(request.message()?);
        };
        // This fails only for more bytes than have arrived.
        let _ = body.flow_control().release_capacity(chunk.len());
        request.add(chunk)?;
    }
}

impl<'a> PartialRequest<'a> {
    pub(super) fn new(headers: &'a mut HeaderMap, limit: usize, subject: &'a str) -> Self {
        Self { headers, limit, subject, piece: Bytes::new(), gathered: PartialBody::default(), copied_headers: None }
    }

    fn bytes(&self) -> &[u8] {
        if self.piece.is_empty() { self.gathered.bytes() } else { &self.piece }
    }

    /// Copies what has arrived, so that it pins no buffer of the connection, and returns the bytes
    /// of the copies.
    fn copy(&mut self) -> usize {
        let headers = *self.copied_headers.get_or_insert_with(|| copy_headers(self.headers));
        self.gather();
        headers + self.gathered.held()
    }

    fn gather(&mut self) {
        let piece = std::mem::take(&mut self.piece);
        self.gathered.add(&piece, piece.len());
    }

    /// Adds the next bytes of the body.
    pub(super) fn add(&mut self, chunk: Bytes) -> Result<(), Status> {
        // Nearly every request is one piece, which is not copied.
        if self.bytes().is_empty() {
            self.piece = chunk;
        } else {
            self.gather();
            let most = self.length()?.map_or(usize::MAX, |length| PREFIX_LEN + length);
            self.gathered.add(&chunk, most);
        }
        match self.length()? {
            Some(length) if self.bytes().len() > PREFIX_LEN + length => Err(not_one_message()),
            _ => Ok(()),
        }
    }

    /// Decodes the message of a body that has ended.
    pub(super) fn message<M: Message + Default>(self) -> Result<M, Status> {
        let bytes = self.bytes();
        match self.length()? {
            Some(length) if bytes.len() == PREFIX_LEN + length => {}
            None if bytes.is_empty() => return Err(not_one_message()),
            _ => return Err(Status::internal("the request ends in the middle of its message")),
        }
        M::decode(&bytes[PREFIX_LEN..]).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    /// The length of the message, once its prefix has arrived.
    fn length(&self) -> Result<Option<usize>, Status> {
        let (limit, subject) = (self.limit, self.subject);
        match Prefix::read(self.bytes()) {
            None => Ok(None),
            Some(Prefix { compressed: 0, length }) if length <= limit => Ok(Some(length)),
            Some(Prefix { compressed: 0, length }) => {
                Err(Status::resource_exhausted(format!("{subject} too long: {length} bytes, the limit is {limit}")))
            }
            Some(Prefix { compressed: 1, .. }) => Err(compressed(self.headers.get(ENCODING))),
            Some(Prefix { compressed, .. }) => {
                Err(Status::internal(format!("the first byte of a message is {compressed}: must be 0 or 1")))
            }
        }
    }
}

/// Replaces the headers, which share a buffer with the connection, by copies of those that are
/// needed later. Returns the bytes of the copies.
fn copy_headers(headers: &mut HeaderMap) -> usize {
    let mut copies = HeaderMap::new();
    for name in [ENCODING, IDEMPOTENCY_KEY, EPOCH] {
        // A header value can always be copied.
        if let Some(Ok(value)) = headers.get(name).map(|value| HeaderValue::from_bytes(value.as_bytes())) {
            copies.insert(name, value);
        }
    }
    *headers = copies;
    headers.values().map(HeaderValue::len).sum()
}

/// The status for a compressed message.
/// <https://github.com/grpc/grpc/blob/master/doc/compression.md>
fn compressed(encoding: Option<&HeaderValue>) -> Status {
    let Some(encoding) = encoding.filter(|encoding| *encoding != IDENTITY) else {
        return Status::internal("the message has the compressed flag, and grpc-encoding names no compression");
    };
    let mut status = Status::unimplemented(format!(
        "the message is compressed with \"{}\": grpc-encoding must be {IDENTITY}",
        encoding.as_bytes().escape_ascii()
    ));
    status.metadata_mut().insert("grpc-accept-encoding", MetadataValue::from_static(IDENTITY));
    status
}

/// gRPC prescribes this code for a "request cardinality violation".
/// <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
fn not_one_message() -> Status {
    Status::unimplemented("the call takes exactly one message")
}

impl From<Status> for RequestError {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}
