//! A TCP proxy with random faults: it delays, stalls, half-opens and cuts connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::journal::Journal;
use crate::support;

/// The longest fault.
const LONGEST: Duration = Duration::from_millis(1500);

/// Counts of the faults.
#[derive(Debug, Default)]
pub struct Counters {
    pub cuts: AtomicU64,
    pub half_open: AtomicU64,
    pub stalls: AtomicU64,
    pub delays: AtomicU64,
}

/// The fault of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Each read is delayed by this time.
    Delay(Duration),
    /// Nothing is read until the fault ends.
    Stall,
    /// Bytes are read and dropped, so the sender believes that they arrived.
    Swallow,
    /// After this many bytes the connection is cut, mostly within a frame.
    CutAfter(usize),
}

#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    server: SocketAddr,
    counters: Arc<Counters>,
    journal: Arc<Journal>,
    /// The mean time until the next fault.
    peace: Duration,
    /// While it is true, running faults end and no new ones begin.
    calm: watch::Receiver<bool>,
    /// The number of faults that have begun.
    faults: AtomicU64,
    /// The number of running faults.
    active: AtomicU64,
}

/// Starts a proxy to `server` for the user `name`.
pub fn proxy(
    name: &str,
    server: SocketAddr,
    mut random: fastrand::Rng,
    peace: Duration,
    calm: watch::Receiver<bool>,
    counters: &Arc<Counters>,
    journal: &Arc<Journal>,
) -> Proxy {
    let listener = support::free_port();
    let address = listener.local_addr().expect("an address");
    let shared = Arc::new(Shared {
        name: name.to_owned(),
        server,
        counters: Arc::clone(counters),
        journal: Arc::clone(journal),
        peace,
        calm,
        faults: AtomicU64::new(0),
        active: AtomicU64::new(0),
    });
    let of_connections = Arc::clone(&shared);
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => if let Ok((client, _)) = accepted {
                    connections.spawn(carry(client, Arc::clone(&of_connections), random.fork()));
                },
                Some(_) = connections.join_next() => {}
            }
        }
    });
    Proxy { address, shared }
}

impl Proxy {
    /// A number that changes with each fault; `None` during a fault.
    pub fn undisturbed(&self) -> Option<u64> {
        let faults = self.shared.faults.load(Ordering::SeqCst);
        (self.shared.active.load(Ordering::SeqCst) == 0).then_some(faults)
    }
}

/// Carries one connection.
async fn carry(client: TcpStream, shared: Arc<Shared>, mut random: fastrand::Rng) {
    let Ok(server) = TcpStream::connect(shared.server).await else { return reset(&client) };
    for socket in [&client, &server] {
        let _ = socket.set_nodelay(true);
    }
    // A reset drops bytes on their way, and a close may deliver them.
    if random.bool() {
        [&client, &server].into_iter().for_each(reset);
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (up, down) = (watch::Sender::new(Mode::Pass), watch::Sender::new(Mode::Pass));
    tokio::select! {
        () = copy(from_client, to_server, up.subscribe()) => {}
        () = copy(from_server, to_client, down.subscribe()) => {}
        () = trouble(&shared, &mut random, &up, &down) => {}
    }
}

/// Makes the close of this socket a reset.
fn reset(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Runs one fault after the other, until one cuts the connection.
async fn trouble(shared: &Shared, random: &mut fastrand::Rng, up: &watch::Sender<Mode>, down: &watch::Sender<Mode>) {
    let mut calm = shared.calm.clone();
    loop {
        let _ = calm.wait_for(|calm| !calm).await;
        // Mostly short times, so that the first bytes of a connection meet faults too.
        let peace = shared.peace.mul_f64(-(1.0 - random.f64()).ln());
        tokio::select! {
            () = tokio::time::sleep(peace) => {}
            _ = calm.wait_for(|calm| *calm) => continue,
        }
        let _fault = Fault::begin(shared);
        let (side, other) = if random.bool() { (up, down) } else { (down, up) };
        let direction = if std::ptr::eq(side, up) { "to the server" } else { "from the server" };
        // Mostly short faults, which end before the deadline of a call.
        let length = LONGEST.mul_f64(random.f64().powi(2));
        let (counters, journal) = (&shared.counters, &shared.journal);
        let note = |what: &str| journal.note(&shared.name, format!("{what} {direction}"));
        let mut wait = async |length| {
            tokio::select! {
                () = tokio::time::sleep(length) => {}
                _ = calm.wait_for(|calm| *calm) => {}
            }
        };
        match random.u8(..10) {
            0..=3 => {
                note("cut");
                counters.cuts.fetch_add(1, Ordering::Relaxed);
                return;
            }
            4..=5 => {
                let bytes = random.usize(..4000);
                note(&format!("cut after {bytes} bytes"));
                counters.cuts.fetch_add(1, Ordering::Relaxed);
                side.send_replace(Mode::CutAfter(bytes));
                wait(length).await;
                return;
            }
            6 => {
                note(&format!("half-open for {length:?}, then cut"));
                counters.half_open.fetch_add(1, Ordering::Relaxed);
                side.send_replace(Mode::Swallow);
                wait(length).await;
                counters.cuts.fetch_add(1, Ordering::Relaxed);
                return;
            }
            7..=8 => {
                note(&format!("stall for {length:?}"));
                counters.stalls.fetch_add(1, Ordering::Relaxed);
                side.send_replace(Mode::Stall);
                if random.bool() {
                    other.send_replace(Mode::Stall);
                }
                wait(length).await;
            }
            _ => {
                note(&format!("delays for {length:?}"));
                counters.delays.fetch_add(1, Ordering::Relaxed);
                side.send_replace(Mode::Delay(Duration::from_millis(random.u64(1..60))));
                wait(length).await;
            }
        }
        up.send_replace(Mode::Pass);
        down.send_replace(Mode::Pass);
    }
}

/// A running fault, counted until it is dropped.
struct Fault<'a>(&'a Shared);

impl<'a> Fault<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.active.fetch_add(1, Ordering::SeqCst);
        shared.faults.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Fault<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Carries the bytes of one direction until one side closes.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut rest: Option<usize> = None;
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let Ok(now) = mode.wait_for(|mode| *mode != Mode::Stall).await.map(|mode| *mode) else { return };
        let mut piece = &buffer[..read];
        match now {
            Mode::Pass | Mode::Stall => {}
            Mode::Delay(time) => tokio::time::sleep(time).await,
            Mode::Swallow => continue,
            Mode::CutAfter(bytes) => {
                let left = rest.get_or_insert(bytes);
                piece = &piece[..piece.len().min(*left)];
                *left -= piece.len();
            }
        }
        if to.write_all(piece).await.is_err() || rest == Some(0) {
            return;
        }
    }
}
