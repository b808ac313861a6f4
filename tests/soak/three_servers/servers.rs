//! The servers of the room. Each reaches the engine through a bad network of its own.

use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use crate::proxy::{Proxy, proxy};
use crate::support::program::{Program, server_with};
use crate::world::World;

/// The mean time of a connection to the engine without a fault.
const PEACE: Duration = Duration::from_secs(1);

/// One of them, one life after the other.
#[derive(Debug)]
pub struct Server {
    world: Arc<World>,
    name: String,
    /// Its place among all.
    pub index: usize,
    to_engine: Proxy,
    program: Program,
}

impl Server {
    /// Starts it for its first life.
    pub async fn start(world: &Arc<World>, engine: &Engine, index: usize, random: fastrand::Rng) -> Self {
        let name = format!("the server {}", index + 1);
        let way = format!("{name} on its way to the engine");
        let calm = engine.calm.subscribe();
        let to_engine = proxy(&way, engine.address(), random, PEACE, calm, &world.counters, &world.journal);
        let program = launch(world, index, &to_engine).await;
        Self { world: Arc::clone(world), name, index, to_engine, program }
    }

    pub async fn stop(&self, time: Duration) {
        self.world.journal.note(&self.name, format!("stopped for {time:?}"));
        self.program.signal("STOP");
        tokio::time::sleep(time).await;
        self.program.signal("CONT");
    }

    /// Kills it, sometimes while it is stopped.
    pub async fn kill(&mut self, stopped: bool) {
        if stopped {
            self.program.signal("STOP");
        }
        self.world.journal.note(&self.name, "killed");
        self.program.signal("KILL");
        self.program.exit().await;
    }

    /// Starts it for its next life; it listens when this returns.
    pub async fn start_again(&mut self) {
        self.program = launch(&self.world, self.index, &self.to_engine).await;
        self.world.journal.note(&self.name, "listens");
    }

    /// Its own last words.
    pub fn last_lines(&mut self) -> String {
        format!("what {} says of it:\n{}", self.name, self.program.last_lines(12))
    }
}

async fn launch(world: &World, index: usize, to_engine: &Proxy) -> Program {
    let url = format!("redis://{}", to_engine.address);
    server_with(world.servers[index], &[("MESSENGER_REDIS_URL", &url)]).await
}
