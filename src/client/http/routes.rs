//! The HTTP interface: which path is what, and what comes back.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Code;

use super::cross_site;
use super::hosts::HostNames;
use super::message_body;
use super::openapi;
use super::page;
use super::problem::Problem;
use crate::client::http::body;
use crate::client::http::sse;
use crate::client::http::sse::Streams;
use crate::client::inbox::postbox::{Flushed, Postbox};
use crate::client::metrics::Metrics;
use crate::client::settings::HttpSettings;
use crate::client::upstream::link_state::LinkState;
use crate::client::upstream::sender::{Key, STREAM_PATIENCE, SendError, Sender};
use crate::net::{Budget, Guard, requested_host};
use crate::process;
use crate::proto::IDEMPOTENCY_KEY;
use crate::send_time::rfc3339;

/// Header of a flush, only where it is not 0: how often messages may be missing among these, because a stream was cut and the server
/// could not say that the next one went on where it was.
const GAPS: HeaderName = HeaderName::from_static("messenger-gaps");
/// Header of a flush, only where it is not 0: how many messages, older than these, were dropped because nobody had fetched them.
const DROPPED: HeaderName = HeaderName::from_static("messenger-dropped");

/// Bodies of requests that are here at once: so many of the largest, or more that are smaller.
const INCOMING_BODIES: usize = 16;

/// Paths that need no token: who asks whether the client is well has none, and the page is where a person is asked for it.
const OPEN: [&str; 7] = ["/health", "/ready", "/openapi.json", "/", "/page.css", "/page.js", "/icon.svg"];

/// What the handlers work with.
pub(crate) struct Chat {
    pub(crate) postbox: Arc<Postbox>,
    pub(crate) sender: Sender,
    pub(crate) link: watch::Receiver<LinkState>,
    pub(crate) metrics: Metrics,
}

/// All routes of the client.
pub(crate) fn router(chat: Chat, streams: Arc<Streams>, settings: &HttpSettings) -> Router {
    let (metrics, chat) = (chat.metrics.clone(), Arc::new(chat));
    let max_body = settings.max_body_bytes.0;
    let admission = Admission {
        guard: settings.access.guard.clone(),
        hosts: Arc::new(settings.http_hosts.clone().unwrap_or_default()),
        max_body,
        incoming: Budget::new(INCOMING_BODIES * max_body),
    };
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
        .layer(middleware::from_fn_with_state(admission, admit))
        .layer(middleware::from_fn_with_state(Arc::clone(&chat), catch))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(metrics, count))
        .with_state(chat)
}

/// Who may ask, and what a request's body may be.
#[derive(Clone)]
struct Admission {
    guard: Option<Arc<Guard>>,
    hosts: Arc<HostNames>,
    max_body: usize,
    incoming: Budget,
}

/// Hands on what the routes can work with: requests with the token, that are whole, not too large, and not from other sites.
async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Result<Response, Problem> {
    if let Some(guard) = &admission.guard
        && !OPEN.contains(&request.uri().path())
        && let Err(no_token) = guard.admit(request.headers())
    {
        body::discard_all(request).await;
        return Err(Problem::new(StatusCode::UNAUTHORIZED, no_token.to_string()));
    }
    // Until the answer is known: a message that waits for the server is as large as its body.
    let mut share = admission.incoming.share();
    let request = body::read(request, admission.max_body, &mut share).await?;
    requested_host(&request).map_err(|bad| Problem::bad_request(bad.to_string()))?;
    cross_site::refuse(&request)?;
    // A page that has the token has it from a person.
    if admission.guard.is_none() && is_guarded(request.uri().path()) {
        admission.hosts.admit(&request)?;
    }
    Ok(next.run(request).await)
}

/// Whether pages of other names may not have this: what is of the chat, and the page for people, which
/// would be of no use without it.
fn is_guarded(path: &str) -> bool {
    path == "/" || !OPEN.contains(&path)
}

/// Answers a request whose handler panics, which ends nothing else.
async fn catch(State(chat): State<Arc<Chat>>, request: Request, next: Next) -> Response {
    let answer = async move {
        process::test_panic("handler");
        next.run(request).await
    };
    if let Some(response) = process::catch_panic(answer).await {
        return response;
    }
    // If it has left the postbox half changed, this ends the program.
    chat.postbox.held();
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this is a mistake in the program, see its log").into_response()
}

/// Counts the request, under the route that it took.
async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let (start, method) = (Instant::now(), request.method().clone());
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    // Methods and paths that callers make up are one each: every name is memory.
    let method = if [Method::GET, Method::POST, Method::HEAD].contains(&method) { method.as_str() } else { "other" };
    let path = path.as_ref().map_or("other", MatchedPath::as_str);
    metrics.answered(method, path, response.status().as_u16(), start.elapsed());
    response
}

/// Sends a message; the answer is its `sendTime`.
async fn send_message(State(chat): State<Arc<Chat>>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let key = match headers.get(IDEMPOTENCY_KEY) {
        None => Key::new().map_err(|error| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{error}: the message was not sent"))
        })?,
        Some(value) => Key::given(value.as_bytes()).ok_or_else(|| {
            Problem::bad_request("the header Idempotency-Key must be 1 to 128 visible ASCII characters")
        })?,
    };
    message_body::refuse_encoded(&headers)?;
    let message = message_body::parse(&body)?;
    let sent = chat.sender.send(message, key).await;
    chat.metrics.sent(&sent);
    let time = sent?;
    Ok(json(format!("{{\"sendTime\":\"{}\"}}", rfc3339(&time)).into()))
}

/// Everything since the last flush, as a JSON array. What the request's body says does not matter.
async fn get_and_flush_messages(State(chat): State<Arc<Chat>>) -> Response {
    let Flushed { pieces, gaps, dropped, fetched } = chat.postbox.flush();
    let length = pieces.iter().map(Bytes::len).sum::<usize>();
    // `fetched` is kept with the pieces, until the last one has gone.
    let frames = pieces.into_iter().map(move |piece| {
        let _ = &fetched;
        Ok::<_, Infallible>(Frame::data(piece))
    });
    let mut response = json(Body::new(StreamBody::new(tokio_stream::iter(frames))));
    // The length is known, so the answer need not be chunked, and a cut one is seen to be cut.
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if gaps > 0 {
        headers.insert(GAPS, HeaderValue::from(gaps));
    }
    if dropped > 0 {
        headers.insert(DROPPED, HeaderValue::from(dropped));
    }
    response
}

/// Whether this process serves requests: it does, or nobody would answer. The server's state is not this one's.
async fn health() -> Response {
    json("{\"status\":\"serving\"}".into())
}

/// Whether messages get through now: the stream from the server is open, and messages can leave for it.
async fn ready(State(chat): State<Arc<Chat>>) -> Result<Response, Problem> {
    let unavailable = |detail: String| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    let link = chat.link.borrow().clone();
    let Some((connection, _)) = link.connection(STREAM_PATIENCE) else {
        return unavailable(match link {
            LinkState::Unavailable(status) => format!("the server opens no stream, it says: {}", status.message()),
            _ => "the server is away: this client waits for it".to_owned(),
        });
    };
    if let Some(full) = connection.backpressure() {
        return unavailable(format!("{full}: messages wait here"));
    }
    Ok(json("{\"status\":\"ready\"}".into()))
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not for this path, see the header Allow"))
}

fn json(body: Body) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

impl From<SendError> for Problem {
    fn from(error: SendError) -> Self {
        let status = match &error {
            SendError::ServerAway
            | SendError::NoRoom(_)
            | SendError::NotAccepted(_)
            | SendError::ShuttingDown
            | SendError::Broken => StatusCode::SERVICE_UNAVAILABLE,
            SendError::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
            SendError::Refused(status) => match status.code() {
                Code::InvalidArgument => StatusCode::BAD_REQUEST,
                Code::AlreadyExists => StatusCode::CONFLICT,
                // Our server says so of one thing, the message's size.
                Code::ResourceExhausted => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_GATEWAY,
            },
            SendError::Failed(status) if status.code() == Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            SendError::Failed(_) => StatusCode::BAD_GATEWAY,
        };
        Self::new(status, error.to_string())
    }
}
