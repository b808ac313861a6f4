//! Reading a request to its end before anything is done about it.
//!
//! An answer that goes out while the peer still sends is lost with the connection: the socket closes with bytes unread, TCP resets
//! it, and the peer sees a broken pipe instead of what was wrong. And a flush whose answer gets lost has emptied the postbox for
//! nobody.
//!
//! What has come of all requests together is bounded, and so is the time that each may take.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use tokio_stream::StreamExt;

use super::problem::Problem;
use crate::net::{PartialBody, Share};

/// How long a body may take: 8 MiB over a line of 2 Mbit/s.
const TIMEOUT: Duration = Duration::from_secs(40);

/// Bytes of a body that do not count: a connection has one, and takes as much itself.
const SMALL: usize = 16 * 1024;

/// How much more of a body that is too large is read, and for how long, so that its sender gets to see the answer.
const DISCARD: usize = 64 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// The request with its body arrived whole, and at most `limit` bytes of it, which count in `share`.
///
/// # Errors
/// 413, 400 for a body that breaks off, 408 for one that takes too long, and 503 when too much is on its way here.
pub(crate) async fn read(request: Request, limit: usize, share: &mut Share) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let mut body = body.into_data_stream();
    match tokio::time::timeout(TIMEOUT, collect(&mut body, limit, share)).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Err(NotWhole::Refused(problem))) => {
            let _ = tokio::time::timeout(DISCARD_TIME, discard(&mut body)).await;
            Err(problem)
        }
        Ok(Err(NotWhole::Broken)) => Err(Problem::bad_request("the body did not arrive whole")),
        Err(_) => {
            let detail = format!("the body did not come to its end within {} s", TIMEOUT.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}

/// Reads a request that is refused whatever is in it, to its end or as much as its sender needs to see the answer.
pub(crate) async fn discard_all(request: Request) {
    let _ = tokio::time::timeout(DISCARD_TIME, discard(&mut request.into_body().into_data_stream())).await;
}

/// Why there is no whole body.
enum NotWhole {
    Refused(Problem),
    Broken,
}

/// The whole body, unless there is too much of it.
async fn collect(body: &mut BodyDataStream, limit: usize, share: &mut Share) -> Result<Bytes, NotWhole> {
    // As many bytes as the head of the request says, if it says so.
    let length = http_body::Body::size_hint(body).upper().and_then(|length| usize::try_from(length).ok());
    let most = length.unwrap_or(limit).min(limit);
    let mut all = PartialBody::default();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| NotWhole::Broken)?;
        if all.bytes().len() + piece.len() > limit {
            let detail = format!("the body is larger than {limit} bytes");
            return Err(NotWhole::Refused(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)));
        }
        all.add(&piece, most);
        if all.held() > SMALL
            && let Err(exhausted) = share.cover(all.held())
        {
            let detail = format!("{exhausted}: nothing was done");
            return Err(NotWhole::Refused(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)));
        }
    }
    Ok(all.into_bytes().into())
}

async fn discard(body: &mut BodyDataStream) {
    let mut discarded = 0;
    while let Some(Ok(piece)) = body.next().await {
        discarded += piece.len();
        if discarded > DISCARD {
            return;
        }
    }
}
