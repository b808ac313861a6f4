//! The two bodies of a call: the request's, which is sent, and the response's, which is received.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body as _, Frame};
use tonic::body::Body;

use super::gate::Slot;

/// Sends the rest of a request while the response is awaited and read.
pub(super) type Sending = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body of a response. The call ends with it, or when it is dropped.
pub struct ResponseBody {
    stream: RecvStream,
    sending: Option<Sending>,
    slot: Option<Slot>,
}

impl ResponseBody {
    pub(super) fn new(stream: RecvStream, sending: Option<Sending>, slot: Option<Slot>) -> Self {
        Self { stream, sending, slot }
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.stream.poll_data(cx)) {
            return Poll::Ready(match data {
                Ok(data) => {
                    let released = self.stream.flow_control().release_capacity(data.len());
                    Some(released.map(|()| Frame::data(data)))
                }
                Err(error) => failed(error),
            });
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(failed(error)),
        }
    }
}

/// The error of a response body, or `None` for the reasons with which a server may end a complete
/// stream (RFC 9113, 8.1).
fn failed(error: h2::Error) -> Option<Result<Frame<Bytes>, h2::Error>> {
    match error.reason() {
        Some(Reason::NO_ERROR | Reason::CANCEL) => None,
        _ => Some(Err(error)),
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let body = self.get_mut();
        if body.sending.as_mut().is_some_and(|sending| sending.as_mut().poll(cx).is_ready()) {
            body.sending = None;
        }
        let frame = ready!(body.poll_stream(cx));
        if matches!(frame, None | Some(Err(_))) {
            body.slot = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// Sends the body of a request as fast as the server's flow control permits. If the server ends the
/// call first, its response says why.
pub(super) async fn send(body: Body, mut stream: SendStream<Bytes>) {
    let mut body = pin!(body);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(frame) = frame else {
            stream.send_reset(Reason::CANCEL);
            return;
        };
        match frame.into_data() {
            Ok(mut data) => {
                let end = body.is_end_stream();
                while data.has_remaining() {
                    stream.reserve_capacity(data.len());
                    let Some(Ok(capacity)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                    let piece = data.split_to(capacity.min(data.len()));
                    let last = end && data.is_empty();
                    if stream.send_data(piece, last).is_err() || last {
                        return;
                    }
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    // Fails only if the call has ended.
                    let _ = stream.send_trailers(trailers);
                    return;
                }
            }
        }
    }
    let _ = stream.send_data(Bytes::new(), true);
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody").field("stream", &self.stream).finish_non_exhaustive()
    }
}
