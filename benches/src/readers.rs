//! Readers that check what they get: every message once, in one order, without a gap.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use crate::text;
use crate::wire::{Connection, Event, Protocol};

/// When nothing has come for so long, nothing more will.
const SILENCE: Duration = Duration::from_secs(5);

/// What readers and senders tell each other.
#[derive(Debug, Default)]
pub struct Shared {
    /// Readers that have had a message.
    pub warm: AtomicUsize,
    /// Messages that were sent and acknowledged.
    pub published: AtomicU64,
    /// Nothing more will be published.
    pub done: AtomicBool,
    /// Messages that all readers together have had.
    pub delivered: AtomicU64,
}

/// What the readers saw.
#[derive(Debug)]
pub struct Seen {
    pub delivered: u64,
    /// Messages that a reader did not get.
    pub lost: u64,
    /// Messages that came in another order, or twice.
    pub disordered: u64,
    pub failures: Vec<&'static str>,
    /// From the intended time of sending, in microseconds.
    pub latency: Histogram<u64>,
    /// When the last message came.
    pub last: Instant,
}

#[derive(Debug, Clone)]
struct Reader {
    /// The next number of each sender.
    next: Vec<u64>,
    last_time: u64,
    count: u64,
    warm: bool,
}

/// Opens `count` readers, `per_connection` on each connection, and reads in a thread of its own until all is said and read.
pub fn start(
    address: SocketAddr,
    protocol: Protocol,
    count: usize,
    per_connection: usize,
    senders: usize,
    epoch: Instant,
    shared: Arc<Shared>,
) -> Result<JoinHandle<io::Result<Seen>>> {
    let poll = Poll::new()?;
    let mut connections = Vec::new();
    let mut opened = 0;
    while opened < count {
        let mut connection = Connection::open(address, protocol)?;
        for _ in 0..per_connection.min(count - opened) {
            connection.subscribe();
            opened += 1;
        }
        connection.register(poll.registry(), Token(connections.len()))?;
        connection.flush()?;
        connections.push(connection);
    }
    if connections.is_empty() {
        bail!("no readers");
    }
    Ok(std::thread::spawn(move || read(poll, connections, count, per_connection, senders, epoch, &shared)))
}

fn read(
    mut poll: Poll,
    mut connections: Vec<Connection>,
    count: usize,
    per_connection: usize,
    senders: usize,
    epoch: Instant,
    shared: &Shared,
) -> io::Result<Seen> {
    let mut readers = vec![Reader { next: vec![0; senders], last_time: 0, count: 0, warm: false }; count];
    let mut seen = Seen {
        delivered: 0,
        lost: 0,
        disordered: 0,
        failures: Vec::new(),
        latency: Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds"),
        last: Instant::now(),
    };
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 1 << 20];
    loop {
        poll.poll(&mut events, Some(Duration::from_millis(20)))?;
        let now = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let before = seen.delivered;
        for event in &events {
            let Token(index) = event.token();
            let result = connections[index].receive(&mut scratch, &mut |event| match event {
                Event::Message { reader, text, time } => {
                    message(&mut readers[index * per_connection + reader], text, time, now, &mut seen, shared);
                }
                Event::Failed(why) => seen.failures.push(why),
                Event::Opened | Event::Acknowledged(_) => {}
            });
            if result.is_err() {
                seen.failures.push("a connection closed");
                return Ok(seen);
            }
        }
        if seen.delivered > before {
            seen.last = Instant::now();
            shared.delivered.store(seen.delivered, Ordering::Relaxed);
        }
        if shared.done.load(Ordering::Acquire) {
            let expected = shared.published.load(Ordering::Acquire);
            if seen.delivered >= expected * count as u64 || seen.last.elapsed() > SILENCE {
                seen.lost = readers.iter().map(|reader| expected.saturating_sub(reader.count)).sum();
                return Ok(seen);
            }
        }
    }
}

fn message(reader: &mut Reader, text: &[u8], time: u64, now: u64, seen: &mut Seen, shared: &Shared) {
    let Some((sender, number, intended)) = text::read(text) else {
        seen.failures.push("a text that nobody has sent");
        return;
    };
    if sender == text::WARM_UP {
        if !reader.warm {
            reader.warm = true;
            shared.warm.fetch_add(1, Ordering::Release);
        }
        return;
    }
    // The order is the one of the times, where there are times: calls of one sender that are under way together may be accepted in
    // any order. Without them it is each sender's own. What is lost is counted at the end.
    let next = &mut reader.next[sender];
    if if time == 0 { number < *next } else { time <= reader.last_time } {
        seen.disordered += 1;
    }
    *next = number + 1;
    reader.last_time = time;
    reader.count += 1;
    seen.delivered += 1;
    let _ = seen.latency.record((now.saturating_sub(intended) / 1000).max(1));
}
