//! Reading a request to its end before anything is done about it.
//!
//! An answer that goes out while the peer still sends is lost with the connection: the socket closes with bytes unread, TCP resets
//! it, and the peer sees a broken pipe instead of what was wrong. And a flush whose answer gets lost has emptied the postbox for
//! nobody.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use bytes::BytesMut;
use tokio_stream::StreamExt;

use super::problem::Problem;

/// How much more of a body that is too large is read, and for how long, so that its sender gets to see the answer.
const DISCARD: usize = 64 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// The request with its body arrived whole, and at most `limit` bytes of it.
///
/// # Errors
/// 413, or 400 for a body that breaks off.
pub(super) async fn read(request: Request, limit: usize) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let mut body = body.into_data_stream();
    match collect(&mut body, limit).await {
        Ok(Some(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(None) => {
            let _ = tokio::time::timeout(DISCARD_TIME, discard(&mut body)).await;
            let detail = format!("the body is larger than {limit} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Err(_) => Err(Problem::bad_request("the body did not arrive whole")),
    }
}

/// The whole body, or `None` as soon as it is over the limit.
async fn collect(body: &mut BodyDataStream, limit: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut all = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece = piece?;
        if all.len() + piece.len() > limit {
            return Ok(None);
        }
        all.extend_from_slice(&piece);
    }
    Ok(Some(all.freeze()))
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
