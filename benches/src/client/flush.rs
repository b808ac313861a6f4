//! Fills a postbox, and measures the one answer that empties it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use super::answer::{self, AUTHOR};
use super::http1::Blocking;
use super::{Chat, Measurement};
use crate::text;
use crate::wire::{Connection, Event, Protocol};

/// Unacknowledged messages while the postbox is filled. They arrive in batches then, as in a busy
/// room.
const IN_FLIGHT: usize = 64;
/// The number of flushes of an empty postbox.
const EMPTY: usize = 2_000;
const MIB: f64 = (1 << 20) as f64;

/// Flushes an empty postbox, fills it, and flushes it once.
pub fn measure(chat: &Chat, messages: usize, text: usize) -> Result<Vec<Measurement>> {
    let mut connection = Blocking::open(chat.client.address)?;
    let mut latency = Histogram::<u64>::new(3)?;
    let cpu = chat.client.cpu();
    for _ in 0..EMPTY {
        let (body, times) = connection.post("/getAndFlushMessages", b"")?;
        ensure!(body == b"[]", "a message that nobody has sent");
        latency.record(u64::try_from(times.last_byte.as_nanos())?)?;
    }
    let empty_cpu = chat.client.cpu() - cpu;

    let (cpu, empty_memory) = (chat.client.cpu(), chat.client.resident() as f64);
    fill(chat.server.address, messages, text)?;
    chat.wait_until_quiet();
    let receive = chat.client.cpu() - cpu;
    let full_memory = chat.client.resident() as f64;

    let cpu = chat.client.cpu();
    let (body, times) = connection.post("/getAndFlushMessages", b"")?;
    let length = body.len() as f64;
    let mut fetched = answer::messages(body, text)?;
    ensure!(fetched.len() == messages, "{} of {messages} messages", fetched.len());
    fetched.sort_unstable_by_key(|message| message.number);
    ensure!(
        fetched.iter().zip(0..).all(|(message, number)| message.number == number),
        "a message twice"
    );
    chat.wait_until_quiet();
    let flush = chat.client.cpu() - cpu;
    let (memory_after, peak) = (chat.client.resident() as f64, chat.client.peak() as f64);

    let name = |what| format!("flush of {messages}, {what}");
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let each = |amount: f64| amount / messages as f64;
    let empty = |what| format!("flush of nothing, {what}");
    Ok(vec![
        Measurement::new(
            "a message arrives, client's CPU".to_owned(),
            "ns",
            each(receive.as_nanos() as f64),
        ),
        Measurement::new(
            "a message in the postbox, author and text".to_owned(),
            "bytes",
            (AUTHOR.len() + text) as f64,
        ),
        Measurement::new("a message in the postbox, as JSON".to_owned(), "bytes", each(length)),
        Measurement::new(
            "a message in the postbox, memory".to_owned(),
            "bytes",
            each(full_memory - empty_memory),
        ),
        Measurement::new(name("first byte"), "ms", millis(times.first_byte)),
        Measurement::new(name("last byte"), "ms", millis(times.last_byte)),
        Measurement::new(name("client's CPU"), "ms", millis(flush)),
        Measurement::new(name("memory before the messages"), "MiB", empty_memory / MIB),
        Measurement::new(name("memory before the flush"), "MiB", full_memory / MIB),
        Measurement::new(name("most memory"), "MiB", peak / MIB),
        Measurement::new(name("memory after the flush"), "MiB", memory_after / MIB),
        Measurement::new(empty("p50"), "µs", latency.value_at_quantile(0.5) as f64 / 1000.0),
        Measurement::new(empty("p99"), "µs", latency.value_at_quantile(0.99) as f64 / 1000.0),
        Measurement::new(
            empty("client's CPU"),
            "µs",
            empty_cpu.as_nanos() as f64 / 1000.0 / EMPTY as f64,
        ),
    ])
}

/// Sends messages straight to the server, numbered from 0.
fn fill(server: SocketAddr, messages: usize, size: usize) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut connection = Connection::open(server, Protocol::Grpc)?;
    connection.register(poll.registry(), Token(0))?;
    let (mut sent, mut acknowledged, mut failure) = (0, 0, None);
    let (mut text, mut scratch, mut events) =
        (vec![0; size], vec![0; 1 << 20], Events::with_capacity(1));
    let start = Instant::now();
    while acknowledged < messages {
        ensure!(
            start.elapsed() < Duration::from_secs(60),
            "{acknowledged} of {messages} messages in a minute"
        );
        while sent < messages && sent - acknowledged < IN_FLIGHT {
            text::write(&mut text, 0, sent as u64, 0);
            if !connection.publish(&text) {
                break;
            }
            sent += 1;
        }
        connection.flush()?;
        poll.poll(&mut events, Some(Duration::from_millis(10)))?;
        connection.receive(&mut scratch, &mut |event| match event {
            Event::Acknowledged(count) => acknowledged += count,
            Event::Failed(why) => failure = Some(why),
            _ => {}
        })?;
        if let Some(why) = failure {
            anyhow::bail!(why);
        }
    }
    Ok(())
}
