//! What goes back: heads, statuses, and when a stream has room for more.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::proto::NOT_ACCEPTED;

/// The caller has cancelled, or its connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallerGone;

/// The head of a response that messages follow.
pub(crate) fn head() -> Response<()> {
    let mut head = Response::new(());
    head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head
}

/// The end of a response.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    // A header value can refuse a message with control characters; ours have none, and the code alone is a status too.
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
}

/// The status of a call that may be made again: it has surely done nothing.
pub(crate) fn not_accepted(reason: &impl ToString) -> Status {
    surely_nothing_done(Status::unavailable(reason.to_string()))
}

/// Says with a status that the call has surely done nothing.
pub(crate) fn surely_nothing_done(mut status: Status) -> Status {
    status.metadata_mut().insert(NOT_ACCEPTED, MetadataValue::from_static("true"));
    status
}

/// Answers a call with nothing but a status. Gives its code, unless the caller is gone.
pub(crate) fn refuse(respond: &mut SendResponse<Bytes>, status: Status) -> Option<Code> {
    let code = status.code();
    respond.send_response(status.into_http(), true).ok().map(|_| code)
}

/// Lets go of what [`poll_room`] keeps back of the connection's flow control, where nothing was sent: it is the same for all calls.
pub(crate) fn release_room(stream: &mut SendStream<Bytes>) {
    stream.reserve_capacity(0);
}

/// Waits until the caller's flow control takes at least one byte more. A piece of any size may then be sent as a whole: what does not
/// fit yet is kept, and this waits until it has left.
pub(crate) fn poll_room(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Result<(), CallerGone>> {
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(CallerGone)),
        }
    }
    Poll::Ready(Ok(()))
}
