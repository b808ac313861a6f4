//! What the client counts of itself.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::client::inbox::postbox::{Held, Postbox};
use crate::client::upstream::sender::SendError;
use crate::net::ConnectionMetrics;

/// The client's counters. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    link_open: Gauge,
    streams_opened: Counter,
    streams_resumed: Counter,
    streams_ended: Family<Ended, Counter>,
    gaps: Counter,
    messages: Counter,
    sends: Family<Sent, Counter>,
    requests: Family<Request, Counter>,
    durations: Family<Path, Histogram, fn() -> Histogram>,
    pages: Gauge,
    connections: ConnectionMetrics,
    /// What waits there is looked at when somebody asks.
    postbox: OnceLock<Weak<Postbox>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: String,
    path: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Path {
    path: String,
}

/// A page's stream that is counted while it is open.
#[derive(Debug)]
pub(super) struct OpenPage(Metrics);

impl Metrics {
    /// Lets them be read.
    pub fn register(&self, registry: &mut Registry) {
        let counters = &*self.0;
        let mut register = |name: &str, help: &str, counter: &Counter| {
            registry.register(format!("messenger_client_{name}"), help, counter.clone());
        };
        register("streams_opened", "Streams that the server has opened for this client", &counters.streams_opened);
        register(
            "streams_resumed",
            "Those of them that went on where the one before was cut",
            &counters.streams_resumed,
        );
        register("gaps", "Those of them before which messages may be missing", &counters.gaps);
        register("messages", "Messages that have come", &counters.messages);
        let help = "Whether the stream from the server is open";
        registry.register("messenger_client_link_open", help, counters.link_open.clone());
        registry.register(
            "messenger_client_streams_ended",
            "Streams that have ended, and why",
            counters.streams_ended.clone(),
        );
        registry.register(
            "messenger_client_sends",
            "Messages to be sent, and what became of them",
            counters.sends.clone(),
        );
        registry.register(
            "messenger_client_pages",
            "Streams of messages that are open over HTTP",
            counters.pages.clone(),
        );
        registry.register("http_requests", "Requests that were answered", counters.requests.clone());
        let help = "From the head of a request to that of its answer";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, counters.durations.clone());
        counters.connections.register(registry, "messenger_client");
        registry.register_collector(Box::new(PostboxNow(Arc::clone(&self.0))));
    }

    /// From now on what waits in this postbox is to be read too.
    pub(super) fn watch(&self, postbox: &Arc<Postbox>) {
        // Of the first one, if there are several.
        let _ = self.0.postbox.set(Arc::downgrade(postbox));
    }

    /// The server has opened a stream; `gap`: messages may be missing before it.
    pub(super) fn stream_opened(&self, resumed: bool, gap: bool) {
        self.0.streams_opened.inc();
        self.0.streams_resumed.inc_by(resumed.into());
        self.0.gaps.inc_by(gap.into());
        self.0.link_open.set(1);
    }

    /// It has ended, or could not be opened.
    pub(super) fn stream_ended(&self, reason: &str) {
        self.0.link_open.set(0);
        self.0.streams_ended.get_or_create(&Ended { reason: reason.to_owned() }).inc();
    }

    /// A message has come.
    pub(super) fn message(&self) {
        self.0.messages.inc();
    }

    /// A message was sent, or not.
    pub(super) fn sent<T>(&self, sent: &Result<T, SendError>) {
        let outcome = sent.as_ref().map_or_else(SendError::name, |_| "sent");
        self.0.sends.get_or_create(&Sent { outcome }).inc();
    }

    /// A request was answered. `path` is one of the routes, whatever a caller makes up.
    pub(super) fn answered(&self, method: &str, path: &str, status: u16, duration: Duration) {
        self.0.durations.get_or_create(&Path { path: path.to_owned() }).observe(duration.as_secs_f64());
        let request = Request { method: method.to_owned(), path: path.to_owned(), status };
        self.0.requests.get_or_create(&request).inc();
    }

    /// A page opens a stream; it goes with what this gives.
    pub(super) fn page(&self) -> OpenPage {
        self.0.pages.inc();
        OpenPage(self.clone())
    }

    /// Of the port.
    pub(super) fn connections(&self) -> ConnectionMetrics {
        self.0.connections.clone()
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            link_open: Gauge::default(),
            streams_opened: Counter::default(),
            streams_resumed: Counter::default(),
            streams_ended: Family::default(),
            gaps: Counter::default(),
            messages: Counter::default(),
            sends: Family::default(),
            requests: Family::default(),
            // 0.1 ms to 6.5 s: a send may wait for its server for 5.
            durations: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1e-4, 4.0, 9))),
            pages: Gauge::default(),
            connections: ConnectionMetrics::default(),
            postbox: OnceLock::new(),
        }
    }
}

impl Drop for OpenPage {
    fn drop(&mut self) {
        self.0.0.pages.dec();
    }
}

/// What waits in the postbox when it is read.
#[derive(Debug)]
struct PostboxNow(Arc<Counters>);

impl Collector for PostboxNow {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(postbox) = self.0.postbox.get().and_then(Weak::upgrade) else { return Ok(()) };
        let Held { bytes, dropped } = postbox.held();
        let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        let help = "Messages that wait to be fetched, as JSON";
        gauge.encode(encoder.encode_descriptor(
            "messenger_client_postbox_bytes",
            help,
            None,
            gauge.metric_type(),
        )?)?;
        let counter = ConstCounter::new(dropped);
        let help = "Messages that were dropped because nobody fetched them";
        counter.encode(encoder.encode_descriptor("messenger_client_dropped", help, None, counter.metric_type())?)
    }
}
