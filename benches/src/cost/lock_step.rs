//! Work in lock step: send, wait for all answers and deliveries, pause, and send again. The work
//! does not depend on the speed of callgrind or of the machine.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use mio::{Events, Poll, Token};

use crate::check::{Check, Received};
use crate::text;
use crate::wire::{Connection, Event, Protocol};

/// The pause after a round. It is longer than the 2.5 ms between two rounds of a busy server, so
/// the server sends each message at once.
const PAUSE: Duration = Duration::from_millis(3);
/// The time in which the server handles new and closed connections.
const GOODBYE: Duration = Duration::from_millis(100);
/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The bytes of a text.
const TEXT: usize = 100;

/// The readers, and the number of messages in flight.
#[derive(Debug, Clone, Copy)]
pub struct LockStep {
    pub readers: usize,
    /// Readers on each connection.
    pub per_connection: usize,
    /// Messages in a round, sent with one write on one connection.
    pub burst: usize,
}

struct Connections {
    poll: Poll,
    /// The sender first, then the readers.
    connections: Vec<Connection>,
    work: LockStep,
    seen: Progress,
    scratch: Vec<u8>,
    events: Events,
}

/// The messages and answers that the connections have received so far.
struct Progress {
    opened: usize,
    acknowledged: usize,
    delivered: usize,
    /// The messages of each reader.
    checks: Vec<Check>,
    failure: Option<String>,
}

impl LockStep {
    /// Does the rounds and closes the connections.
    pub fn run(self, address: SocketAddr, rounds: usize) -> Result<()> {
        let mut room = Connections::open(self, address)?;
        let mut text = [0; TEXT];
        for round in 0..rounds {
            for message in 0..self.burst {
                text::write(&mut text, 0, (round * self.burst + message) as u64, 0);
                ensure!(
                    room.connections[0].publish(&text),
                    "the server's flow control has no room for a burst"
                );
            }
            room.connections[0].flush()?;
            let sent = (round + 1) * self.burst;
            room.wait(|seen| seen.acknowledged == sent && seen.delivered == sent * self.readers)?;
            std::thread::sleep(PAUSE);
        }
        drop(room);
        std::thread::sleep(GOODBYE);
        Ok(())
    }
}

impl Connections {
    fn open(work: LockStep, address: SocketAddr) -> Result<Self> {
        let (poll, mut connections) =
            (Poll::new()?, vec![Connection::open(address, Protocol::Grpc)?]);
        for reader in 0..work.readers {
            if reader % work.per_connection == 0 {
                connections.push(Connection::open(address, Protocol::Grpc)?);
            }
            connections.last_mut().expect("one was just pushed").subscribe();
        }
        for (index, connection) in connections.iter_mut().enumerate() {
            connection.register(poll.registry(), Token(index))?;
            connection.flush()?;
        }
        let checks = vec![Check::new(1); work.readers];
        let seen = Progress { opened: 0, acknowledged: 0, delivered: 0, checks, failure: None };
        let (scratch, events) = (vec![0; 1 << 20], Events::with_capacity(64));
        let mut room = Self { poll, connections, work, seen, scratch, events };
        room.wait(|seen| seen.opened == work.readers)?;
        std::thread::sleep(GOODBYE);
        Ok(room)
    }

    fn wait(&mut self, until: impl Fn(&Progress) -> bool) -> Result<()> {
        let start = Instant::now();
        while !until(&self.seen) {
            ensure!(start.elapsed() < PATIENCE, "nothing more comes");
            self.poll.poll(&mut self.events, Some(PATIENCE))?;
            for event in &self.events {
                let Token(index) = event.token();
                let first_reader = index.saturating_sub(1) * self.work.per_connection;
                let seen = &mut self.seen;
                self.connections[index]
                    .receive(&mut self.scratch, &mut |event| seen.take(first_reader, &event))?;
            }
            if let Some(why) = self.seen.failure.take() {
                bail!(why);
            }
        }
        Ok(())
    }
}

impl Progress {
    fn take(&mut self, first_reader: usize, event: &Event<'_>) {
        match event {
            Event::Opened => self.opened += 1,
            Event::Acknowledged(count) => self.acknowledged += count,
            Event::Message { reader, text, time } => {
                self.delivered += 1;
                let check = &mut self.checks[first_reader + reader];
                let before = check.count();
                let taken = check.take(text, *time);
                if !matches!(taken, Received::Counted { disordered: false, .. }) {
                    let (reader, text) = (first_reader + reader, String::from_utf8_lossy(text));
                    self.failure.get_or_insert(format!(
                        "reader {reader}, message {before}: {taken:?}, time {time}, text {text}"
                    ));
                }
            }
            Event::Refused(why) => self.failure = Some(format!("a message was refused with {why}")),
            Event::Failed(why) => self.failure = Some(why.clone()),
        }
    }
}
