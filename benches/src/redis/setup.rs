//! A server, and the storage of its room.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use mio::{Events, Poll, Token};

use super::process::{Redis, RedisUsage};
use crate::server::Server;
use crate::wire::{Connection, Event, Protocol};
use crate::work::{Figures, Work, measure};

/// How long a server may take to connect to Redis.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause between two attempts to open a stream.
const PAUSE: Duration = Duration::from_millis(10);

/// The storage of the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// In the memory of the server.
    Memory,
    /// In a Redis that writes nothing to disk.
    RedisInMemory,
    /// In a Redis that has each message on disk before the server acknowledges it.
    RedisOnDisk,
}

/// A server and, if the room needs one, a Redis.
pub struct RedisSetup {
    // Dropped before Redis, so that the server does not lose its connection.
    server: Server,
    redis: Option<Redis>,
}

impl Storage {
    pub const ALL: [Self; 3] = [Self::Memory, Self::RedisInMemory, Self::RedisOnDisk];

    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "in memory",
            Self::RedisInMemory => "Redis, `appendonly no`",
            Self::RedisOnDisk => "Redis, `appendfsync always`",
        }
    }

    fn options(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Memory => None,
            Self::RedisInMemory => Some(&["--appendonly", "no"]),
            Self::RedisOnDisk => Some(&["--appendonly", "yes", "--appendfsync", "always"]),
        }
    }
}

impl RedisSetup {
    /// Starts the server and Redis, and waits until a stream opens.
    pub fn start(program: &str, storage: Storage) -> Result<Self> {
        let redis = storage.options().map(Redis::start).transpose()?;
        let variable = redis
            .as_ref()
            .map(|redis| format!(" MESSENGER_REDIS_URL={}", redis.url()))
            .unwrap_or_default();
        let server = Server::start(&format!("MESSENGER_SERVER_PORT={{port}}{variable} {program}"))?;
        wait_until_open(&server)?;
        Ok(Self { server, redis })
    }

    /// Measures the server, and checks that no message was lost, refused or out of order.
    pub fn measure(&self, work: Work) -> Result<Figures> {
        let usage = || self.redis.as_ref().map(Redis::usage).transpose();
        let before = usage()?;
        let mut figures = measure(&self.server, Protocol::Grpc, work)?;
        figures.check()?;
        if let Some((before, after)) = before.zip(usage()?) {
            (figures.redis_cpu, figures.redis_batch) = per_message(before, after);
        }
        Ok(figures)
    }
}

/// The CPU time of Redis in ns for each message, and the messages for each call of the script.
fn per_message(before: RedisUsage, after: RedisUsage) -> (f64, f64) {
    let messages = (after.messages - before.messages) as f64;
    let scripts = (after.scripts - before.scripts) as f64;
    (after.cpu.saturating_sub(before.cpu).as_nanos() as f64 / messages, messages / scripts)
}

/// Waits until the server opens a stream. It refuses streams until it has connected to Redis.
fn wait_until_open(server: &Server) -> Result<()> {
    let start = Instant::now();
    while !opens(server)? {
        if start.elapsed() > PATIENCE {
            bail!("the server opens no stream");
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn opens(server: &Server) -> Result<bool> {
    let (mut poll, mut events, start) = (Poll::new()?, Events::with_capacity(4), Instant::now());
    let mut connection = Connection::open(server.address, Protocol::Grpc)?;
    connection.subscribe();
    connection.register(poll.registry(), Token(0))?;
    connection.flush()?;
    let (mut opened, mut scratch) = (None, vec![0; 1 << 16]);
    while opened.is_none() && start.elapsed() < PATIENCE {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        connection.receive(&mut scratch, &mut |event| match event {
            Event::Opened => opened = Some(true),
            Event::Failed(_) => opened = Some(false),
            _ => {}
        })?;
    }
    Ok(opened == Some(true))
}
