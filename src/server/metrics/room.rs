//! Metrics of the room, which are read from it whenever somebody asks.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::backend::Keeper;
use crate::room::{EngineNow, Kept};

/// Reads the metrics of the room that the server serves.
#[derive(Debug)]
pub(super) struct RoomCollector(pub(super) Arc<OnceLock<Weak<Keeper>>>);

impl Collector for RoomCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(room) = self.0.get().and_then(Weak::upgrade) else { return Ok(()) };
        let mut put = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let gauge = |value: usize| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        let Kept { bytes, keys, engine } = room.kept();
        put("messenger_room_bytes", "Bytes of messages in memory", &gauge(bytes))?;
        put("messenger_idempotency_keys", "Idempotency keys in memory", &gauge(keys))?;
        let Some(EngineNow { is_there, lost, begun_anew, refused }) = engine else { return Ok(()) };
        let help = "1 while the server reads the stream of Redis";
        put("messenger_engine_open", help, &gauge(is_there.into()))?;
        let help = "Times that the server stopped reading the stream of Redis";
        put("messenger_engine_lost", help, &ConstCounter::new(lost))?;
        let help = "Times that the room began a new epoch because messages were missing";
        put("messenger_engine_begun_anew", help, &ConstCounter::new(begun_anew))?;
        let (name, help) = ("messenger_engine_refused", "Errors of Redis, by their first word");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (error, count) in refused.iter() {
            ConstCounter::new(count).encode(family.encode_family(&[("error", error)])?)?;
        }
        Ok(())
    }
}
