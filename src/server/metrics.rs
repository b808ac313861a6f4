//! What the server counts of itself, the calls under the names that gRPC servers have for it
//! (<https://github.com/grpc-ecosystem/go-grpc-prometheus>).

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

use crate::backend::Keeper;
use crate::net::ConnectionMetrics;
use crate::proto;
use crate::room::{EngineNow, Kept};

/// The server's counters. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    /// Somebody may read them. If not nothing is timed: looking at the clock costs more than counting.
    read: AtomicBool,
    started: Family<Method, Counter>,
    handled: Family<(Method, Handled), Counter>,
    handling: Family<Method, Histogram, fn() -> Histogram>,
    /// Of `SendMessage` that succeeds, which is nearly every call: found without a look-up.
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
    /// What there is in the room is looked at when somebody asks.
    room: OnceLock<Weak<Keeper>>,
}

/// Which call, in gRPC's words.
#[allow(clippy::struct_field_names, reason = "the names of the labels")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Method {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_code: CodeName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct CodeName(Code);

/// A call that is counted as handled when it ends; as cancelled, if its caller goes before.
#[derive(Debug)]
pub(super) struct Call {
    metrics: Metrics,
    method: &'static Method,
    start: Option<Instant>,
    ended: bool,
}

/// What is in the room when it is read.
#[derive(Debug)]
struct RoomNow(Arc<Counters>);

impl Collector for RoomNow {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(room) = self.0.room.get().and_then(Weak::upgrade) else { return Ok(()) };
        let Kept { bytes, keys, engine } = room.kept();
        for (name, help, value) in [
            ("messenger_room_bytes", "Messages that are kept", bytes),
            ("messenger_idempotency_keys", "Keys that are remembered", keys),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let Some(EngineNow { is_there, lost, begun_anew, refused }) = engine else { return Ok(()) };
        let gauge = ConstGauge::new(i64::from(is_there));
        let help = "Whether the engine that keeps the room is there";
        gauge.encode(encoder.encode_descriptor("messenger_engine_open", help, None, gauge.metric_type())?)?;
        for (name, help, value) in [
            ("messenger_engine_lost", "How often the engine was lost", lost),
            ("messenger_engine_begun_anew", "How often the room began anew, messages missing", begun_anew),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let (name, help) =
            ("messenger_engine_refused", "How often the engine answered with an error, by its first word");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (error, count) in refused.iter() {
            ConstCounter::new(count).encode(family.encode_family(&[("error", error)])?)?;
        }
        Ok(())
    }
}

/// A reader that is counted while it is there.
#[derive(Debug)]
pub(super) struct OpenReader(Metrics);

impl Metrics {
    /// Lets them be read.
    pub fn register(&self, registry: &mut Registry) {
        self.0.read.store(true, Ordering::Relaxed);
        let Counters {
            started,
            handled,
            handling,
            readers,
            messages,
            message_bytes,
            repeats,
            delivered_bytes,
            lag,
            connections,
            ..
        } = &*self.0;
        registry.register("grpc_server_started", "Calls that have begun", started.clone());
        registry.register("grpc_server_handled", "Calls that have ended, and how", handled.clone());
        let help = "From the headers of a SendMessage to its answer";
        registry.register_with_unit("grpc_server_handling", help, Unit::Seconds, handling.clone());
        registry.register("messenger_readers", "Streams that are open", readers.clone());
        registry.register("messenger_messages", "Messages accepted", messages.clone());
        let help = "Messages that had been accepted before, under the same key, and changed nothing";
        registry.register("messenger_messages_repeated", help, repeats.clone());
        registry.register_with_unit(
            "messenger_message",
            "Messages accepted, as readers get them",
            Unit::Bytes,
            message_bytes.clone(),
        );
        let help = "Messages handed to streams, all readers together";
        registry.register_with_unit("messenger_delivered", help, Unit::Bytes, delivered_bytes.clone());
        let help = "How long a message waited before its readers were woken";
        registry.register_with_unit("messenger_fan_out_lag", help, Unit::Seconds, lag.clone());
        connections.register(registry, "messenger_server");
        registry.register_collector(Box::new(RoomNow(Arc::clone(&self.0))));
    }

    /// From now on what is in this room is to be read too.
    pub(super) fn watch(&self, room: &Arc<Keeper>) {
        // Of the first room, if there are several.
        let _ = self.0.room.set(Arc::downgrade(room));
    }

    /// A call begins.
    pub(super) fn begin(&self, method: &'static Method) -> Call {
        if *method == Method::SEND_MESSAGE {
            self.0.sends_started.inc();
        } else {
            self.0.started.get_or_create(method).inc();
        }
        let start = self.0.read.load(Ordering::Relaxed).then(Instant::now);
        Call { metrics: self.clone(), method, start, ended: false }
    }

    /// A message of so many bytes was accepted.
    pub(super) fn accepted(&self, bytes: usize) {
        self.0.messages.inc();
        self.0.message_bytes.inc_by(bytes as u64);
    }

    /// A message came that was accepted before.
    pub(super) fn repeated(&self) {
        self.0.repeats.inc();
    }

    /// A round ended, so long after its first message was accepted.
    pub(super) fn round(&self, lag: std::time::Duration) {
        if self.0.read.load(Ordering::Relaxed) {
            self.0.lag.observe(lag.as_secs_f64());
        }
    }

    /// Of the port.
    pub(super) fn connections(&self) -> ConnectionMetrics {
        self.0.connections.clone()
    }
}

impl Default for Counters {
    fn default() -> Self {
        let (started, handled) =
            (Family::<Method, Counter>::default(), Family::<(Method, Handled), Counter>::default());
        let ok = Handled { grpc_code: CodeName(Code::Ok) };
        // 50 us to 0.8 s.
        let handling: Family<_, _, fn() -> _> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(50e-6, 4.0, 8)));
        Self {
            read: AtomicBool::new(false),
            sends_handling: handling.get_or_create_owned(&Method::SEND_MESSAGE),
            sends_started: started.get_or_create_owned(&Method::SEND_MESSAGE),
            sends_handled: handled.get_or_create_owned(&(Method::SEND_MESSAGE, ok)),
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
            room: OnceLock::new(),
        }
    }
}

/// All that can be called.
static KNOWN: [Method; 6] = [
    Method::SEND_MESSAGE,
    Method::of("server_stream", proto::SERVICE, "ReadMessages"),
    Method::of("unary", "grpc.health.v1.Health", "Check"),
    Method::of("server_stream", "grpc.health.v1.Health", "Watch"),
    Method::of("bidi_stream", "grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
    Method::of("bidi_stream", "grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
];

impl Method {
    const SEND_MESSAGE: Self = Self::of("unary", proto::SERVICE, "SendMessage");
    /// Whatever a caller makes up is one name here: each name is memory.
    const UNKNOWN: Self = Self::of("unknown", "unknown", "unknown");

    const fn of(grpc_type: &'static str, grpc_service: &'static str, grpc_method: &'static str) -> Self {
        Self { grpc_type, grpc_service, grpc_method }
    }

    /// Whether there is a method of that name.
    pub(super) fn is_known(&self) -> bool {
        *self != Self::UNKNOWN
    }

    /// The method at this path.
    pub(super) fn at(path: &str) -> &'static Self {
        let named = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let known =
            |(service, method)| KNOWN.iter().find(|known| known.grpc_service == service && known.grpc_method == method);
        named.and_then(known).unwrap_or(&Method::UNKNOWN)
    }
}

impl EncodeLabelValue for CodeName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        // As gRPC's own libraries write the names.
        match self.0 {
            Code::Ok => "OK".encode(encoder),
            Code::Cancelled => "Canceled".encode(encoder),
            other => format!("{other:?}").as_str().encode(encoder),
        }
    }
}

impl Call {
    /// It has ended with this code, or because its caller has gone.
    pub(super) fn end(&mut self, code: Option<Code>) {
        if let Some(code) = code {
            self.count(code);
        }
    }

    /// Its reader is there; and goes with what this gives.
    pub(super) fn reader(&self) -> OpenReader {
        self.metrics.0.readers.inc();
        OpenReader(self.metrics.clone())
    }

    fn count(&mut self, code: Code) {
        self.ended = true;
        let counters = &*self.metrics.0;
        if *self.method == Method::SEND_MESSAGE {
            if let Some(start) = self.start {
                counters.sends_handling.observe(start.elapsed().as_secs_f64());
            }
            if code == Code::Ok {
                counters.sends_handled.inc();
                return;
            }
        }
        counters.handled.get_or_create(&(*self.method, Handled { grpc_code: CodeName(code) })).inc();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.count(Code::Cancelled);
        }
    }
}

impl OpenReader {
    /// It was given so many bytes of messages.
    pub(super) fn delivered(&self, bytes: usize) {
        self.0.0.delivered_bytes.inc_by(bytes as u64);
    }
}

impl Drop for OpenReader {
    fn drop(&mut self) {
        self.0.0.readers.dec();
    }
}
