//! `SendMessage`: one message into the room.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;
use http::{HeaderMap, Request};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::metadata;
use super::request::{self, NoMessage};
use super::response::{self, not_accepted, surely_nothing_done};
use crate::backend::Keeper;
use crate::net::Share;
use crate::proto::{EPOCH, SendMessageRequest, SendMessageResponse, frame};
use crate::room::{Draft, NotPosted, Posted};
use crate::server::grpc::deadline::{before, deadline, passed};
use crate::server::metrics::Metrics;

/// What is too long in a message that is.
const SUBJECT: &str = "author and text are";

/// One call from beginning to end. Gives the code that it ended with, unless the caller is gone.
pub(crate) async fn call(
    room: &Keeper,
    limit: usize,
    share: Share,
    metrics: &Metrics,
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Code> {
    // All that is not needed goes: it holds the buffer that it was read into.
    let (Parts { mut headers, .. }, body) = request.into_parts();
    let deadline = match deadline(&headers) {
        Ok(deadline) => deadline,
        Err(status) => return response::refuse(respond, status),
    };
    let answer = match request::message(&mut headers, body, share, limit, SUBJECT, deadline).await {
        Ok(message) => post(room, limit, metrics, &headers, message, deadline).await,
        Err(NoMessage::Bad(status)) => Err(status),
        Err(NoMessage::CallerGone) => return None,
    };
    match answer {
        Ok(answer) => {
            // Each of the three fails only when the caller is gone. The message is in the room all the same.
            let mut stream = respond.send_response(response::head(), false).ok()?;
            stream.send_data(frame::encode(&answer), false).ok()?;
            stream.send_trailers(response::trailers(&Status::ok(""))).ok()?;
            Some(Code::Ok)
        }
        Err(status) => response::refuse(respond, status),
    }
}

async fn post(
    room: &Keeper,
    limit: usize,
    metrics: &Metrics,
    headers: &HeaderMap,
    message: SendMessageRequest,
    deadline: Option<Instant>,
) -> Result<SendMessageResponse, Status> {
    let key = metadata::key(headers)?;
    let epoch = metadata::epoch(headers)?;
    let draft = Draft::new(message.author, message.text);
    let size = draft.outgoing_size();
    if size > limit {
        return Err(Status::resource_exhausted(format!(
            "{SUBJECT} too long: {size} bytes as a message to readers, the limit is {limit}"
        )));
    }
    // Who no longer waits for the answer may have sent the message again elsewhere.
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Err(surely_nothing_done(passed(": the message was not accepted")));
    }
    // Only an engine lets anybody wait.
    let posted = before(deadline, room.post(epoch, key, draft)).await;
    let posted = posted.map_err(|_| passed(" and the engine has not answered: the outcome is unknown"))??;
    match posted {
        Posted::Now(_) => metrics.accepted(size),
        Posted::Before(_) => metrics.repeated(),
    }
    Ok(SendMessageResponse { send_time: Some(posted.time().into()) })
}

impl From<NotPosted> for Status {
    fn from(not_posted: NotPosted) -> Self {
        match not_posted {
            NotPosted::Closed(_)
            | NotPosted::TooManyKeys
            | NotPosted::TooManyWaiting
            | NotPosted::Refused(_)
            | NotPosted::Away => not_accepted(&not_posted),
            NotPosted::Unknown | NotPosted::TooFewReplicas(..) | NotPosted::NotOnDisk => {
                Self::unavailable(not_posted.to_string())
            }
            NotPosted::KeyTaken => Self::already_exists(not_posted.to_string()),
            // Trying again is of no use before somebody has set the clock.
            NotPosted::Clock(_) => Self::failed_precondition(not_posted.to_string()),
            NotPosted::OtherEpoch(_) => Self::failed_precondition(format!("{EPOCH}: {not_posted}")),
        }
    }
}
