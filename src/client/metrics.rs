//! What the client counts of itself.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::net::Counts;

/// The client's counters. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    connections: Counts,
}

impl Metrics {
    /// Lets them be read.
    pub fn register(&self, registry: &mut Registry) {
        self.0.connections.register(registry, "messenger_client");
    }

    /// Of the port.
    pub(super) fn connections(&self) -> Counts {
        self.0.connections.clone()
    }
}
