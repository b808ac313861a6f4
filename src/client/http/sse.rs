//! `GET /messages`: the chat as server-sent events, for the page and for programs that read lines.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::problem::Problem;
use crate::client::inbox::history::{GAP, History, HistoryPart, HistoryReader};
use crate::client::metrics::{CountedEventStream, Metrics};
use crate::client::upstream::LinkState;
use crate::net::Peer;

/// How many event streams may be open at once. Each takes a connection, and holds a few shared
/// pieces of the history while its peer does not read.
const MAX_STREAMS: usize = 1_000;
/// A comment is sent after this much silence. It shows the page and proxies that the connection is
/// alive; proxies close idle ones after 30 to 60 seconds.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The first silence after the peer has closed its side. The first comment makes a peer that is
/// gone reset the connection, and the second one notices that. A peer that still reads gets a few
/// more comments, at intervals that grow to [`KEEPALIVE`].
const HALF_CLOSED_KEEPALIVE: Duration = Duration::from_millis(250);

const COMMENT: &[u8] = b":\n\n";
const LINK_OPEN: &[u8] = b"event: state\ndata: open\n\n";
const LINK_DOWN: &[u8] = b"event: state\ndata: down\n\n";

/// The id of the last event that the page has read. `EventSource` sends it when it reconnects.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells nginx not to buffer the answer.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The state that all event streams share.
#[derive(Debug)]
pub(in crate::client) struct EventStreams {
    history: Arc<History>,
    link: watch::Receiver<LinkState>,
    shutdown: watch::Receiver<bool>,
    free: Arc<Semaphore>,
    metrics: Metrics,
}

/// One open event stream.
struct EventStream {
    history: HistoryReader,
    link: watch::Receiver<LinkState>,
    shutdown: watch::Receiver<bool>,
    /// The last state of the link that the peer was told: whether it is open.
    told: Option<bool>,
    last_sent: Instant,
    peer: Peer,
    /// Whether the peer has closed its side of the connection.
    half_closed: bool,
    /// The silence after which the next comment is sent.
    keepalive: Duration,
    _permit: OwnedSemaphorePermit,
    _counted: CountedEventStream,
}

impl EventStreams {
    /// Event streams of `history`, which report the state of `link` and end when `shutdown` becomes
    /// true.
    pub(in crate::client) fn new(
        history: Arc<History>,
        link: watch::Receiver<LinkState>,
        shutdown: watch::Receiver<bool>,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self { history, link, shutdown, free: Arc::new(Semaphore::new(MAX_STREAMS)), metrics })
    }
}

/// Opens an event stream. It starts after the event in `Last-Event-ID`, or with the oldest event.
pub(super) async fn messages(
    State(streams): State<Arc<EventStreams>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let permit = Arc::clone(&streams.free).try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{MAX_STREAMS} streams of messages are open already"))
    })?;
    // An id that is not text is unknown, like any other that this client did not send.
    let last_id = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    let events = EventStream {
        history: streams.history.read(last_id),
        link: streams.link.clone(),
        shutdown: streams.shutdown.clone(),
        told: None,
        last_sent: Instant::now(),
        peer,
        half_closed: false,
        keepalive: KEEPALIVE,
        _permit: permit,
        _counted: streams.metrics.event_stream(),
    };
    let frames = stream::unfold(events, |mut events| async move {
        let next = events.next().await?;
        events.last_sent = Instant::now();
        Some((Ok::<_, Infallible>(Frame::data(next)), events))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::new(StreamBody::new(frames))).into_response())
}

impl EventStream {
    /// Waits for the next events. `None` when the client shuts down.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let open = self.link.borrow_and_update().open().is_some();
            if self.told.replace(open) != Some(open) {
                return Some(Bytes::from_static(if open { LINK_OPEN } else { LINK_DOWN }));
            }
            tokio::select! {
                biased;
                _ = self.shutdown.wait_for(|shutdown| *shutdown) => return None,
                Ok(()) = self.link.changed() => {}
                part = self.history.next() => return Some(match part {
                    HistoryPart::Events(events) => events,
                    // Without an id: only this page has the gap, and the next event has an id.
                    HistoryPart::Gap => Bytes::from_static(GAP),
                }),
                () = self.peer.closed(), if !self.half_closed => {
                    (self.half_closed, self.keepalive) = (true, HALF_CLOSED_KEEPALIVE);
                    return Some(Bytes::from_static(COMMENT));
                }
                () = sleep_until(self.last_sent + self.keepalive) => {
                    self.keepalive = (2 * self.keepalive).min(KEEPALIVE);
                    return Some(Bytes::from_static(COMMENT));
                }
            }
        }
    }
}
