//! The backend that gives messages their time and place, as an argument of a test.

use std::net::SocketAddr;
use std::sync::LazyLock;

use tokio::net::TcpListener;

use super::program::{self, Program};
use super::redis::Engine;
use super::{Running, free_port};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The memory of the server's process.
    Memory,
    /// One Redis for all tests of this process, with a room of its own for each server.
    Redis,
}

impl Backend {
    /// Starts a server in this process, with a room of its own.
    pub fn server(self, flags: &[&str]) -> Running {
        self.server_on(free_port(), flags)
    }

    pub fn server_on(self, listener: TcpListener, flags: &[&str]) -> Running {
        let room = self.room();
        let room = room.iter().flat_map(|(url, name)| ["--redis-url", url, "--redis-room", name]);
        let flags: Vec<&str> = flags.iter().copied().chain(room).collect();
        super::server_on(listener, &flags)
    }

    /// Starts the server's program on a free port, with a room of its own.
    pub async fn program(self, variables: &[(&str, &str)]) -> (Program, SocketAddr) {
        let room = self.variables();
        let room = room.iter().map(|(name, value)| (*name, value.as_str()));
        program::server(&variables.iter().copied().chain(room).collect::<Vec<_>>()).await
    }

    /// Starts the server's program on this port, with a room of its own.
    pub async fn program_at(self, address: SocketAddr) -> Program {
        let room = self.variables();
        let room: Vec<_> = room.iter().map(|(name, value)| (*name, value.as_str())).collect();
        program::server_with(address, &room).await
    }

    /// The environment of a server's program that gives it a room of its own.
    pub fn variables(self) -> Vec<(&'static str, String)> {
        let room = self.room().map(|(url, name)| [("MESSENGER_REDIS_URL", url), ("MESSENGER_REDIS_ROOM", name)]);
        room.into_iter().flatten().collect()
    }

    /// The URL of Redis and the name of a new room.
    fn room(self) -> Option<(String, String)> {
        static REDIS: LazyLock<Engine> = LazyLock::new(|| Engine::start(&[]));
        match self {
            Self::Memory => None,
            Self::Redis => {
                // Before the lock: an ignored test must not poison it.
                super::redis::require();
                Some((REDIS.url(), format!("room-{:x}", fastrand::u64(..))))
            }
        }
    }
}
