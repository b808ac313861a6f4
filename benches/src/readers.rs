//! Readers that read all the time and check the messages.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use crate::check::{Check, Received};
use crate::wire::{Connection, Event, Protocol};

/// Readers stop waiting when no message has arrived for this time.
pub const SILENCE: Duration = Duration::from_secs(5);
/// How long readers wait after the last message was sent for a server that is still delivering.
/// Messages that are missing after that count as late, not as lost.
const DRAIN: Duration = Duration::from_secs(15);

/// The state that readers and senders share.
#[derive(Debug, Default)]
pub struct Shared {
    /// The number of open streams.
    pub opened: AtomicUsize,
    /// The number of readers that have got a message.
    pub warm: AtomicUsize,
    /// The number of messages that were sent and acknowledged.
    pub published: AtomicU64,
    /// The senders have finished.
    pub done: AtomicBool,
    /// The number of messages that all readers together have got.
    pub delivered: AtomicU64,
    /// Tells the slow reader to read again.
    pub again: AtomicBool,
}

/// The results of all readers.
#[derive(Debug)]
pub struct Results {
    pub delivered: u64,
    /// Messages that a reader has not got.
    pub lost: u64,
    /// Messages that the server was still delivering when the measurement ended.
    pub late: u64,
    /// Messages that arrived out of order or twice.
    pub disordered: u64,
    pub failures: Vec<String>,
    /// The latency from the intended time of sending, in microseconds.
    pub latency: Histogram<u64>,
    /// The time at which the last message arrived.
    pub last: Instant,
}

#[derive(Debug, Clone)]
struct Reader {
    check: Check,
    warm: bool,
}

/// Opens `count` readers, `per_connection` on each connection, and starts a thread that reads until
/// every reader has got all messages.
pub fn start(
    address: SocketAddr,
    protocol: Protocol,
    count: usize,
    per_connection: usize,
    senders: usize,
    epoch: Instant,
    shared: Arc<Shared>,
) -> Result<JoinHandle<io::Result<Results>>> {
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
    Ok(std::thread::spawn(move || {
        read(poll, connections, count, per_connection, senders, epoch, &shared)
    }))
}

fn read(
    mut poll: Poll,
    mut connections: Vec<Connection>,
    count: usize,
    per_connection: usize,
    senders: usize,
    epoch: Instant,
    shared: &Shared,
) -> io::Result<Results> {
    let mut readers = vec![Reader { check: Check::new(senders), warm: false }; count];
    let mut seen = Results {
        delivered: 0,
        lost: 0,
        late: 0,
        disordered: 0,
        failures: Vec::new(),
        latency: Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds"),
        last: Instant::now(),
    };
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 1 << 20];
    let mut done = None;
    loop {
        poll.poll(&mut events, Some(Duration::from_millis(20)))?;
        let now = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let before = seen.delivered;
        for event in &events {
            let Token(index) = event.token();
            let result = connections[index].receive(&mut scratch, &mut |event| match event {
                Event::Message { reader, text, time } => {
                    message(
                        &mut readers[index * per_connection + reader],
                        text,
                        time,
                        now,
                        &mut seen,
                        shared,
                    );
                }
                Event::Failed(why) => seen.failures.push(why),
                Event::Opened => drop(shared.opened.fetch_add(1, Ordering::Relaxed)),
                Event::Acknowledged(_) | Event::Refused(_) => {}
            });
            if result.is_err() {
                seen.failures.push("a connection closed".to_owned());
                return Ok(seen);
            }
        }
        if seen.delivered > before {
            seen.last = Instant::now();
            shared.delivered.store(seen.delivered, Ordering::Relaxed);
        }
        if shared.done.load(Ordering::Acquire) {
            let done = *done.get_or_insert_with(Instant::now);
            let expected = shared.published.load(Ordering::Acquire);
            let missing =
                readers.iter().map(|reader| expected.saturating_sub(reader.check.count())).sum();
            if missing == 0 {
                return Ok(seen);
            }
            if seen.last.max(done).elapsed() > SILENCE {
                seen.lost = missing;
                return Ok(seen);
            }
            if done.elapsed() > DRAIN {
                seen.late = missing;
                return Ok(seen);
            }
        }
    }
}

fn message(
    reader: &mut Reader,
    text: &[u8],
    time: u64,
    now: u64,
    seen: &mut Results,
    shared: &Shared,
) {
    match reader.check.take(text, time) {
        Received::WarmUp if !reader.warm => {
            reader.warm = true;
            shared.warm.fetch_add(1, Ordering::Release);
        }
        Received::WarmUp => {}
        Received::Counted { intended, disordered } => {
            seen.delivered += 1;
            seen.disordered += u64::from(disordered);
            let _ = seen.latency.record((now.saturating_sub(intended) / 1000).max(1));
        }
        Received::Foreign => seen.failures.push("a text that was never sent".to_owned()),
    }
}
