//! Three servers of one room in Redis: servers and Redis are killed and restarted, stopped and
//! continued, and every connection is cut now and then, also those between the servers and Redis.
//!
//! A Redis that has everything on disk may lose nothing, so every reported gap is false. A Redis
//! that loses messages begins a new life of the room, and every gap must be reported.

mod acts;
mod engine;
mod returns;
mod servers;
mod totals;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::acts::{Act, Pack};
use self::engine::{Engine, LOSSES, Loss};
use self::returns::{States, Watched};
use self::servers::Server;
use self::totals::{Totals, add, of};
use crate::arguments::ThreeServers;
use crate::clients::Client;
use crate::network::Network;
use crate::world::{Pace, World};
use crate::{readers, senders, support};

const SERVERS: usize = 3;
/// A hundred readers get the messages of a few senders.
const PACE: Pace = Pace { pause: Duration::from_millis(100), peace: Duration::from_secs(5) };

/// Runs the soak until there were enough faults of each kind.
pub async fn run(arguments: ThreeServers, on_disk: bool, is_short: bool) -> Result<(), String> {
    let soak = Soak::begin(arguments, on_disk).await;
    let (totals, world) = (Arc::clone(&soak.totals), Arc::clone(&soak.world));
    let name = format!("soak -- --servers 3 --seed {}", arguments.seed);
    crate::watch(name, is_short, &world, || totals.line(&world), soak.run()).await
}

struct Soak {
    world: Arc<World>,
    totals: Arc<Totals>,
    arguments: ThreeServers,
    on_disk: bool,
    engine: Engine,
    servers: Vec<Server>,
    readers: Vec<Watched>,
    /// The clients end when this is dropped.
    _clients: Vec<Client>,
    random: fastrand::Rng,
}

impl Soak {
    /// Starts all processes, and waits until all readers read. Faults begin later.
    async fn begin(arguments: ThreeServers, on_disk: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(arguments.seed);
        let addresses = (0..SERVERS).map(|_| (Ipv4Addr::LOCALHOST, support::fixed_port()).into());
        let world = World::new(addresses.collect(), PACE);
        world.fail_with_any_panic();
        let engine = Engine::start(&world, on_disk);
        let mut servers = Vec::new();
        for index in 0..SERVERS {
            servers.push(Server::start(&world, &engine, index, random.fork()).await);
        }
        let mut readers = Vec::new();
        let mut clients = Vec::new();
        for (index, name) in ["client Ada", "client Ben", "client Cem"].into_iter().enumerate() {
            let mut network = world.bad_network(name, &mut random);
            network.servers.rotate_left(index);
            let client = Client::start(&world, name.to_owned(), Arc::new(network), ["5s", "300ms"][index % 2]).await;
            let (name, reader, network) = (client.name.clone(), client.reader, Arc::clone(&client.network));
            readers.push(Watched { name, reader, network, only_at: None });
            clients.push(client);
        }
        for index in 0..SERVERS {
            for number in 0..arguments.readers {
                // The first reader of each server has a network without faults, and stays there, so
                // it shows the state of the server itself.
                let name = format!("reader {} of {}", number + 1, index + 1);
                let mut network = match number {
                    0 => Network::good(vec![world.servers[index]]),
                    _ => world.bad_network(&name, &mut random),
                };
                let only_at = (number == 0).then_some(index);
                let first = index % network.servers.len();
                network.servers.rotate_left(first);
                let network = Arc::new(network);
                let (sender, opened) = oneshot::channel();
                readers::start(&world, name.clone(), Arc::clone(&network), random.fork(), sender);
                let reader = support::soon("a reader", opened).await.expect("it reads");
                readers.push(Watched { name, reader, network, only_at });
            }
        }
        let mut sender = 0..;
        let mut sender = || sender.next().map(|number: u16| number + 1).expect("another");
        for client in &clients {
            senders::over_http(&world, sender(), &client.name, client.address.subscribe(), random.fork());
        }
        world.epoch.send_replace(engine.epoch().expect("an epoch"));
        for _ in 0..6 {
            senders::over_grpc(&world, sender(), random.fork());
            senders::with_keys(&world, sender(), random.fork());
        }
        let totals = Arc::new(Totals::new());
        Self { world, totals, arguments, on_disk, engine, servers, readers, _clients: clients, random }
    }

    /// Runs one round after the other until there were enough faults of each kind.
    async fn run(mut self) {
        let mut stops = Pack::stops();
        let mut faults = if self.on_disk { Pack::kills() } else { Pack::losses() };
        let mut acknowledged = 0;
        while !self.enough() {
            self.calm(false);
            for _ in 0..self.random.usize(1..=2) {
                self.sleep(100..800).await;
                let act = stops.next(&mut self.random);
                self.act(act).await;
            }
            self.sleep(50..800).await;
            let act = faults.next(&mut self.random);
            self.act(act).await;
            self.calm(false);
            self.sleep(100..500).await;
            self.check().await;
            let before = std::mem::replace(&mut acknowledged, self.world.note(|ledger| ledger.counts.acknowledged));
            if acknowledged < before + 20 {
                self.world.fail(&format!("STANDSTILL: {} messages acknowledged in this round", acknowledged - before));
            }
        }
    }

    fn enough(&self) -> bool {
        let ThreeServers { kills, redis_kills, losses, .. } = self.arguments;
        let totals = &self.totals;
        if self.on_disk {
            of(&totals.kills) >= kills && of(&totals.engine_kills) >= redis_kills
        } else {
            of(&totals.losses) >= losses
        }
    }

    fn calm(&self, calm: bool) {
        self.world.calm.send_replace(calm);
        self.engine.calm.send_replace(calm);
    }

    async fn sleep(&mut self, milliseconds: std::ops::Range<u64>) {
        let time = self.time(milliseconds);
        tokio::time::sleep(time).await;
    }

    fn time(&mut self, milliseconds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.u64(milliseconds))
    }

    /// How long a process is away: now and then so long that all peers reach their longest backoff.
    fn away(&mut self) -> Duration {
        let range = if self.random.u8(..4) == 0 { 500..4000 } else { 0..300 };
        self.time(range)
    }

    async fn act(&mut self, act: Act) {
        let server = self.random.usize(..SERVERS);
        let stopped = self.random.u8(..4) == 0;
        let before = States::now(&self.readers);
        match act {
            Act::StopServer => {
                add(&self.totals.stops);
                let time = self.time(50..1200);
                self.servers[server].stop(time).await;
            }
            Act::StopEngine => {
                add(&self.totals.stops);
                // Now and then for longer than the servers wait for it.
                let range = if self.random.u8(..6) == 0 { 3000..4500 } else { 50..1200 };
                let time = self.time(range);
                self.engine.stop(time).await;
            }
            Act::KillServer => {
                let away = self.away();
                self.kill_server(server, stopped).await;
                let killed = Instant::now();
                let other = (server + self.random.usize(1..SERVERS)) % SERVERS;
                self.read_again(&before, other, killed, Some(server)).await;
                tokio::time::sleep_until((killed + away).into()).await;
                let before = States::now(&self.readers);
                self.servers[server].start_again().await;
                self.read_again(&before, server, Instant::now(), None).await;
            }
            Act::KillEngine => {
                add(&self.totals.engine_kills);
                self.engine.kill(stopped);
                let away = self.away();
                tokio::time::sleep(away).await;
                self.engine.start_again();
                self.read_again(&before, server, Instant::now(), None).await;
            }
            Act::KillBoth => {
                let (first, between, away) = (self.random.bool(), self.time(0..300), self.away());
                if first {
                    self.kill_server(server, stopped).await;
                    tokio::time::sleep(between).await;
                }
                add(&self.totals.engine_kills);
                self.engine.kill(false);
                if !first {
                    tokio::time::sleep(between).await;
                    self.kill_server(server, stopped).await;
                }
                tokio::time::sleep(away).await;
                // The server may return first, and then it has no room.
                if self.random.bool() {
                    self.servers[server].start_again().await;
                    self.sleep(0..300).await;
                    self.engine.start_again();
                } else {
                    self.engine.start_again();
                    self.sleep(0..300).await;
                    self.servers[server].start_again().await;
                }
                self.read_again(&before, server, Instant::now(), None).await;
            }
            Act::Lose => self.lose().await,
        }
    }

    async fn kill_server(&mut self, server: usize, stopped: bool) {
        add(&self.totals.kills);
        self.servers[server].kill(stopped).await;
    }

    /// Redis loses messages that all servers have seen. `tests/it/redis/away.rs` tests servers that
    /// have not seen them.
    async fn lose(&mut self) {
        let loss = LOSSES[of(&self.totals.losses) as usize % LOSSES.len()];
        self.engine.calm.send_replace(true);
        if let Loss::Recent = loss {
            self.engine.save();
        }
        for server in 0..SERVERS {
            let mark = returns::mark(&self.world, server).await;
            let only_here = |watched: &&Watched| watched.only_at == Some(server);
            let reader = self.readers.iter().find(only_here).expect("one").reader;
            support::until("the mark", async || self.world.note(|ledger| *ledger.last(reader) >= mark).then_some(()))
                .await;
        }
        let before = States::now(&self.readers);
        let (away, server) = (self.away(), self.random.usize(..SERVERS));
        add(&self.totals.losses);
        self.engine.lose(loss, away).await;
        self.read_again(&before, server, Instant::now(), None).await;
        self.world.epoch.send_replace(self.engine.epoch().expect("an epoch"));
    }

    /// Measures how soon each reader without another fault reads a message that is sent now through
    /// this server.
    async fn read_again(&mut self, before: &States, server: usize, since: Instant, gone: Option<usize>) {
        self.engine.calm.send_replace(true);
        let mark = returns::mark(&self.world, server).await;
        let most = self.arguments.return_within;
        let times = returns::times(&self.world, &self.readers, before, &mark, since, gone, most).await;
        self.totals.returns.lock().unwrap().extend(times);
    }

    /// Pauses all faults until all readers have the same message, and compares the records.
    async fn check(&mut self) {
        self.calm(true);
        let mark = returns::mark(&self.world, self.random.usize(..SERVERS)).await;
        let servers = &mut self.servers;
        let said = || servers.iter_mut().map(Server::last_lines).collect::<Vec<_>>().join("\n");
        self.world.compare(&mark, said).await;
    }
}
