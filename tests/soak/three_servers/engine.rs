//! The Redis that keeps the room, and its faults: it is stopped, killed, and made to lose messages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::support::redis::{self, ON_DISK};
use crate::world::{World, now};

const NAME: &str = "the engine";

/// Empties Redis, and returns the time in microseconds. It is a script, so that no message comes in
/// between.
const EMPTY: &str = "local now = redis.call('TIME') redis.call('FLUSHALL') return now[1] * 1000000 + now[2]";

#[derive(Debug)]
pub struct Engine {
    world: Arc<World>,
    engine: redis::Engine,
    /// While it is true, the network between the servers and Redis has no faults.
    pub calm: watch::Sender<bool>,
}

/// A way in which Redis loses messages.
#[derive(Debug, Clone, Copy)]
pub enum Loss {
    /// Redis is emptied while it runs.
    Emptied,
    /// Redis is killed, and comes back with the data of a moment ago.
    Recent,
    /// Redis is killed, and comes back with the data of the last `Recent`, or with nothing.
    Old,
}

/// The losses in turn. `Old` comes twice, because a Redis with snapshots comes back with the same
/// data twice.
pub const LOSSES: [Loss; 4] = [Loss::Recent, Loss::Old, Loss::Emptied, Loss::Old];

impl Engine {
    /// Starts a Redis that has everything on disk, or nothing.
    pub fn start(world: &Arc<World>, on_disk: bool) -> Self {
        let engine = redis::Engine::start(if on_disk { &ON_DISK } else { &[] });
        world.note(|ledger| ledger.life(now()));
        Self { world: Arc::clone(world), engine, calm: watch::Sender::new(true) }
    }

    pub fn address(&self) -> SocketAddr {
        self.engine.address()
    }

    /// The current epoch of the room.
    pub fn epoch(&self) -> Option<String> {
        self.engine.run(&["HGET", "{messenger}:state", "epoch"])
    }

    pub async fn stop(&self, time: Duration) {
        self.world.journal.note(NAME, format!("stopped for {time:?}"));
        self.engine.signal("STOP");
        tokio::time::sleep(time).await;
        self.engine.signal("CONT");
    }

    /// Kills Redis, sometimes while it is stopped.
    pub fn kill(&mut self, stopped: bool) {
        if stopped {
            self.engine.signal("STOP");
        }
        self.world.journal.note(NAME, "killed");
        tokio::task::block_in_place(|| self.engine.kill());
    }

    /// Starts Redis with its data on disk, and waits until it answers.
    pub fn start_again(&mut self) {
        tokio::task::block_in_place(|| self.engine.start_again());
        self.world.journal.note(NAME, "is back");
    }

    /// Saves the present data to disk.
    pub fn save(&self) {
        let _: String = self.engine.run(&["SAVE"]);
    }

    /// Ends a life of the room.
    pub async fn lose(&mut self, loss: Loss, away: Duration) {
        self.world.journal.note(NAME, format!("loses messages: {loss:?}, away for {away:?}"));
        if let Loss::Emptied = loss {
            // No message of the new life can be recorded before the life has begun.
            self.world.note(|ledger| {
                let micros = self.engine.run(&["EVAL", EMPTY, "0"]);
                let time = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
                ledger.life(humantime::format_rfc3339_nanos(time).to_string());
            });
            return;
        }
        self.kill(false);
        self.world.note(|ledger| ledger.life(now()));
        tokio::time::sleep(away).await;
        self.start_again();
    }
}
