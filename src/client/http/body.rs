//! Reads the body of a request completely, before the request has any effect.
//!
//! An answer that the client sends while the peer still sends would be lost: the socket closes with
//! unread bytes, TCP resets the connection, and the peer sees a broken pipe. If that happened to a
//! flush, the messages would be lost.
//!
//! The bodies of all requests together share a budget, and each has a deadline.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use super::problem::Problem;
use crate::net::{PartialBody, Share};

/// How long a body may take: 8 MiB at 2 Mbit/s.
const TIMEOUT: Duration = Duration::from_secs(40);

/// Bodies up to this size do not count against the budget: the connection itself takes as much.
const SMALL: usize = 16 * 1024;

/// How much of a refused body is read, and for how long, so that its sender gets the answer.
const DISCARD: usize = 64 * 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason why a body was not read completely.
enum BodyError {
    Refused(Problem),
    Broken,
}

/// Reads a body of at most `limit` bytes, which count against `share`. Returns the request with it.
///
/// # Errors
/// 413 for a larger body, 400 for one that breaks off, 408 for one that takes too long, and 503 if
/// the budget is used up.
pub(super) async fn read(request: Request, limit: usize, share: &mut Share) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let mut body = body.into_data_stream();
    match timeout(TIMEOUT, collect(&mut body, limit, share)).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Err(BodyError::Refused(problem))) => {
            discard(body).await;
            Err(problem)
        }
        Ok(Err(BodyError::Broken)) => Err(Problem::bad_request("the body was not received completely")),
        Err(_) => {
            let detail = format!("the body was not received completely within {} s", TIMEOUT.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}

/// Reads the body of a request that is refused already, so that its sender gets the answer.
pub(super) async fn discard_all(request: Request) {
    discard(request.into_body().into_data_stream()).await;
}

async fn collect(body: &mut BodyDataStream, limit: usize, share: &mut Share) -> Result<Bytes, BodyError> {
    let declared = http_body::Body::size_hint(body).upper().and_then(|length| usize::try_from(length).ok());
    let capacity = declared.unwrap_or(limit).min(limit);
    let mut read = PartialBody::default();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| BodyError::Broken)?;
        if read.bytes().len() + piece.len() > limit {
            let detail = format!("the body is larger than {limit} bytes");
            return Err(BodyError::Refused(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)));
        }
        read.add(&piece, capacity);
        if read.held() > SMALL
            && let Err(exhausted) = share.cover(read.held())
        {
            let detail = format!("{exhausted}: nothing was done");
            return Err(BodyError::Refused(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)));
        }
    }
    Ok(read.into_bytes().into())
}

async fn discard(mut body: BodyDataStream) {
    let read = async {
        let mut discarded = 0;
        while let Some(Ok(piece)) = body.next().await {
            discarded += piece.len();
            if discarded > DISCARD {
                return;
            }
        }
    };
    let _ = timeout(DISCARD_TIMEOUT, read).await;
}
