//! Parts of a response: headers, trailers, statuses, and flow control.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::proto::NOT_ACCEPTED;

/// The caller cancelled the call, or its connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallerGone;

/// The headers of a response that has messages.
pub(super) fn headers() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The trailers of a response that has sent its headers.
pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    // A message with control characters is no header value. Ours have none; without its message the
    // code is still a status.
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
}

/// `UNAVAILABLE` for a message that is certainly not in the room.
pub(super) fn unavailable(reason: &impl ToString) -> Status {
    not_accepted(Status::unavailable(reason.to_string()))
}

/// Adds the trailer [`NOT_ACCEPTED`] to a status.
pub(super) fn not_accepted(mut status: Status) -> Status {
    status.metadata_mut().insert(NOT_ACCEPTED, MetadataValue::from_static("true"));
    status
}

/// Answers a call with a status and nothing else. Returns the code, or `None` if the caller is
/// gone.
pub(super) fn refuse(respond: &mut SendResponse<Bytes>, status: Status) -> Option<Code> {
    let code = status.code();
    respond.send_response(status.into_http(), true).ok().map(|_| code)
}

/// Waits until the caller's flow control allows at least one more byte. The caller of this function
/// may then send a piece of any size: h2 keeps the part that does not fit, and the next call of
/// this function waits until that part has left.
pub(super) fn poll_capacity(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Result<(), CallerGone>> {
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(CallerGone)),
        }
    }
    Poll::Ready(Ok(()))
}

/// Returns unused capacity from [`poll_capacity`] to the connection, which shares it among all
/// calls.
pub(super) fn release_capacity(stream: &mut SendStream<Bytes>) {
    stream.reserve_capacity(0);
}
