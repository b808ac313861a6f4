//! `GET /messages`: the chat as server-sent events, live, for pages and for whoever likes lines of text.

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
use tokio::time::Instant;

use super::problem::Problem;
use crate::client::inbox::history::{Found, GAP, History, Reader};
use crate::client::metrics::{Metrics, OpenPage};
use crate::client::upstream::link_state::LinkState;
use crate::client::upstream::sender::STREAM_PATIENCE;
use crate::net::Peer;

/// How many of these may be open at once. Each is a connection, and a few shared pieces of the history while its peer does not read.
const MAX_STREAMS: usize = 1_000;
/// After this much silence a comment shows that the connection is alive, to the page and to proxies, which close idle ones after 30 to
/// 60 seconds.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The same after the peer has closed its side. The first comment makes a peer that is gone reset the
/// connection, and the second one meets that. A peer that still reads gets some comments more, at a pace
/// that goes back to [`KEEPALIVE`].
const PROBE: Duration = Duration::from_millis(250);

const ALIVE: &[u8] = b":\n\n";
const OPEN: &[u8] = b"event: state\ndata: open\n\n";
const DOWN: &[u8] = b"event: state\ndata: down\n\n";

/// The position from which the page goes on (`EventSource` sends it by itself when it reconnects).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks nginx not to collect the answer before it passes it on.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What the streams are made from.
#[derive(Debug)]
pub(crate) struct Streams {
    history: Arc<History>,
    link: watch::Receiver<LinkState>,
    ending: watch::Receiver<bool>,
    free: Arc<Semaphore>,
    metrics: Metrics,
}

/// One open stream.
struct Stream {
    reader: Reader,
    link: watch::Receiver<LinkState>,
    ending: watch::Receiver<bool>,
    /// Whether the page was told that the server is there.
    told: Option<bool>,
    last_sent: Instant,
    peer: Peer,
    /// The peer has closed its side, and was probed for the first time.
    closed: bool,
    /// How long a silence may be now.
    keepalive: Duration,
    _place: OwnedSemaphorePermit,
    _counted: OpenPage,
}

impl Streams {
    /// Streams of `history`, which say how `link` stands, and end when `ending` becomes true.
    pub(crate) fn new(
        history: Arc<History>,
        link: watch::Receiver<LinkState>,
        ending: watch::Receiver<bool>,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self { history, link, ending, free: Arc::new(Semaphore::new(MAX_STREAMS)), metrics })
    }
}

/// Opens a stream: with `Last-Event-ID` what came after that event, else everything that is kept, and then what comes.
pub(crate) async fn messages(
    State(streams): State<Arc<Streams>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = Arc::clone(&streams.free).try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{MAX_STREAMS} streams of messages are open already"))
    })?;
    // What is no text is no identity that was given here.
    let id = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    let stream = Stream {
        reader: streams.history.read(id),
        link: streams.link.clone(),
        ending: streams.ending.clone(),
        told: None,
        last_sent: Instant::now(),
        peer,
        closed: false,
        keepalive: KEEPALIVE,
        _place: place,
        _counted: streams.metrics.page(),
    };
    let frames = stream::unfold(stream, |mut stream| async move {
        let events = stream.next().await?;
        stream.last_sent = Instant::now();
        Some((Ok::<_, Infallible>(Frame::data(events)), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::new(StreamBody::new(frames))).into_response())
}

impl Stream {
    /// The next events; `None` when the client ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let open = self.link.borrow_and_update().connection(STREAM_PATIENCE).is_some();
            if self.told.replace(open) != Some(open) {
                return Some(Bytes::from_static(if open { OPEN } else { DOWN }));
            }
            tokio::select! {
                biased;
                _ = self.ending.wait_for(|ending| *ending) => return None,
                Ok(()) = self.link.changed() => {}
                found = self.reader.next() => return Some(match found {
                    Found::Events(events) => events,
                    // Without an identity: it is this page's own, and the next event has one.
                    Found::Gap => Bytes::from_static(GAP),
                }),
                () = self.peer.closed(), if !self.closed => {
                    (self.closed, self.keepalive) = (true, PROBE);
                    return Some(Bytes::from_static(ALIVE));
                }
                () = tokio::time::sleep_until(self.last_sent + self.keepalive) => {
                    self.keepalive = (2 * self.keepalive).min(KEEPALIVE);
                    return Some(Bytes::from_static(ALIVE));
                }
                // A link that has been opening for long enough counts as open, and tells nobody of that moment.
                () = tokio::time::sleep(STREAM_PATIENCE), if !open => {}
            }
        }
    }
}
