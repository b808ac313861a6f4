//! How many servers a room needs.

use super::costs::Costs;
use super::outcome::{Case, Outcome, What};

/// More servers than this are not looked at.
const MOST: usize = 1 << 14;

/// When it is enough.
#[derive(Debug, Clone, Copy)]
pub enum Enough {
    /// Nothing is busier than this part of it.
    Load(f64),
    /// 99 of 100 deliveries come within so many ms, however busy the servers' cores are; the rest as with this load.
    Within { ms: f64, load: f64 },
}

impl Enough {
    /// Memory and connections may be full: they do not queue.
    fn is(self, outcome: &Outcome) -> bool {
        let (Self::Load(load) | Self::Within { load, .. }) = self;
        let fits = |what| outcome.used(what) <= load;
        let there = |what| outcome.used(what) <= 1.0;
        let cpu = match self {
            Self::Load(_) => fits(What::Cpu),
            Self::Within { ms, .. } => outcome.latency(0.99) <= ms,
        };
        cpu && [What::Network, What::EngineCpu, What::EngineNetwork].into_iter().all(fits)
            && [What::Memory, What::Connections].into_iter().all(there)
    }
}

/// The smallest number of servers that is enough; none if no number is.
pub fn servers(costs: &Costs, case: Case, enough: Enough) -> Option<Outcome> {
    let run = |servers| Case { servers: Some(servers), ..case }.run(costs);
    let least = usize::try_from(case.readers.div_ceil(costs.most_readers().max(1))).ok()?.max(1);
    let (mut too_few, mut servers, mut outcome) = (least - 1, least, run(least));
    while !enough.is(&outcome) {
        too_few = servers;
        servers = servers.saturating_mul(2);
        if servers > MOST {
            return None;
        }
        outcome = run(servers);
    }
    while servers - too_few > 1 {
        let middle = usize::midpoint(too_few, servers);
        let tried = run(middle);
        if enough.is(&tried) {
            (servers, outcome) = (middle, tried);
        } else {
            too_few = middle;
        }
    }
    Some(outcome)
}
