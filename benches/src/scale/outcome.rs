//! One room of one size, run through the model: what it takes of each machine, and how late messages are.

use hdrhistogram::Histogram;

use super::arrivals::Arrivals;
use super::costs::Costs;
use super::{hop, rounds};

/// Servers are alike: the rounds of so many are followed, and all of them at the engine.
const WATCHED: usize = 4;
/// Messages of one run of the model.
const MESSAGES: u32 = 600;

/// A room to run.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub readers: u64,
    /// Messages a second.
    pub rate: f64,
    /// Bytes of a text.
    pub text: u64,
    /// Servers of one engine; none: one server with the room in it.
    pub servers: Option<usize>,
    pub arrivals: Arrivals,
    pub seed: u64,
}

/// What it takes, of the busiest server that was followed and of the engine.
#[derive(Debug)]
pub struct Outcome {
    pub servers: usize,
    /// Readers of a server.
    pub readers: u64,
    /// As a part of what it has.
    pub bounds: Vec<Bound>,
    /// What a server and the engine send, in bit/s.
    pub egress: f64,
    pub engine_egress: f64,
    /// Bytes of a server.
    pub memory: u64,
    /// Server CPU in ns for each delivery.
    pub per_delivery: f64,
    /// In µs.
    pub latency: Histogram<u64>,
}

/// Something of which there is only so much.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    pub what: What,
    /// 1 is all of it.
    pub used: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Cpu,
    Network,
    Memory,
    Connections,
    EngineCpu,
    EngineNetwork,
}

impl Case {
    pub fn run(self, costs: &Costs) -> Outcome {
        let count = self.servers.unwrap_or(1);
        let messages = self.arrivals.messages(MESSAGES, self.rate, count, self.seed);
        let (arrived, engine) = match self.servers {
            None => (vec![hop::embedded(&messages)], hop::Engine::default()),
            Some(servers) => hop::through(costs, &messages, servers, self.text),
        };
        // The first ones have a reader more, where they can't all have the same number.
        let readers = rounds::share(self.readers, count as u64, 0);
        let mut latency = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("bounds");
        let (mut cpu, mut network, mut per_delivery) = (0.0_f64, 0.0_f64, 0.0_f64);
        let last = messages.last().map_or(0, |message| message.at);
        for (number, arrived) in arrived.iter().enumerate().take(WATCHED) {
            let served = rounds::serve(costs, readers, self.text, arrived);
            let own = messages.iter().filter(|message| message.server == number).count() as u64;
            let followed = if self.servers.is_some() { u64::from(MESSAGES) } else { 0 };
            let busy = (served.busy + costs.messages(own, followed)) as f64;
            // Of a server that is behind, until it is done.
            let time = last.max(served.end) as f64;
            cpu = cpu.max(busy / time / f64::from(costs.cores));
            network = network.max(served.bytes as f64 * 8e9 / time);
            per_delivery = per_delivery.max(busy / served.deliveries.max(1) as f64);
            latency.add(served.latency).expect("the same bounds");
        }
        let (line, engine_time) = (costs.network_gbit as f64 * 1e9, last.max(engine.end) as f64);
        let (memory, engine_egress) = (costs.memory(readers), engine.bytes as f64 * 8e9 / engine_time);
        let bounds = [
            (What::Cpu, cpu),
            (What::Network, network / line),
            (What::Memory, memory as f64 / (costs.memory_gib << 30) as f64),
            (What::Connections, readers as f64 / costs.connections as f64),
            (What::EngineCpu, engine.busy as f64 / engine_time),
            (What::EngineNetwork, engine_egress / line),
        ];
        let bounds = bounds.map(|(what, used)| Bound { what, used }).to_vec();
        Outcome { servers: count, readers, bounds, egress: network, engine_egress, memory, per_delivery, latency }
    }
}

impl Outcome {
    /// How much of it is used.
    pub fn used(&self, what: What) -> f64 {
        self.bounds.iter().find(|bound| bound.what == what).map_or(0.0, |bound| bound.used)
    }

    /// What ends first, if there is more of everything.
    pub fn first(&self) -> What {
        let most = self.bounds.iter().max_by(|left, right| left.used.total_cmp(&right.used));
        most.map_or(What::Cpu, |bound| bound.what)
    }

    /// In ms.
    pub fn latency(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

impl What {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Network => "network",
            Self::Memory => "memory",
            Self::Connections => "connections",
            Self::EngineCpu => "the engine's CPU",
            Self::EngineNetwork => "the engine's network",
        }
    }
}
