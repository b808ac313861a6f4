//! The routes of the HTTP interface and their handlers.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::watch;

use super::admission::{self, Admission};
use super::problem::Problem;
use super::sse::{self, EventStreams};
use super::{openapi, page, send_message_body};
use crate::client::inbox::postbox::{Flushed, Postbox};
use crate::client::metrics::Metrics;
use crate::client::settings::HttpSettings;
use crate::client::upstream::{IdempotencyKey, LinkState, SendError, Sender};
use crate::proto::IDEMPOTENCY_KEY;
use crate::send_time::rfc3339;

/// Header of a flush: how many times messages may be missing in this answer, because a stream was
/// cut and the next one did not resume. Absent if 0.
const GAPS: HeaderName = HeaderName::from_static("messenger-gaps");
/// Header of a flush: how many older messages were dropped because nobody flushed them. Absent if
/// 0.
const DROPPED: HeaderName = HeaderName::from_static("messenger-dropped");

/// The state that all handlers share.
pub(in crate::client) struct Chat {
    pub(in crate::client) postbox: Arc<Postbox>,
    pub(in crate::client) sender: Sender,
    pub(in crate::client) link: watch::Receiver<LinkState>,
    pub(in crate::client) metrics: Metrics,
}

/// All routes of the client.
pub(in crate::client) fn router(chat: Chat, streams: Arc<EventStreams>, settings: &HttpSettings) -> Router {
    let (metrics, postbox) = (chat.metrics.clone(), Arc::clone(&chat.postbox));
    Router::new()
        .route("/", page::index())
        .route("/page.css", page::style())
        .route("/page.js", page::script())
        .route("/icon.svg", page::icon())
        .route("/messages", get(sse::messages).with_state(streams))
        .route("/sendMessage", post(send_message))
        .route("/getAndFlushMessages", post(get_and_flush_messages))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/openapi.json", openapi::document())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Admission::new(settings), admission::admit))
        .layer(from_fn_with_state(postbox, admission::catch_panic))
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(metrics, admission::count))
        .with_state(Arc::new(chat))
}

/// `POST /sendMessage`: sends a message, and answers its `sendTime`.
async fn send_message(State(chat): State<Arc<Chat>>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let key = match headers.get(IDEMPOTENCY_KEY) {
        None => IdempotencyKey::random().map_err(|error| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{error}: the message was not sent"))
        })?,
        Some(value) => IdempotencyKey::parse(value.as_bytes()).ok_or_else(|| {
            Problem::bad_request("the header Idempotency-Key must be 1 to 128 visible ASCII characters")
        })?,
    };
    send_message_body::refuse_encoded(&headers)?;
    let message = send_message_body::parse(&body)?;
    let sent = chat.sender.send(message, key).await;
    chat.metrics.send(sent.as_ref().map_or_else(SendError::name, |_| "sent"));
    Ok(json(format!("{{\"sendTime\":\"{}\"}}", rfc3339(&sent?)).into()))
}

/// `POST /getAndFlushMessages`: all messages since the last flush, as a JSON array. The body of the
/// request is ignored.
async fn get_and_flush_messages(State(chat): State<Arc<Chat>>) -> Response {
    let Flushed { pieces, gaps, dropped, answering } = chat.postbox.flush();
    let length = pieces.iter().map(Bytes::len).sum::<usize>();
    let frames = pieces.into_iter().map(move |piece| {
        // The closure owns `answering` until the last piece is written.
        let _ = &answering;
        Ok::<_, Infallible>(Frame::data(piece))
    });
    let mut response = json(Body::new(StreamBody::new(tokio_stream::iter(frames))));
    let headers = response.headers_mut();
    // With a length the answer needs no chunks, and the caller notices if it is cut.
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if gaps > 0 {
        headers.insert(GAPS, HeaderValue::from(gaps));
    }
    if dropped > 0 {
        headers.insert(DROPPED, HeaderValue::from(dropped));
    }
    response
}

/// `GET /health`: whether this process serves requests. An answer is proof enough. The server may
/// be away.
async fn health() -> Response {
    json("{\"status\":\"serving\"}".into())
}

/// `GET /ready`: whether messages get through now: the stream from the server is open, and its
/// connection takes sends.
async fn ready(State(chat): State<Arc<Chat>>) -> Result<Response, Problem> {
    let detail = match &*chat.link.borrow() {
        LinkState::Open(stream) => match stream.connection.backpressure() {
            None => return Ok(json("{\"status\":\"ready\"}".into())),
            Some(reason) => format!("{reason}: messages wait here"),
        },
        LinkState::Unavailable(status) => format!("the server opens no stream, it says: {}", status.message()),
        LinkState::Down | LinkState::Opening | LinkState::Unauthenticated(_) => {
            "the server is away: this client waits for it".to_owned()
        }
    };
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not allowed for this path, see the header Allow"))
}

fn json(body: Body) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
