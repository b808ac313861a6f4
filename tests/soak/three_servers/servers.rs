//! The servers of the room. Each has its own network with faults to Redis.

use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use crate::proxy::{Proxy, proxy};
use crate::support::program::{Program, server_with};
use crate::world::World;

/// The mean time of a connection to Redis without a fault.
const PEACE: Duration = Duration::from_secs(1);

/// One server through all its lives.
#[derive(Debug)]
pub struct Server {
    world: Arc<World>,
    name: String,
    /// The index of the server.
    pub index: usize,
    to_engine: Proxy,
    program: Program,
}

impl Server {
    /// Starts the server for its first life.
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

    /// Kills the server, sometimes while it is stopped.
    pub async fn kill(&mut self, stopped: bool) {
        if stopped {
            self.program.signal("STOP");
        }
        self.world.journal.note(&self.name, "killed");
        self.program.signal("KILL");
        self.program.exit().await;
    }

    /// Starts the server for its next life, and waits until it listens.
    pub async fn start_again(&mut self) {
        self.program = launch(&self.world, self.index, &self.to_engine).await;
        self.world.journal.note(&self.name, "listens");
    }

    /// The last lines of the server's log.
    pub fn last_lines(&mut self) -> String {
        format!("what {} says of it:\n{}", self.name, self.program.last_lines(12))
    }
}

async fn launch(world: &World, index: usize, to_engine: &Proxy) -> Program {
    let url = format!("redis://{}", to_engine.address);
    server_with(world.servers[index], &[("MESSENGER_REDIS_URL", &url)]).await
}
