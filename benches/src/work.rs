//! The kinds of work, and the figures that they give.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::readers::{self, Shared};
use crate::senders::{Pace, Senders};
use crate::server::Server;
use crate::slow;
use crate::wire::Protocol;

/// One kind of work.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// Messages to readers, of which each has its own connection.
    FanOut { readers: usize, senders: usize, pace: Pace, time: Duration, text: usize },
    /// `SendMessage` without readers.
    Unary { senders: usize, in_flight: usize, time: Duration, text: usize },
    /// Messages at a fixed rate to readers. One of them stops reading, and reads again at the end.
    SlowReader { readers: usize, senders: usize, rate: u32, time: Duration, text: usize },
    /// Readers without messages.
    Idle { readers: usize, per_connection: usize },
}

/// The measured figures. A figure that does not apply is 0.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// The CPU time of the server in ns, per delivery or per call.
    pub cpu: f64,
    /// Deliveries or calls a second; for idle readers the MiB of the empty server.
    pub rate: f64,
    /// The latency in µs: median, 99th percentile, maximum. Deliveries count from the intended time
    /// of sending. Calls are timed only if each sender has one in flight.
    pub latency: [u64; 3],
    pub lost: u64,
    /// Deliveries that were missing at the end while the server was still delivering.
    pub late: u64,
    /// The number of refused messages, and the status of the first one.
    pub refused: u64,
    pub refusal: Option<&'static str>,
    pub disordered: u64,
    pub failures: Vec<String>,
    /// The server's memory: its peak in MiB, or KiB per idle reader.
    pub memory: f64,
    /// The growth of the resident memory in MiB, from the warm server to its peak.
    pub growth: f64,
    /// What the slow reader got.
    pub slow: Option<String>,
    /// The CPU time of Redis in ns for each message.
    pub redis_cpu: f64,
    /// Messages in each call of the script in Redis.
    pub redis_batch: f64,
}

impl Figures {
    /// Fails unless every reader has got every message once and in order, and none was refused.
    pub fn check(&self) -> Result<()> {
        ensure!(self.lost == 0 && self.disordered == 0, "messages are lost or out of order");
        ensure!(self.refused == 0, "messages were refused: {}", self.refusal.unwrap_or_default());
        ensure!(self.failures.is_empty(), "{}", self.failures[0]);
        Ok(())
    }
}

pub fn measure(server: &Server, protocol: Protocol, work: Work) -> Result<Figures> {
    match work {
        Work::FanOut { readers, senders, pace, time, text } => fan_out(
            server,
            protocol,
            Readers { all: readers, slow: false },
            senders,
            pace,
            time,
            text,
        ),
        Work::Unary { senders, in_flight, time, text } => {
            unary(server, protocol, senders, in_flight, time, text)
        }
        Work::SlowReader { readers, senders, rate, time, text } => fan_out(
            server,
            protocol,
            Readers { all: readers, slow: true },
            senders,
            Pace::Fixed { rate },
            time,
            text,
        ),
        Work::Idle { readers, per_connection } => idle(server, protocol, readers, per_connection),
    }
}

/// The number of readers, and whether one of them is slow.
struct Readers {
    all: usize,
    slow: bool,
}

fn fan_out(
    server: &Server,
    protocol: Protocol,
    readers: Readers,
    senders: usize,
    pace: Pace,
    time: Duration,
    text: usize,
) -> Result<Figures> {
    let Readers { all, slow } = readers;
    let (epoch, shared) = (Instant::now(), Arc::new(Shared::default()));
    let healthy = all - usize::from(slow);
    let readers =
        readers::start(server.address, protocol, healthy, 1, senders, epoch, Arc::clone(&shared))?;
    let slow = slow
        .then(|| slow::start(server.address, protocol, senders, Arc::clone(&shared)))
        .transpose()?;
    let mut senders = Senders::connect(server.address, protocol, senders, text)?;
    senders.warm_up(&shared, all)?;
    let (cpu, before, start) = (server.cpu(), server.resident(), Instant::now());
    senders.send(pace, time, epoch, &shared)?;
    let Ok(seen) = readers.join() else { bail!("the readers' thread panicked") };
    let (seen, cpu) = (seen?, server.cpu() - cpu);
    // The peak, because a server that has ended the slow reader may have freed memory.
    let growth = server.peak().saturating_sub(before);
    shared.again.store(true, Ordering::Release);
    let slow = match slow.map(JoinHandle::join) {
        Some(Ok(outcome)) => Some(outcome?.to_string()),
        Some(Err(_)) => bail!("the slow reader's thread panicked"),
        None => None,
    };
    let latency = [0.5, 0.99, 1.0].map(|quantile| seen.latency.value_at_quantile(quantile));
    Ok(Figures {
        cpu: cpu.as_nanos() as f64 / seen.delivered as f64,
        rate: seen.delivered as f64 / (seen.last - start).as_secs_f64(),
        latency,
        lost: seen.lost,
        late: seen.late,
        refused: senders.refused,
        refusal: senders.refusal,
        disordered: seen.disordered,
        failures: seen.failures,
        memory: server.peak() as f64 / (1 << 20) as f64,
        growth: growth as f64 / (1 << 20) as f64,
        slow,
        ..Default::default()
    })
}

fn unary(
    server: &Server,
    protocol: Protocol,
    senders: usize,
    in_flight: usize,
    time: Duration,
    text: usize,
) -> Result<Figures> {
    let mut connected = Senders::connect(server.address, protocol, senders, text)?;
    connected.warm_up(&Shared::default(), 0)?;
    let pace = Pace::Full { in_flight: in_flight / senders };
    connected.send(pace, time / 4, Instant::now(), &Shared::default())?;
    let mut connected = Senders::connect(server.address, protocol, senders, text)?;
    let (cpu, start) = (server.cpu(), Instant::now());
    let sent = connected.send(pace, time, Instant::now(), &Shared::default())?;
    let cpu = server.cpu() - cpu;
    Ok(Figures {
        cpu: cpu.as_nanos() as f64 / sent as f64,
        rate: sent as f64 / start.elapsed().as_secs_f64(),
        latency: [0.5, 0.99, 1.0].map(|quantile| connected.latency.value_at_quantile(quantile)),
        refused: connected.refused,
        refusal: connected.refusal,
        memory: server.peak() as f64 / (1 << 20) as f64,
        ..Default::default()
    })
}

fn idle(
    server: &Server,
    protocol: Protocol,
    count: usize,
    per_connection: usize,
) -> Result<Figures> {
    std::thread::sleep(Duration::from_millis(200));
    let before = server.resident();
    let (epoch, shared) = (Instant::now(), Arc::new(Shared::default()));
    let readers = readers::start(
        server.address,
        protocol,
        count,
        per_connection,
        1,
        epoch,
        Arc::clone(&shared),
    )?;
    let mut sender = Senders::connect(server.address, protocol, 1, 100)?;
    sender.warm_up(&shared, count)?;
    std::thread::sleep(Duration::from_millis(500));
    let resident = server.resident();
    shared.done.store(true, Ordering::Release);
    let seen = match readers.join() {
        Ok(seen) => seen?,
        Err(_) => bail!("the readers' thread panicked"),
    };
    Ok(Figures {
        memory: (resident - before) as f64 / 1024.0 / count as f64,
        rate: before as f64 / (1 << 20) as f64,
        failures: seen.failures,
        ..Default::default()
    })
}
