//! One server that is killed repeatedly and restarts at once or later, clients and gRPC readers
//! behind bad networks, and senders of all kinds.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinSet;

use crate::arguments::OneServer;
use crate::clients::Client;
use crate::faults::{self, Acts, Done, Server};
use crate::network::Network;
use crate::world::{Pace, World};
use crate::{readers, senders, support};

const CLIENTS: usize = 5;
const READERS: usize = 6;
const PACE: Pace = Pace { pause: Duration::from_millis(25), peace: Duration::from_millis(700) };

/// Runs the soak until it had enough cuts and kills.
pub async fn run(arguments: OneServer, is_short: bool) -> Result<(), String> {
    let soak = Soak::begin(arguments.seed).await;
    let (totals, world) = (Arc::clone(&soak.totals), Arc::clone(&soak.world));
    let name = format!("soak -- --servers 1 --seed {}", arguments.seed);
    crate::watch(name, is_short, &world, || totals.line(&world), soak.run(&arguments)).await
}

/// Totals besides those of the ledger and the network.
#[derive(Debug)]
struct Totals {
    start: Instant,
    kills: AtomicU64,
    done: std::sync::Mutex<Done>,
    /// The times until clients read again after the return of the server.
    returns: std::sync::Mutex<Vec<Duration>>,
}

struct Soak {
    world: Arc<World>,
    totals: Arc<Totals>,
    server: Server,
    clients: Vec<Arc<Mutex<Client>>>,
    random: fastrand::Rng,
    /// Running faults of clients.
    running: JoinSet<()>,
}

impl Soak {
    /// Starts all processes, and waits until all readers read.
    async fn begin(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let world = World::new(vec![(Ipv4Addr::LOCALHOST, support::fixed_port()).into()], PACE);
        world.fail_with_any_panic();
        let server = Server::start(&world).await;
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            // The first client has a network without faults.
            let name = format!("client {}", ["Ada", "Ben", "Cem", "Dov", "Eva"][number]);
            let network =
                if number == 0 { Network::good(world.servers.clone()) } else { world.bad_network(&name, &mut random) };
            // Some deadlines are shorter than the absence of the server.
            let deadline = ["5s", "300ms"][number % 2];
            clients.push(Arc::new(Mutex::new(Client::start(&world, name, Arc::new(network), deadline).await)));
        }
        for number in 0..READERS {
            let (sender, opened) = oneshot::channel();
            let name = format!("reader {}", number + 1);
            let network = world.bad_network(&name, &mut random);
            readers::start(&world, name, Arc::new(network), random.fork(), sender);
            support::soon("a reader", opened).await.expect("it reads");
        }
        let mut sender = 0..;
        let mut sender = || sender.next().map(|number: u16| number + 1).expect("another");
        for client in &clients {
            let client = client.lock().await;
            for _ in 0..2 {
                senders::over_http(&world, sender(), &client.name, client.address.subscribe(), random.fork());
            }
        }
        for _ in 0..3 {
            senders::over_grpc(&world, sender(), random.fork());
            senders::with_keys(&world, sender(), random.fork());
        }
        let totals = Totals {
            start: Instant::now(),
            kills: AtomicU64::new(0),
            done: std::sync::Mutex::default(),
            returns: std::sync::Mutex::default(),
        };
        Self { world, totals: Arc::new(totals), server, clients, random, running: JoinSet::new() }
    }

    /// Runs one life of the server after the other.
    async fn run(mut self, arguments: &OneServer) {
        let mut acts = Acts::default();
        let mut acknowledged = 0;
        loop {
            self.world.calm.send_replace(false);
            for _ in 0..2 {
                self.sleep(100..1000).await;
                let act = acts.next(&mut self.random);
                let mut done = *self.totals.done.lock().unwrap();
                done.act(act, &self.server, &self.clients, &mut self.random, &mut self.running).await;
                *self.totals.done.lock().unwrap() = done;
            }
            self.sleep(100..500).await;
            self.check().await;
            let before = std::mem::replace(&mut acknowledged, self.world.note(|ledger| ledger.counts.acknowledged));
            if acknowledged < before + 20 {
                self.world.fail(&format!("STANDSTILL: {} messages acknowledged in this life", acknowledged - before));
            }
            let enough = self.world.counters.cuts.load(Ordering::Relaxed) >= arguments.cuts;
            if enough && self.totals.kills.load(Ordering::Relaxed) >= arguments.kills {
                return;
            }
            self.world.calm.send_replace(false);
            // During other faults.
            self.sleep(50..800).await;
            self.kill(arguments.return_within).await;
        }
    }

    async fn sleep(&mut self, milliseconds: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.random.u64(milliseconds))).await;
    }

    async fn kill(&mut self, return_within: Duration) {
        let before = faults::states(&self.clients);
        let stopped = self.random.u8(..4) == 0;
        // Sometimes long enough for clients to reach their longest backoff.
        let range = if self.random.u8(..4) == 0 { 500..4000 } else { 0..300 };
        let away = self.random.u64(range);
        self.server.kill(stopped, Duration::from_millis(away)).await;
        self.totals.kills.fetch_add(1, Ordering::Relaxed);
        let times = self.server.return_times(&self.clients, before, return_within).await;
        self.totals.returns.lock().unwrap().extend(times);
    }

    /// Pauses all faults until everybody has the same message, and compares the records.
    async fn check(&mut self) {
        self.world.calm.send_replace(true);
        while self.running.join_next().await.is_some() {}
        let mark = self.server.mark().await;
        self.world.compare(&mark, String::new).await;
    }
}

impl Totals {
    fn line(&self, world: &World) -> String {
        let counts = world.note(|ledger| ledger.counts);
        let done = *self.done.lock().unwrap();
        let mut returns = self.returns.lock().unwrap().clone();
        returns.sort();
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let network = &world.counters;
        format!(
            "{:.0} s, {} cuts, {} of them half-open first, {} stalls, {} delays, {} server kills, {} client kills, {} stops; \
             {} messages acknowledged, {} of unknown fate, {} refused, {} deliveries; {} gone with a killed server, {} gaps told; \
             reading again {:.0?} after the server's return in the median, {:.0?} at most",
            self.start.elapsed().as_secs_f64(),
            of(&network.cuts),
            of(&network.half_open),
            of(&network.stalls),
            of(&network.delays),
            of(&self.kills),
            done.client_kills,
            done.stops,
            counts.acknowledged,
            counts.unknown,
            counts.refused,
            counts.received,
            counts.gone,
            counts.gaps,
            returns.get(returns.len() / 2).copied().unwrap_or_default(),
            returns.last().copied().unwrap_or_default(),
        )
    }
}
