//! The one message of a request.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use h2::RecvStream;
use http::HeaderMap;
use prost::Message;
use tonic::Status;

use super::response::not_accepted;
use crate::net::Share;

/// How long a request may take from its headers to its end: a message of 4 MiB over a line of 2 Mbit/s.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A byte that says whether the message is compressed, and four of its length.
const PREFIX: usize = 5;

/// No message, with or without a status that says why.
#[derive(Debug)]
pub(super) enum NoMessage {
    /// The caller has cancelled, or its connection is gone: there is nobody to answer.
    CallerGone,
    Bad(Status),
}

/// What has come of a request so far.
pub(super) struct Received<'a> {
    headers: &'a HeaderMap,
    limit: usize,
    subject: &'a str,
    bytes: Bytes,
}

/// Waits for the message of a call that takes exactly one, of at most `limit` bytes; meanwhile what has come of it counts in `share`.
/// `subject` is what is too long in one that is.
///
/// # Errors
/// The status of a request that is no such message: `INVALID_ARGUMENT` with the name of the field that does not decode,
/// `RESOURCE_EXHAUSTED` over the limit (as soon as its length is known), `UNIMPLEMENTED` for compression and for another number of
/// messages, `INTERNAL` for broken framing, `DEADLINE_EXCEEDED` for one that does not come to its end, and `UNAVAILABLE` when too much
/// is half here.
pub(super) async fn message<M: Message + Default>(
    headers: &HeaderMap,
    body: RecvStream,
    share: Share,
    limit: usize,
    subject: &str,
) -> Result<M, NoMessage> {
    let received = receive(Received::new(headers, limit, subject), body, share);
    tokio::time::timeout(TIMEOUT, received).await.unwrap_or_else(|_| {
        let seconds = TIMEOUT.as_secs();
        Err(Status::deadline_exceeded(format!("the request did not come to its end within {seconds} s")).into())
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
            share.cover(received.bytes.len()).map_err(|exhausted| not_accepted(&exhausted))?;
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
    pub(super) fn new(headers: &'a HeaderMap, limit: usize, subject: &'a str) -> Self {
        Self { headers, limit, subject, bytes: Bytes::new() }
    }

    /// The next bytes, wherever they were cut.
    pub(super) fn add(&mut self, chunk: Bytes) -> Result<(), Status> {
        self.bytes = join(std::mem::take(&mut self.bytes), chunk);
        match self.length()? {
            Some(length) if self.bytes.len() > PREFIX + length => Err(one_message_only()),
            _ => Ok(()),
        }
    }

    /// The message, when nothing more comes.
    pub(super) fn message<M: Message + Default>(mut self) -> Result<M, Status> {
        match self.length()? {
            Some(length) if self.bytes.len() == PREFIX + length => {}
            None if self.bytes.is_empty() => return Err(one_message_only()),
            _ => return Err(Status::internal("the request ends in the middle of its message")),
        }
        self.bytes.advance(PREFIX);
        M::decode(self.bytes).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    /// The length of the message, once its prefix is there.
    fn length(&self) -> Result<Option<usize>, Status> {
        let Some(&[compressed, a, b, c, d]) = self.bytes.first_chunk::<PREFIX>() else { return Ok(None) };
        match compressed {
            0 => {}
            1 => {
                let encoding = self.headers.get("grpc-encoding");
                return Err(Status::unimplemented(format!("no compression is understood here, not {encoding:?}")));
            }
            _ => return Err(Status::internal(format!("a message can't begin with byte {compressed}"))),
        }
        let (length, limit) = (u32::from_be_bytes([a, b, c, d]) as usize, self.limit);
        if length > limit {
            let subject = self.subject;
            return Err(Status::resource_exhausted(format!(
                "{subject} too long: {length} bytes, the limit is {limit}"
            )));
        }
        Ok(Some(length))
    }
}

/// Both as one. Nearly always the whole request is one chunk, and nothing is copied.
fn join(received: Bytes, chunk: Bytes) -> Bytes {
    if received.is_empty() {
        return chunk;
    }
    let mut both = BytesMut::from(received);
    both.extend_from_slice(&chunk);
    both.freeze()
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
