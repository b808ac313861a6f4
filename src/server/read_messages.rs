//! `ReadMessages`: a reader of the room as the body of an endless response.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use tokio::time::Sleep;
use tonic::server::ServerStreamingService;
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::room::{End, Reader};

/// The call as far as tonic's [`tonic::server::Grpc::server_streaming`] handles it: the request is checked and decoded, the
/// response's headers are made. Its stream is never used: [`ReaderBody`] takes the place of the body.
#[derive(Debug, Clone)]
pub(super) struct Accept;

impl ServerStreamingService<()> for Accept {
    type Response = ();
    type ResponseStream = tokio_stream::Pending<Result<(), Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(tokio_stream::pending())))
    }
}

/// The response body of one reader: the room's bytes as they are, many messages in one DATA frame, then the status as trailers.
///
/// tonic's own body would take the messages one by one, encode each again for each reader, and send it as a frame of its own.
#[derive(Debug)]
pub(super) struct ReaderBody {
    reader: Reader,
    /// When the caller's deadline passes, if it has one.
    deadline: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl ReaderBody {
    pub(super) fn new(reader: Reader, timeout: Option<Duration>) -> Self {
        debug!("reader opened");
        Self { reader, deadline: timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout))), ended: false }
    }

    fn deadline_passed(&mut self, cx: &mut Context<'_>) -> bool {
        self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
    }

    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        debug!(code = ?status.code(), "reader ended");
        self.ended = true;
        let mut trailers = HeaderMap::new();
        // A header value can refuse a message with control characters; ours have none, and the code alone is a status too.
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
        }
        Frame::trailers(trailers)
    }
}

impl http_body::Body for ReaderBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        if body.ended {
            return Poll::Ready(None);
        }
        if body.deadline_passed(cx) {
            let status = Status::deadline_exceeded("the deadline of this call has passed");
            return Poll::Ready(Some(Ok(body.end(&status))));
        }
        body.reader.poll_read(cx).map(|read| match read {
            Ok(frames) => Some(Ok(Frame::data(frames))),
            Err(end) => Some(Ok(body.end(&end.into()))),
        })
    }
}

impl Drop for ReaderBody {
    fn drop(&mut self) {
        if !self.ended {
            debug!("reader left");
        }
    }
}

impl From<End> for Status {
    fn from(end: End) -> Self {
        match end {
            End::FellBehind => Self::resource_exhausted(end.to_string()),
            End::Closed => Self::unavailable(end.to_string()),
        }
    }
}
