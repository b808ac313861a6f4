//! `ReadMessages`: a reader of the room as an endless response.

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

use super::metadata;
use super::request::{self, NoMessage};
use super::response::{self, CallerGone};
use crate::backend::{Keeper, NotOpened};
use crate::net::Share;
use crate::process::test_panic;
use crate::proto::RESUME_AFTER;
use crate::room::{End, Frames, Reader, Start};
use crate::server::grpc::deadline::{before, deadline, passed};
use crate::server::metrics::{Call, OpenReader};

/// The most bytes of the request: it has no fields, but a newer caller may send some that are unknown here.
const MAX_REQUEST: usize = 4096;

/// The most that the caller's wait is lengthened by the time since its connection began.
const MOST_UNDER_WAY: Duration = Duration::from_secs(1);

/// A stream to one reader: the room's bytes as they are, many messages in one DATA frame. A gRPC library would take the messages one by
/// one, encode each again for each reader, and send it as a frame of its own.
#[derive(Debug)]
pub(crate) struct Reading {
    reader: Reader,
    response: SendStream<Bytes>,
    /// When the caller's deadline passes, if it has one.
    deadline: Option<Pin<Box<Sleep>>>,
    call: Call,
    counted: OpenReader,
}

/// Opens a stream, if the request is one for it.
pub(crate) async fn open(
    room: &Keeper,
    share: Share,
    connected: Instant,
    mut call: Call,
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Reading> {
    let accepted = match accept(share, request).await {
        Ok(accepted) => accepted,
        Err(NoMessage::Bad(status)) => {
            call.end(response::refuse(respond, status));
            return None;
        }
        Err(NoMessage::CallerGone) => return None,
    };
    let start = match accepted.start {
        // Only the first call of a connection.
        Start::Ago(waited) if respond.stream_id().as_u32() == 1 => Start::Ago(waited + under_way(connected)),
        start => start,
    };
    let opened = match before(accepted.deadline, room.open(start)).await {
        Ok(opened) => opened.map_err(Status::from),
        Err(_) => Err(passed(" before the stream was open")),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(status) => {
            call.end(response::refuse(respond, status));
            return None;
        }
    };
    // Whoever has seen the headers is subscribed. They go out at once, before any message.
    let mut head = response::head();
    metadata::tell(head.headers_mut(), &opened);
    let response = respond.send_response(head, false).ok()?;
    debug!(resumed = ?opened.resumed, "reader opened");
    let deadline = accepted.deadline.map(|deadline| Box::pin(sleep_until(deadline)));
    let counted = call.reader();
    Some(Reading { reader: opened.reader, response, deadline, call, counted })
}

/// What a caller asks for.
struct Accepted {
    deadline: Option<Instant>,
    start: Start,
}

/// How long the request can have been on its way, with what the network and both schedulers took. The
/// caller measured its wait after it had got our first frame, and that left after the connection began.
/// A proxy makes the calls of others over connections that it has had for long: hence the bound.
fn under_way(connected: Instant) -> Duration {
    connected.elapsed().min(MOST_UNDER_WAY)
}

async fn accept(share: Share, request: Request<RecvStream>) -> Result<Accepted, NoMessage> {
    let (Parts { mut headers, .. }, body) = request.into_parts();
    let accepted = Accepted { deadline: deadline(&headers)?, start: metadata::start(&headers)? };
    let () = request::message(&mut headers, body, share, MAX_REQUEST, "the request is", accepted.deadline).await?;
    Ok(accepted)
}

impl Reading {
    /// Sends what there is; completes when there will be no more.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let code = match ready!(self.poll_over(cx)) {
            Over::Status(status) => {
                debug!(code = ?status.code(), "reader ended");
                // It fails when the caller is gone, and then nobody waits for it.
                let _ = self.response.send_trailers(response::trailers(&status));
                Some(status.code())
            }
            Over::Reset(code, reason) => {
                debug!(?reason, "reader reset");
                self.response.send_reset(reason);
                Some(code)
            }
            Over::CallerGone => {
                debug!("reader left");
                None
            }
        };
        self.call.end(code);
        Poll::Ready(())
    }

    /// Ends it at once with gRPC's `INTERNAL`.
    pub(crate) fn reset(&mut self) {
        self.response.send_reset(Reason::INTERNAL_ERROR);
        self.call.end(Some(Code::Internal));
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        if self.response.poll_reset(cx).is_ready() {
            return Poll::Ready(Over::CallerGone);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(match response::poll_room(&mut self.response, cx) {
                Poll::Ready(_) if !self.reader.is_amid_a_message() => Over::Status(passed("")),
                _ => Over::Reset(Code::DeadlineExceeded, Reason::CANCEL),
            });
        }
        // h2 wakes a stream for this and that; only a round of the room is news.
        if self.reader.is_waiting() {
            return Poll::Pending;
        }
        test_panic("reader");
        loop {
            match response::poll_room(&mut self.response, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(CallerGone)) => return Poll::Ready(Over::CallerGone),
                Poll::Pending => return self.reader.poll_end(cx).map(Over::without_room),
            }
            match self.reader.poll_read(cx) {
                Poll::Ready(Ok(Frames { bytes, more })) => {
                    self.counted.delivered(bytes.len());
                    if self.response.send_data(bytes, false).is_err() {
                        return Poll::Ready(Over::CallerGone);
                    }
                    if !more {
                        return Poll::Pending;
                    }
                }
                Poll::Ready(Err(end)) if self.reader.is_amid_a_message() => {
                    return Poll::Ready(Over::amid_a_message(end));
                }
                Poll::Ready(Err(end)) => return Poll::Ready(Over::Status(end.into())),
                Poll::Pending => {
                    response::release_room(&mut self.response);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// How a stream ends.
enum Over {
    /// In trailers, behind all that was sent.
    Status(Status),
    /// At once: what was sent and not taken goes, and the memory that it holds.
    Reset(Code, Reason),
    /// The caller has cancelled, or its connection is gone.
    CallerGone,
}

impl Over {
    /// The end of a stream whose last message is not complete: behind it a status would be an error.
    fn amid_a_message(end: End) -> Self {
        match end {
            End::FellBehind | End::Missed => Self::Reset(Code::ResourceExhausted, Reason::ENHANCE_YOUR_CALM),
            End::Closed | End::Anew | End::EngineAway => Self::Reset(Code::Internal, Reason::INTERNAL_ERROR),
        }
    }

    /// The end of a stream whose caller takes nothing.
    fn without_room(end: End) -> Self {
        match end {
            // A gRPC library makes RESOURCE_EXHAUSTED of it.
            // https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors
            End::FellBehind => Self::Reset(Code::ResourceExhausted, Reason::ENHANCE_YOUR_CALM),
            End::Closed | End::Anew | End::Missed | End::EngineAway => Self::Status(end.into()),
        }
    }
}

impl From<NotOpened> for Status {
    fn from(not_opened: NotOpened) -> Self {
        match not_opened {
            NotOpened::NotYet(not_yet) => Self::invalid_argument(format!("{RESUME_AFTER}: {not_yet}")),
            NotOpened::Closed(_) | NotOpened::Refused(_) | NotOpened::Away => Self::unavailable(not_opened.to_string()),
        }
    }
}

impl From<End> for Status {
    fn from(end: End) -> Self {
        match end {
            End::FellBehind | End::Missed => Self::resource_exhausted(end.to_string()),
            End::Closed | End::Anew | End::EngineAway => Self::unavailable(end.to_string()),
        }
    }
}
