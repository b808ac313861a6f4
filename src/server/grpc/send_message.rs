//! `SendMessage`: posts one message to the room.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;
use http::{HeaderMap, Request};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::deadline::{deadline, deadline_exceeded, within};
use super::metadata;
use super::request::{self, RequestError};
use super::response::{self, not_accepted, unavailable};
use crate::backend::{Backend, PostError};
use crate::net::Share;
use crate::proto::{EPOCH, SendMessageRequest, SendMessageResponse, frame};
use crate::room::{EncodedMessage, Posted, Rejection};
use crate::server::metrics::Metrics;

/// How an error text for a message over the limit begins.
const SUBJECT: &str = "author and text are";

/// Runs one call. Returns the code that it ended with, or `None` if the caller is gone.
pub(super) async fn call(
    room: &Backend,
    limit: usize,
    share: Share,
    metrics: &Metrics,
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Code> {
    // The rest of the request is dropped, because it pins the buffer that it was read into.
    let (Parts { mut headers, .. }, body) = request.into_parts();
    let deadline = match deadline(&headers) {
        Ok(deadline) => deadline,
        Err(status) => return response::refuse(respond, status),
    };
    let answer = match request::message(&mut headers, body, share, limit, SUBJECT, deadline).await {
        Ok(message) => post(room, limit, metrics, &headers, message, deadline).await,
        Err(RequestError::Refused(status)) => Err(status),
        Err(RequestError::CallerGone) => return None,
    };
    match answer {
        Ok(answer) => {
            // Each of these fails only if the caller is gone. The message is in the room all the
            // same.
            let mut stream = respond.send_response(response::headers(), false).ok()?;
            stream.send_data(frame::encode(&answer), false).ok()?;
            stream.send_trailers(response::trailers(&Status::ok(""))).ok()?;
            Some(Code::Ok)
        }
        Err(status) => response::refuse(respond, status),
    }
}

async fn post(
    room: &Backend,
    limit: usize,
    metrics: &Metrics,
    headers: &HeaderMap,
    message: SendMessageRequest,
    deadline: Option<Instant>,
) -> Result<SendMessageResponse, Status> {
    let key = metadata::idempotency_key(headers)?;
    let epoch = metadata::epoch(headers)?;
    let message = EncodedMessage::new(message.author, message.text);
    let size = message.outgoing_size();
    if size > limit {
        return Err(Status::resource_exhausted(format!(
            "{SUBJECT} too long: {size} bytes as a message to readers, the limit is {limit}"
        )));
    }
    // A caller that no longer waits may have sent the message again elsewhere.
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Err(not_accepted(deadline_exceeded(": the message was not accepted")));
    }
    // Only Redis can take long enough for the deadline to pass here.
    let posted = within(deadline, room.post(epoch, key, message)).await;
    let posted = posted.map_err(|_| deadline_exceeded(" and Redis has not answered: the outcome is unknown"))??;
    match posted {
        Posted::Now(_) => metrics.accepted(size),
        Posted::Before(_) => metrics.repeated(),
    }
    Ok(SendMessageResponse { send_time: Some(posted.time().into()) })
}

impl From<PostError> for Status {
    fn from(error: PostError) -> Self {
        match &error {
            PostError::Rejected(Rejection::Closed | Rejection::TooManyKeys)
            | PostError::TooManyWaiting
            | PostError::Refused(_)
            | PostError::Away => unavailable(&error),
            PostError::Unknown | PostError::TooFewReplicas { .. } | PostError::NotOnDisk => {
                Self::unavailable(error.to_string())
            }
            PostError::Rejected(Rejection::KeyTaken) => Self::already_exists(error.to_string()),
            // A retry fails too, until the server's clock is corrected.
            PostError::Rejected(Rejection::Clock(_)) => Self::failed_precondition(error.to_string()),
            PostError::Rejected(Rejection::OtherEpoch(_)) => Self::failed_precondition(format!("{EPOCH}: {error}")),
        }
    }
}
