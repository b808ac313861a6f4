//! A server and what keeps its room.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use mio::{Events, Poll, Token};

use super::redis::{Done, Redis};
use crate::server::Server;
use crate::wire::{Connection, Event, Protocol};
use crate::work::{Figures, Work, measure};

/// How long a server may need until it has reached its engine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries to open a stream.
const PAUSE: Duration = Duration::from_millis(10);

/// What keeps the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The server itself.
    Embedded,
    /// A Redis that writes nothing to disk.
    InMemory,
    /// A Redis that has each message on disk before it is acknowledged.
    OnDisk,
}

/// A room with one server, all of it started here.
pub struct Room {
    // Dropped first, so that it does not see its engine go.
    server: Server,
    redis: Option<Redis>,
}

impl Kept {
    pub const ALL: [Self; 3] = [Self::Embedded, Self::InMemory, Self::OnDisk];

    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::InMemory => "Redis, `appendonly no`",
            Self::OnDisk => "Redis, `appendfsync always`",
        }
    }

    fn options(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Embedded => None,
            Self::InMemory => Some(&["--appendonly", "no"]),
            Self::OnDisk => Some(&["--appendonly", "yes", "--appendfsync", "always"]),
        }
    }
}

impl Room {
    /// Starts it; when this returns, streams open.
    pub fn start(program: &str, kept: Kept) -> Result<Self> {
        let redis = kept.options().map(Redis::start).transpose()?;
        let engine = redis.as_ref().map(|redis| format!(" MESSENGER_REDIS_URL={}", redis.url())).unwrap_or_default();
        let server = Server::start(&format!("MESSENGER_SERVER_PORT={{port}}{engine} {program}"))?;
        wait_until_open(&server)?;
        Ok(Self { server, redis })
    }

    /// Measures it under this work, and checks that nothing was lost, refused or out of order.
    pub fn measure(&self, work: Work) -> Result<Figures> {
        let done = || self.redis.as_ref().map(Redis::done).transpose();
        let before = done()?;
        let mut figures = measure(&self.server, Protocol::Grpc, work)?;
        figures.check()?;
        if let Some((before, after)) = before.zip(done()?) {
            figures.engine = per_message(before, after);
        }
        Ok(figures)
    }
}

/// The engine's CPU in ns for each message, and messages for each call of the script.
fn per_message(before: Done, after: Done) -> [f64; 2] {
    let messages = (after.messages - before.messages) as f64;
    let scripts = (after.scripts - before.scripts) as f64;
    [after.cpu.saturating_sub(before.cpu).as_nanos() as f64 / messages, messages / scripts]
}

/// A server that has not reached its engine yet refuses streams: what is measured begins when the first one has opened.
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
