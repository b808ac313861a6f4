//! Metrics of the room, read with every scrape.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::backend::Backend;
use crate::backend::redis::Health;
use crate::room::Usage;

/// Reads the metrics of the room that the server serves.
#[derive(Debug)]
pub(super) struct RoomCollector(pub(super) Arc<OnceLock<Weak<Backend>>>);

impl Collector for RoomCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(room) = self.0.get().and_then(Weak::upgrade) else { return Ok(()) };
        let mut put = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let gauge = |value: usize| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        let Usage { bytes, keys } = room.usage();
        put("messenger_room_bytes", "Bytes of messages in memory", &gauge(bytes))?;
        put("messenger_idempotency_keys", "Idempotency keys in memory", &gauge(keys))?;
        let Some(health) = room.redis_health() else { return Ok(()) };
        let Health { connected, disconnects, new_epochs, errors } = health;
        let help = "1 while the server reads the stream of Redis";
        put("messenger_engine_open", help, &gauge(connected.into()))?;
        let help = "Times that the server stopped reading the stream of Redis";
        put("messenger_engine_lost", help, &ConstCounter::new(disconnects))?;
        let help = "Times that the room began a new epoch because messages were missing";
        put("messenger_engine_begun_anew", help, &ConstCounter::new(new_epochs))?;
        let (name, help) = ("messenger_engine_refused", "Errors of Redis, by their first word");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (error, count) in errors.iter() {
            ConstCounter::new(count).encode(family.encode_family(&[("error", error)])?)?;
        }
        Ok(())
    }
}
