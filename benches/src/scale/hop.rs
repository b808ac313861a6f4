//! From a sender's server through the engine to all servers, event by event.
//!
//! A server hands its messages over in batches: while one is on its way, the next one gathers (`src/backend/redis/append.rs`). It has one
//! XREAD at the engine, and asks again when it has the answer (`follower.rs`). The engine does one thing after the other; a script's
//! messages go to those who wait for them before anybody else gets an answer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::arrivals::Sent;
use super::costs::{Costs, read_bytes};

/// Messages of one batch, as the server has it.
const BATCH: usize = 256;
/// Messages of one XREAD, as the server has it.
const READ: usize = 1024;

/// A message that has come to a server, in ns from the beginning.
#[derive(Debug, Clone, Copy)]
pub struct Arrived {
    pub sent: u64,
    pub at: u64,
}

/// What the engine did.
#[derive(Debug, Default)]
pub struct Engine {
    /// Processor time in ns.
    pub busy: u64,
    /// What it sent, in bytes on the wire.
    pub bytes: u64,
    /// When it had done the last of it, in ns.
    pub end: u64,
}

/// Without an engine a message is there when it was sent.
pub fn embedded(messages: &[Sent]) -> Vec<Arrived> {
    messages.iter().map(|message| Arrived { sent: message.at, at: message.at }).collect()
}

/// Of each server, the messages in the order in which they come to it; and what that was for the engine.
pub fn through(costs: &Costs, messages: &[Sent], servers: usize, text: u64) -> (Vec<Vec<Arrived>>, Engine) {
    let mut hop = Hop {
        costs,
        messages,
        text,
        servers: (0..servers).map(|_| Server { waits: true, ..Server::default() }).collect(),
        events: messages.iter().enumerate().map(|(message, sent)| Reverse((sent.at, Event::Sent(message)))).collect(),
        stream: Vec::new(),
        jobs: VecDeque::new(),
        works: false,
        engine: Engine::default(),
    };
    while let Some(Reverse((now, event))) = hop.events.pop() {
        hop.take(now, event);
    }
    (hop.servers.into_iter().map(|server| server.arrived).collect(), hop.engine)
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A message is with its server.
    Sent(usize),
    /// A batch of this server is with the engine.
    Script(usize, Vec<usize>),
    /// The engine's answer to it is with the server.
    Answered(usize),
    /// The server's XREAD is with the engine.
    Read(usize),
    /// The engine has done a script.
    ScriptDone(usize, Vec<usize>),
    /// It has done a read, of so many messages.
    ReadDone(usize, usize),
}

#[derive(Debug)]
enum Job {
    Script(usize, Vec<usize>),
    Read(usize),
}

#[derive(Debug, Default)]
struct Server {
    /// Messages for the next batch, and whether one is on its way.
    gathered: VecDeque<usize>,
    writes: bool,
    /// How far it has read, and whether its XREAD waits for more.
    cursor: usize,
    waits: bool,
    arrived: Vec<Arrived>,
}

struct Hop<'a> {
    costs: &'a Costs,
    messages: &'a [Sent],
    text: u64,
    servers: Vec<Server>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    /// The messages in their order.
    stream: Vec<usize>,
    jobs: VecDeque<Job>,
    works: bool,
    engine: Engine,
}

impl Hop<'_> {
    fn take(&mut self, now: u64, event: Event) {
        match event {
            Event::Sent(message) => {
                let server = self.messages[message].server;
                self.servers[server].gathered.push_back(message);
                self.write(now, server);
            }
            Event::Answered(server) => {
                self.servers[server].writes = false;
                self.write(now, server);
            }
            Event::Script(server, batch) => self.jobs.push_back(Job::Script(server, batch)),
            Event::Read(server) if self.servers[server].cursor == self.stream.len() => {
                self.servers[server].waits = true;
            }
            Event::Read(server) => self.jobs.push_back(Job::Read(server)),
            Event::ScriptDone(server, batch) => {
                self.works = false;
                self.stream.extend(batch);
                self.events.push(Reverse((now + self.costs.hop(), Event::Answered(server))));
                for server in (0..self.servers.len()).rev() {
                    if std::mem::take(&mut self.servers[server].waits) {
                        self.jobs.push_front(Job::Read(server));
                    }
                }
            }
            Event::ReadDone(server, count) => {
                self.works = false;
                self.engine.bytes += read_bytes(count as u64, self.text);
                let (messages, at) = (self.messages, now + self.costs.hop());
                let Server { cursor, arrived, .. } = &mut self.servers[server];
                let read = &self.stream[*cursor..*cursor + count];
                arrived.extend(read.iter().map(|message| Arrived { sent: messages[*message].at, at }));
                *cursor += count;
                self.events.push(Reverse((at + self.costs.hop(), Event::Read(server))));
            }
        }
        self.work(now);
    }

    fn write(&mut self, now: u64, number: usize) {
        let server = &mut self.servers[number];
        if server.writes || server.gathered.is_empty() {
            return;
        }
        server.writes = true;
        let batch = server.gathered.drain(..server.gathered.len().min(BATCH)).collect();
        self.events.push(Reverse((now + self.costs.hop(), Event::Script(number, batch))));
    }

    /// The engine does what comes next.
    fn work(&mut self, now: u64) {
        if self.works {
            return;
        }
        let Some(job) = self.jobs.pop_front() else { return };
        self.works = true;
        let (count, done) = match job {
            Job::Script(server, batch) => (batch.len(), Event::ScriptDone(server, batch)),
            Job::Read(server) => {
                let count = (self.stream.len() - self.servers[server].cursor).min(READ);
                (count, Event::ReadDone(server, count))
            }
        };
        let cost = self.costs.engine(count as u64);
        self.engine.busy += cost;
        self.engine.end = now + cost;
        self.events.push(Reverse((now + cost, done)));
    }
}
