//! The server's metrics. Those of calls have the names that gRPC servers usually have
//! (<https://github.com/grpc-ecosystem/go-grpc-prometheus>).

mod call;
mod labels;
mod room;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

pub(super) use self::call::{CountedCall, CountedReader};
pub(super) use self::labels::GrpcMethod;

use self::labels::StatusLabel;
use self::room::RoomCollector;
use crate::backend::Backend;
use crate::net::ConnectionMetrics;

/// The server's counters. All clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<ServerCounters>);

#[derive(Debug)]
struct ServerCounters {
    /// Whether the metrics are exported. If not, nothing is timed: reading the clock costs more
    /// than counting.
    registered: AtomicBool,
    started: Family<GrpcMethod, Counter>,
    handled: Family<(GrpcMethod, StatusLabel), Counter>,
    handling: Family<GrpcMethod, Histogram, fn() -> Histogram>,
    /// The entries of `SendMessage` in the families above. Nearly all calls are these, and they
    /// need no lookup.
    sends_started: Counter,
    sends_handled: Counter,
    sends_handling: Histogram,
    readers: Gauge,
    messages: Counter,
    message_bytes: Counter,
    repeats: Counter,
    delivered_bytes: Counter,
    lag: Histogram,
    connections: ConnectionMetrics,
    room: Arc<OnceLock<Weak<Backend>>>,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let counters = &*self.0;
        counters.registered.store(true, Ordering::Relaxed);
        registry.register("grpc_server_started", "Calls that started", counters.started.clone());
        registry.register("grpc_server_handled", "Calls that ended, by status", counters.handled.clone());
        let help = "Time of a SendMessage from its headers to its answer";
        registry.register_with_unit("grpc_server_handling", help, Unit::Seconds, counters.handling.clone());
        registry.register("messenger_readers", "Open streams", counters.readers.clone());
        registry.register("messenger_messages", "Accepted messages", counters.messages.clone());
        let help = "Messages that had been accepted before with the same idempotency key";
        registry.register("messenger_messages_repeated", help, counters.repeats.clone());
        let help = "Accepted messages in the form that readers get";
        registry.register_with_unit("messenger_message", help, Unit::Bytes, counters.message_bytes.clone());
        let help = "Messages handed to all streams";
        registry.register_with_unit("messenger_delivered", help, Unit::Bytes, counters.delivered_bytes.clone());
        let help = "How long the first message of a round waited until its readers were woken";
        registry.register_with_unit("messenger_fan_out_lag", help, Unit::Seconds, counters.lag.clone());
        counters.connections.register(registry, "messenger_server");
        registry.register_collector(Box::new(RoomCollector(Arc::clone(&counters.room))));
    }

    /// Adds the metrics of this room, if it is the first.
    pub(super) fn set_room(&self, room: &Arc<Backend>) {
        let _ = self.0.room.set(Arc::downgrade(room));
    }

    /// Counts an accepted message of so many bytes.
    pub(super) fn accepted(&self, bytes: usize) {
        self.0.messages.inc();
        self.0.message_bytes.inc_by(bytes as u64);
    }

    /// Counts a message that had been accepted before.
    pub(super) fn repeated(&self) {
        self.0.repeats.inc();
    }

    /// Counts a round that ended `lag` after its first message was accepted.
    pub(super) fn round_ended(&self, lag: Duration) {
        if self.0.registered.load(Ordering::Relaxed) {
            self.0.lag.observe(lag.as_secs_f64());
        }
    }

    /// The counters of the server's port.
    pub(super) fn connections(&self) -> ConnectionMetrics {
        self.0.connections.clone()
    }
}

impl Default for ServerCounters {
    fn default() -> Self {
        let started = Family::<GrpcMethod, Counter>::default();
        let handled = Family::<(GrpcMethod, StatusLabel), Counter>::default();
        // 50 µs to 0.8 s.
        let handling: Family<_, _, fn() -> _> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(50e-6, 4.0, 8)));
        Self {
            registered: AtomicBool::new(false),
            sends_handling: handling.get_or_create_owned(&GrpcMethod::SEND_MESSAGE),
            sends_started: started.get_or_create_owned(&GrpcMethod::SEND_MESSAGE),
            sends_handled: handled.get_or_create_owned(&(GrpcMethod::SEND_MESSAGE, StatusLabel::new(Code::Ok))),
            started,
            handled,
            handling,
            readers: Gauge::default(),
            messages: Counter::default(),
            message_bytes: Counter::default(),
            repeats: Counter::default(),
            delivered_bytes: Counter::default(),
            // 0.1 ms to 0.4 s.
            lag: Histogram::new(exponential_buckets(1e-4, 2.0, 13)),
            connections: ConnectionMetrics::default(),
            room: Arc::default(),
        }
    }
}
