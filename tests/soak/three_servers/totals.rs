//! The totals of faults and their effects, in one line.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::world::World;

#[derive(Debug)]
pub struct Totals {
    start: Instant,
    pub kills: AtomicU64,
    pub engine_kills: AtomicU64,
    /// How often Redis has lost messages.
    pub losses: AtomicU64,
    pub stops: AtomicU64,
    /// How long readers took to read again.
    pub returns: Mutex<Vec<Duration>>,
}

pub fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub fn of(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Totals {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            kills: AtomicU64::new(0),
            engine_kills: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            stops: AtomicU64::new(0),
            returns: Mutex::default(),
        }
    }

    pub fn line(&self, world: &World) -> String {
        let counts = world.note(|ledger| ledger.counts);
        let mut returns = self.returns.lock().unwrap().clone();
        returns.sort();
        format!(
            "{:.0} s, {} server kills, {} engine kills, {} losses of the engine, {} stops, {} cuts; {} messages acknowledged, \
             {} of unknown fate, {} refused, {} deliveries; {} gone with what the engine lost, {} gaps told; reading again after \
             {:.0?} in the median, {:.0?} at most",
            self.start.elapsed().as_secs_f64(),
            of(&self.kills),
            of(&self.engine_kills),
            of(&self.losses),
            of(&self.stops),
            of(&world.counters.cuts),
            counts.acknowledged,
            counts.unknown,
            counts.refused,
            counts.received,
            counts.gone,
            counts.gaps,
            returns.get(returns.len() / 2).copied().unwrap_or_default(),
            returns.last().copied().unwrap_or_default(),
        )
    }
}
