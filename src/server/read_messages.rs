//! `ReadMessages`: a reader of the room as an endless response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::Request;
use tokio::time::Sleep;
use tonic::Status;
use tracing::debug;

use super::metadata;
use super::request::{self, NoMessage};
use super::response::{self, CallerGone};
use super::timeout::timeout;
use crate::proto::RESUME_AFTER;
use crate::room::{End, Frames, Reader, Room, Start};

/// The most bytes of the request: it has no fields, but a newer caller may send some that are unknown here.
const MAX_REQUEST: usize = 4096;

/// A stream to one reader: the room's bytes as they are, many messages in one DATA frame. A gRPC library would take the messages one by
/// one, encode each again for each reader, and send it as a frame of its own.
#[derive(Debug)]
pub(super) struct Reading {
    reader: Reader,
    response: SendStream<Bytes>,
    /// When the caller's deadline passes, if it has one.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Opens a stream, if the request is one for it.
pub(super) async fn open(
    room: &Arc<Room>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Option<Reading> {
    let accepted = match accept(request).await {
        Ok(accepted) => accepted,
        Err(NoMessage::Bad(status)) => {
            response::refuse(respond, status);
            return None;
        }
        Err(NoMessage::CallerGone) => return None,
    };
    let opened = match room.open(accepted.start) {
        Ok(opened) => opened,
        Err(not_yet) => {
            response::refuse(respond, Status::invalid_argument(format!("{RESUME_AFTER}: {not_yet}")));
            return None;
        }
    };
    // Whoever has seen the headers is subscribed. They go out at once, before any message.
    let mut head = response::head();
    metadata::tell(head.headers_mut(), room.epoch(), &opened);
    let response = respond.send_response(head, false).ok()?;
    debug!(resumed = ?opened.resumed, "reader opened");
    let deadline = accepted.timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
    Some(Reading { reader: opened.reader, response, deadline })
}

/// What a caller asks for.
struct Accepted {
    timeout: Option<Duration>,
    start: Start,
}

async fn accept(request: Request<RecvStream>) -> Result<Accepted, NoMessage> {
    let (head, body) = request.into_parts();
    let accepted = Accepted { timeout: timeout(&head.headers)?, start: metadata::start(&head.headers)? };
    let () = request::message(&head.headers, body, MAX_REQUEST, "the request is").await?;
    Ok(accepted)
}

impl Reading {
    /// Sends what there is; completes when there will be no more.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Ok(status) = ready!(self.poll_end(cx)) {
            debug!(code = ?status.code(), "reader ended");
            // It fails when the caller is gone, and then nobody waits for it.
            let _ = self.response.send_trailers(response::trailers(&status));
        } else {
            debug!("reader left");
        }
        Poll::Ready(())
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Status, CallerGone>> {
        if self.response.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(CallerGone));
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ok(Status::deadline_exceeded("the deadline of this call has passed")));
        }
        // h2 wakes a stream for this and that; only a round of the room is news.
        if self.reader.is_waiting() {
            return Poll::Pending;
        }
        loop {
            ready!(response::poll_room(&mut self.response, cx))?;
            match ready!(self.reader.poll_read(cx)) {
                Ok(Frames { bytes, more }) => {
                    self.response.send_data(bytes, false).map_err(|_| CallerGone)?;
                    if !more {
                        return Poll::Pending;
                    }
                }
                Err(end) => return Poll::Ready(Ok(end.into())),
            }
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
