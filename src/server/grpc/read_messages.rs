//! `ReadMessages`: streams the room's messages to one reader.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use http::request::Parts;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status};
use tracing::debug;

use super::deadline::{deadline, deadline_exceeded, within};
use super::metadata;
use super::request::{self, RequestError};
use super::response::{self, CallerGone};
use crate::backend::{Backend, OpenError};
use crate::net::Share;
use crate::process::test_panic;
use crate::proto::RESUME_AFTER;
use crate::room::{Frames, Opened, Reader, Start, StreamEnd};
use crate::server::metrics::{CountedCall, CountedReader};

/// The largest request, in bytes. `ReadMessages` has no fields, but a newer caller may send some.
const MAX_REQUEST: usize = 4096;

/// The most time in transit that the server adds to the caller's waiting time.
const MAX_TRANSIT: Duration = Duration::from_secs(1);

/// A stream of messages to one reader. It sends the room's bytes as they are, many messages in one
/// DATA frame. A gRPC library would encode each message again for each reader, and send each in a
/// frame of its own.
#[derive(Debug)]
pub(in crate::server) struct MessageStream {
    reader: Reader,
    response: SendStream<Bytes>,
    /// Completes at the caller's deadline, if it has one.
    deadline: Option<Pin<Box<Sleep>>>,
    call: CountedCall,
    counted: CountedReader,
}

/// How a stream ends.
enum ResponseEnd {
    /// With trailers, after everything that was sent.
    Status(Status),
    /// With a reset, which discards what the caller has not taken and frees its memory.
    Reset(Code, Reason),
    CallerGone,
}

/// Opens a stream. If the request is refused, this ends the call and returns `None`.
pub(super) async fn open(
    room: &Backend,
    share: Share,
    connected: Instant,
    mut call: CountedCall,
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
) -> Option<MessageStream> {
    let is_first_call = respond.stream_id().as_u32() == 1;
    let (opened, deadline) = match open_reader(room, share, connected, is_first_call, request).await {
        Ok(opened) => opened,
        Err(RequestError::Refused(status)) => {
            call.end(response::refuse(respond, status));
            return None;
        }
        Err(RequestError::CallerGone) => return None,
    };
    // The headers leave at once, before any message: a caller that has them gets every later
    // message.
    let mut headers = response::headers();
    metadata::insert_position(headers.headers_mut(), &opened);
    let response = respond.send_response(headers, false).ok()?;
    debug!(resumed = ?opened.resumed, "reader opened");
    let deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
    let counted = call.reader();
    Some(MessageStream { reader: opened.reader, response, deadline, call, counted })
}

/// Receives the request and opens a reader of the room. Returns the caller's deadline with it.
async fn open_reader(
    room: &Backend,
    share: Share,
    connected: Instant,
    is_first_call: bool,
    request: Request<RecvStream>,
) -> Result<(Opened, Option<Instant>), RequestError> {
    let (Parts { mut headers, .. }, body) = request.into_parts();
    let deadline = deadline(&headers)?;
    let mut start = metadata::start(&headers)?;
    let () = request::message(&mut headers, body, share, MAX_REQUEST, "the request is", deadline).await?;
    // The caller measured its wait when it had the server's first frame. So the request was on its
    // way for at most the age of the connection. The bound is for proxies, which send calls over
    // old connections.
    if let Start::Ago(waited) = &mut start
        && is_first_call
    {
        *waited += connected.elapsed().min(MAX_TRANSIT);
    }
    match within(deadline, room.open(start)).await {
        Ok(opened) => Ok((opened.map_err(Status::from)?, deadline)),
        Err(_) => Err(deadline_exceeded(" before the stream was open").into()),
    }
}

impl MessageStream {
    /// Sends the messages that are due. Completes when the stream has ended.
    pub(in crate::server) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let code = match ready!(self.poll_until_end(cx)) {
            ResponseEnd::Status(status) => {
                debug!(code = ?status.code(), "reader ended");
                // This fails only if the caller is gone.
                let _ = self.response.send_trailers(response::trailers(&status));
                Some(status.code())
            }
            ResponseEnd::Reset(code, reason) => {
                debug!(?reason, "reader reset");
                self.response.send_reset(reason);
                Some(code)
            }
            ResponseEnd::CallerGone => {
                debug!("reader left");
                None
            }
        };
        self.call.end(code);
        Poll::Ready(())
    }

    /// Resets the stream with gRPC's `INTERNAL`.
    pub(in crate::server) fn reset(&mut self) {
        self.response.send_reset(Reason::INTERNAL_ERROR);
        self.call.end(Some(Code::Internal));
    }

    fn poll_until_end(&mut self, cx: &mut Context<'_>) -> Poll<ResponseEnd> {
        if self.response.poll_reset(cx).is_ready() {
            return Poll::Ready(ResponseEnd::CallerGone);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(match response::poll_capacity(&mut self.response, cx) {
                Poll::Ready(_) if !self.reader.is_amid_message() => ResponseEnd::Status(deadline_exceeded("")),
                _ => ResponseEnd::Reset(Code::DeadlineExceeded, Reason::CANCEL),
            });
        }
        // h2 wakes a stream for many reasons. The reader has news only after a round of the room.
        if self.reader.is_waiting() {
            return Poll::Pending;
        }
        test_panic("reader");
        loop {
            match response::poll_capacity(&mut self.response, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(CallerGone)) => return Poll::Ready(ResponseEnd::CallerGone),
                Poll::Pending => return self.reader.poll_end(cx).map(ResponseEnd::without_capacity),
            }
            match self.reader.poll_read(cx) {
                Poll::Ready(Ok(Frames { bytes, more })) => {
                    self.counted.delivered(bytes.len());
                    if self.response.send_data(bytes, false).is_err() {
                        return Poll::Ready(ResponseEnd::CallerGone);
                    }
                    if !more {
                        return Poll::Pending;
                    }
                }
                Poll::Ready(Err(end)) if self.reader.is_amid_message() => {
                    return Poll::Ready(ResponseEnd::amid_message(end));
                }
                Poll::Ready(Err(end)) => return Poll::Ready(ResponseEnd::Status(end.into())),
                Poll::Pending => {
                    response::release_capacity(&mut self.response);
                    return Poll::Pending;
                }
            }
        }
    }
}

impl ResponseEnd {
    /// The end of a stream whose last message is incomplete. Trailers would not be valid after it.
    fn amid_message(end: StreamEnd) -> Self {
        match end {
            StreamEnd::FellBehind | StreamEnd::Missed => {
                Self::Reset(Code::ResourceExhausted, Reason::ENHANCE_YOUR_CALM)
            }
            StreamEnd::Closed | StreamEnd::NewEpoch | StreamEnd::Unavailable => {
                Self::Reset(Code::Internal, Reason::INTERNAL_ERROR)
            }
        }
    }

    /// The end of a stream whose caller takes no bytes.
    fn without_capacity(end: StreamEnd) -> Self {
        match end {
            // gRPC libraries report this reset as RESOURCE_EXHAUSTED.
            // https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors
            StreamEnd::FellBehind => Self::Reset(Code::ResourceExhausted, Reason::ENHANCE_YOUR_CALM),
            StreamEnd::Closed | StreamEnd::NewEpoch | StreamEnd::Missed | StreamEnd::Unavailable => {
                Self::Status(end.into())
            }
        }
    }
}

impl From<OpenError> for Status {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::FuturePosition(_) => Self::invalid_argument(format!("{RESUME_AFTER}: {error}")),
            OpenError::Closed | OpenError::Refused(_) | OpenError::Away => Self::unavailable(error.to_string()),
        }
    }
}

impl From<StreamEnd> for Status {
    fn from(end: StreamEnd) -> Self {
        match end {
            StreamEnd::FellBehind | StreamEnd::Missed => Self::resource_exhausted(end.to_string()),
            StreamEnd::Closed | StreamEnd::NewEpoch | StreamEnd::Unavailable => Self::unavailable(end.to_string()),
        }
    }
}
