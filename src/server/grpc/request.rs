//! The one message of a request.
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

use super::response::{not_accepted, surely_nothing_done};
use crate::net::{PartialBody, Share};
use crate::proto::frame::{PREFIX_LEN, Prefix};
use crate::proto::{EPOCH, IDEMPOTENCY_KEY};
use crate::server::grpc::deadline::passed;

/// How long a request may take from its headers to its end: a message of 4 MiB over a line of 2 Mbit/s.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How a message is compressed that is.
const ENCODING: &str = "grpc-encoding";
/// What gRPC calls no compression.
const IDENTITY: &str = "identity";

/// No message, with or without a status that says why.
#[derive(Debug)]
pub(crate) enum NoMessage {
    /// The caller has cancelled, or its connection is gone: there is nobody to answer.
    CallerGone,
    Bad(Status),
}

/// What has come of a request so far.
pub(crate) struct Received<'a> {
    headers: &'a mut HeaderMap,
    limit: usize,
    subject: &'a str,
    /// The only piece so far, as it came.
    piece: Bytes,
    /// All pieces, once there are more, or more have to be waited for.
    gathered: PartialBody,
    /// The bytes of the headers, where they are copies.
    own_headers: Option<usize>,
}

/// Waits for the message of a call that takes exactly one, of at most `limit` bytes; meanwhile what has come of it counts in `share`.
/// `subject` is what is too long in one that is. Of the headers, those that belong to a message are still there afterwards.
///
/// # Errors
/// The status of a request that is no such message: `INVALID_ARGUMENT` with the name of the field that does not decode,
/// `RESOURCE_EXHAUSTED` over the limit (as soon as its length is known), `UNIMPLEMENTED` for compression and for another number of
/// messages, `INTERNAL` for broken framing, `DEADLINE_EXCEEDED` for one that does not come to its end (before the `deadline` of its
/// caller, if it has one), and `UNAVAILABLE` when too much is half here.
pub(crate) async fn message<M: Message + Default>(
    headers: &mut HeaderMap,
    body: RecvStream,
    share: Share,
    limit: usize,
    subject: &str,
    deadline: Option<Instant>,
) -> Result<M, NoMessage> {
    let received = receive(Received::new(headers, limit, subject), body, share);
    let end = Instant::now() + TIMEOUT;
    let first = deadline.map_or(end, |deadline| deadline.min(end));
    timeout_at(first, received).await.unwrap_or_else(|_| {
        let status = if first < end {
            passed(": the request did not come to its end before")
        } else {
            Status::deadline_exceeded(format!("the request did not come to its end within {} s", TIMEOUT.as_secs()))
        };
        Err(surely_nothing_done(status).into())
    })
}

async fn receive<M: Message + Default>(
    mut received: Received<'_>,
    mut body: RecvStream,
    mut share: Share,
) -> Result<M, NoMessage> {
    loop {
        let chunk = if let Some(chunk) = body.data().now_or_never() {
            chunk
        } else {
            // Only who has to be waited for takes of the budget: while others waste it, small messages still go through.
            share.cover(received.hold()).map_err(|exhausted| not_accepted(&exhausted))?;
            body.data().await
        };
        let Some(chunk) = chunk.transpose().map_err(|_| NoMessage::CallerGone)? else {
            return Ok(received.message()?);
        };
        // It fails only for more than has come.
        let _ = body.flow_control().release_capacity(chunk.len());
        received.add(chunk)?;
    }
}

impl<'a> Received<'a> {
    pub(crate) fn new(headers: &'a mut HeaderMap, limit: usize, subject: &'a str) -> Self {
        Self { headers, limit, subject, piece: Bytes::new(), gathered: PartialBody::default(), own_headers: None }
    }

    fn bytes(&self) -> &[u8] {
        if self.piece.is_empty() { self.gathered.bytes() } else { &self.piece }
    }

    /// Copies what has come, so that it holds no buffer of the connection, and gives the bytes that it takes.
    fn hold(&mut self) -> usize {
        let headers = *self.own_headers.get_or_insert_with(|| own(self.headers));
        self.gather();
        headers + self.gathered.held()
    }

    fn gather(&mut self) {
        let piece = std::mem::take(&mut self.piece);
        self.gathered.add(&piece, piece.len());
    }

    /// The next bytes, wherever they were cut.
    pub(crate) fn add(&mut self, chunk: Bytes) -> Result<(), Status> {
        // Nearly always the whole request is one piece, and nothing is copied.
        if self.bytes().is_empty() {
            self.piece = chunk;
        } else {
            self.gather();
            let most = self.length()?.map_or(usize::MAX, |length| PREFIX_LEN + length);
            self.gathered.add(&chunk, most);
        }
        match self.length()? {
            Some(length) if self.bytes().len() > PREFIX_LEN + length => Err(one_message_only()),
            _ => Ok(()),
        }
    }

    /// The message, when nothing more comes.
    pub(crate) fn message<M: Message + Default>(self) -> Result<M, Status> {
        let bytes = self.bytes();
        match self.length()? {
            Some(length) if bytes.len() == PREFIX_LEN + length => {}
            None if bytes.is_empty() => return Err(one_message_only()),
            _ => return Err(Status::internal("the request ends in the middle of its message")),
        }
        M::decode(&bytes[PREFIX_LEN..]).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    /// The length of the message, once its prefix is there.
    fn length(&self) -> Result<Option<usize>, Status> {
        let Some(Prefix { compressed, length }) = Prefix::read(self.bytes()) else { return Ok(None) };
        match compressed {
            0 => {}
            1 => return Err(compressed_by(self.headers.get(ENCODING).map(HeaderValue::as_bytes))),
            _ => return Err(Status::internal(format!("a message can't begin with byte {compressed}"))),
        }
        let limit = self.limit;
        if length > limit {
            let subject = self.subject;
            return Err(Status::resource_exhausted(format!(
                "{subject} too long: {length} bytes, the limit is {limit}"
            )));
        }
        Ok(Some(length))
    }
}

/// Leaves of the headers only what is asked for later, as copies: those that came are pieces of the buffer that they were
/// read into. Gives how many bytes they have.
fn own(headers: &mut HeaderMap) -> usize {
    let mut own = HeaderMap::new();
    for name in [ENCODING, IDEMPOTENCY_KEY, EPOCH] {
        // A value that came is always one.
        if let Some(Ok(value)) = headers.get(name).map(|value| HeaderValue::from_bytes(value.as_bytes())) {
            own.insert(name, value);
        }
    }
    *headers = own;
    headers.values().map(HeaderValue::len).sum()
}

/// Why a message that is compressed is not taken. <https://github.com/grpc/grpc/blob/master/doc/compression.md>
fn compressed_by(encoding: Option<&[u8]>) -> Status {
    let Some(encoding) = encoding.filter(|encoding| *encoding != IDENTITY.as_bytes()) else {
        return Status::internal("the message has the compressed flag, and grpc-encoding names no compression");
    };
    let mut status = Status::unimplemented(format!(
        "the message is compressed with \"{}\", and the only grpc-encoding that is understood here is {IDENTITY}",
        encoding.escape_ascii()
    ));
    status.metadata_mut().insert("grpc-accept-encoding", MetadataValue::from_static(IDENTITY));
    status
}

fn one_message_only() -> Status {
    // The code that gRPC has for a "request cardinality violation".
    // https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
    Status::unimplemented("the call takes exactly one message")
}

impl From<Status> for NoMessage {
    fn from(status: Status) -> Self {
        Self::Bad(status)
    }
}
