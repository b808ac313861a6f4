//! The client's metrics.

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

use crate::client::inbox::postbox::{Postbox, PostboxUsage};
use crate::net::ConnectionMetrics;

/// The client's metrics. Clones share the same counters.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<ClientCounters>);

#[derive(Debug)]
struct ClientCounters {
    link_open: Gauge,
    streams_opened: Counter,
    streams_resumed: Counter,
    streams_ended: Family<LinkEndLabels, Counter>,
    gaps: Counter,
    messages: Counter,
    sends: Family<SendLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    durations: Family<PathLabels, Histogram, fn() -> Histogram>,
    pages: Gauge,
    connections: ConnectionMetrics,
    /// The postbox, whose usage is read with every scrape.
    postbox: OnceLock<Weak<Postbox>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LinkEndLabels {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SendLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    path: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabels {
    path: String,
}

/// An event stream, counted until this is dropped.
#[derive(Debug)]
pub(super) struct CountedEventStream(Metrics);

impl Metrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let counters = &*self.0;
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(format!("messenger_client_{name}"), help, counter.clone());
        };
        counter("streams_opened", "Streams that the server opened for this client", &counters.streams_opened);
        counter("streams_resumed", "Opened streams that resumed without a gap", &counters.streams_resumed);
        counter("gaps", "Opened streams before which messages may be missing", &counters.gaps);
        counter("messages", "Messages that the client received", &counters.messages);
        let help = "Whether the stream from the server is open";
        registry.register("messenger_client_link_open", help, counters.link_open.clone());
        let help = "Streams that ended or could not be opened, by reason";
        registry.register("messenger_client_streams_ended", help, counters.streams_ended.clone());
        let help = "Messages that callers asked the client to send, by outcome";
        registry.register("messenger_client_sends", help, counters.sends.clone());
        let help = "Event streams (GET /messages) that are open";
        registry.register("messenger_client_pages", help, counters.pages.clone());
        registry.register("http_requests", "Answered HTTP requests", counters.requests.clone());
        let help = "Time from the head of a request to the head of its answer";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, counters.durations.clone());
        counters.connections.register(registry, "messenger_client");
        registry.register_collector(Box::new(PostboxCollector(Arc::clone(&self.0))));
    }

    /// Includes the usage of this postbox in the metrics. A second postbox is not included.
    pub(super) fn watch(&self, postbox: &Arc<Postbox>) {
        let _ = self.0.postbox.set(Arc::downgrade(postbox));
    }

    /// Counts a stream that the server opened. `gap`: messages may be missing before it.
    pub(super) fn stream_opened(&self, resumed: bool, gap: bool) {
        self.0.streams_opened.inc();
        self.0.streams_resumed.inc_by(resumed.into());
        self.0.gaps.inc_by(gap.into());
        self.0.link_open.set(1);
    }

    /// Counts a stream that ended, or could not be opened.
    pub(super) fn stream_ended(&self, reason: &str) {
        self.0.link_open.set(0);
        self.0.streams_ended.get_or_create(&LinkEndLabels { reason: reason.to_owned() }).inc();
    }

    /// Counts a message that the client received.
    pub(super) fn message(&self) {
        self.0.messages.inc();
    }

    /// Counts a send.
    pub(super) fn send(&self, outcome: &'static str) {
        self.0.sends.get_or_create(&SendLabels { outcome }).inc();
    }

    /// Counts an answered request. `path` is one of the routes, not text from the caller.
    pub(super) fn answered(&self, method: &str, path: &str, status: u16, duration: Duration) {
        self.0.durations.get_or_create(&PathLabels { path: path.to_owned() }).observe(duration.as_secs_f64());
        let labels = RequestLabels { method: method.to_owned(), path: path.to_owned(), status };
        self.0.requests.get_or_create(&labels).inc();
    }

    /// Counts an event stream until the returned value is dropped.
    pub(super) fn event_stream(&self) -> CountedEventStream {
        self.0.pages.inc();
        CountedEventStream(self.clone())
    }

    /// The counters for connections to the HTTP port.
    pub(super) fn connections(&self) -> ConnectionMetrics {
        self.0.connections.clone()
    }
}

impl Default for ClientCounters {
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
            // 0.1 ms to 6.5 s: a send may wait 5 s for the server.
            durations: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1e-4, 4.0, 9))),
            pages: Gauge::default(),
            connections: ConnectionMetrics::default(),
            postbox: OnceLock::new(),
        }
    }
}

impl Drop for CountedEventStream {
    fn drop(&mut self) {
        self.0.0.pages.dec();
    }
}

/// Reads the usage of the postbox with every scrape.
#[derive(Debug)]
struct PostboxCollector(Arc<ClientCounters>);

impl Collector for PostboxCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(postbox) = self.0.postbox.get().and_then(Weak::upgrade) else { return Ok(()) };
        let PostboxUsage { bytes, dropped } = postbox.usage();
        let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        let (name, help) = ("messenger_client_postbox_bytes", "Bytes of JSON that wait for the next flush");
        gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        let counter = ConstCounter::new(dropped);
        let (name, help) = ("messenger_client_dropped", "Messages that were dropped because nobody flushed them");
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
    }
}
