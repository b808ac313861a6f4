//! Faults of processes: servers and clients are killed and restarted, stopped and continued.

use std::sync::Arc;
use std::time::{Duration, Instant};

use messenger::proto::EPOCH;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::clients::Client;
use crate::journal::SERVER;
use crate::record::Time;
use crate::support::program::{Program, server_at};
use crate::support::{self, Grpc, PATIENCE, soon};
use crate::world::{World, now};

/// The server through all its lives.
#[derive(Debug)]
pub struct Server {
    world: Arc<World>,
    program: Program,
    /// A network to it without faults.
    direct: Grpc,
    /// The time at which it was seen to listen.
    back: Instant,
}

impl Server {
    /// Starts the process.
    pub async fn start(world: &Arc<World>) -> Self {
        world.note(|ledger| ledger.life(now()));
        let program = server_at(world.servers[0]).await;
        let back = Instant::now();
        world.journal.note(SERVER, "listens");
        let mut direct = support::grpc(world.servers[0]).await;
        let stream = soon("the headers", direct.read_messages(())).await.expect("a stream");
        let epoch = stream.metadata().get(EPOCH).expect("an epoch").to_str().expect("ASCII");
        world.epoch.send_replace(epoch.to_owned());
        Self { world: Arc::clone(world), program, direct, back }
    }

    /// Sends a message over the network without faults.
    pub async fn mark(&mut self) -> Time {
        let id = self.world.sending(0);
        let time = support::post(&mut self.direct, "mark", &id.text(0)).await;
        self.world.note(|ledger| ledger.acknowledged(id, time.clone()));
        time
    }

    pub async fn stop(&self, time: Duration) {
        self.world.journal.note(SERVER, format!("stopped for {time:?}"));
        self.program.signal("STOP");
        tokio::time::sleep(time).await;
        self.program.signal("CONT");
    }

    /// Kills it, sometimes while it is stopped, and starts it again after this time.
    pub async fn kill(&mut self, stopped: bool, away: Duration) {
        if stopped {
            self.program.signal("STOP");
        }
        self.world.journal.note(SERVER, format!("killed, and away for {away:?}"));
        self.program.signal("KILL");
        self.program.exit().await;
        tokio::time::sleep(away).await;
        *self = Self::start(&self.world).await;
    }

    /// Measures how long each client takes from the return of the server until it reads again,
    /// except clients with another fault meanwhile. `before` are their states before the kill. More
    /// than `most` fails the soak.
    pub async fn return_times(
        &mut self,
        clients: &[Arc<Mutex<Client>>],
        before: Vec<Option<u64>>,
        most: Duration,
    ) -> Vec<Duration> {
        let mark = self.mark().await;
        let mut times = Vec::new();
        let mut waiting: Vec<_> =
            clients.iter().zip(before).filter_map(|(client, state)| Some((client, state?))).collect();
        while !waiting.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let elapsed = self.back.elapsed();
            let mut slow = None;
            waiting.retain(|(client, state)| {
                let Ok(mut client) = client.try_lock() else { return false };
                if self.world.note(|ledger| *ledger.last(client.reader) >= mark) {
                    times.push(elapsed);
                    if elapsed > most {
                        let name = &client.name;
                        self.world
                            .fail(&format!("SLOW: {name} reads again only {elapsed:?} after the server's return"));
                    }
                    return false;
                }
                if elapsed > PATIENCE {
                    let said = client.last_lines();
                    slow = Some(format!("{} does not read\n{said}", client.name));
                }
                client.network.undisturbed() == Some(*state)
            });
            if let Some(slow) = slow {
                self.world.fail(&format!("STUCK, {elapsed:?} after the server's return: {slow}"));
                break;
            }
        }
        times
    }
}

/// The state of the network of each client: see [`crate::network::Network::undisturbed`].
pub fn states(clients: &[Arc<Mutex<Client>>]) -> Vec<Option<u64>> {
    clients.iter().map(|client| client.try_lock().ok().and_then(|client| client.network.undisturbed())).collect()
}

/// A fault of a process.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    StopServer,
    StopClient,
    KillClient,
    /// Both at once.
    KillClientOfAStoppedServer,
}

/// A shuffled pack: each act comes once before any is repeated.
#[derive(Debug, Default)]
pub struct Acts(Vec<Act>);

impl Acts {
    pub fn next(&mut self, random: &mut fastrand::Rng) -> Act {
        if self.0.is_empty() {
            self.0 = vec![Act::StopServer, Act::StopClient, Act::KillClient, Act::KillClientOfAStoppedServer];
            random.shuffle(&mut self.0);
        }
        self.0.pop().expect("one")
    }
}

/// Counts of the faults other than kills of the server.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    pub stops: u64,
    pub client_kills: u64,
}

impl Done {
    /// Performs an act. Slow parts continue in `running`.
    pub async fn act(
        &mut self,
        act: Act,
        server: &Server,
        clients: &[Arc<Mutex<Client>>],
        random: &mut fastrand::Rng,
        running: &mut JoinSet<()>,
    ) {
        // The first client has no faults, so its return can be measured each time.
        let client = Arc::clone(&clients[random.usize(1..clients.len())]);
        let time = Duration::from_millis(random.u64(50..1200));
        let kill = async |running: &mut JoinSet<()>| {
            let mut client = client.clone().lock_owned().await;
            running.spawn(async move { client.kill().await });
        };
        match act {
            Act::StopServer => server.stop(time).await,
            Act::StopClient => {
                let client = client.lock_owned().await;
                running.spawn(async move { client.stop(time).await });
            }
            Act::KillClient => kill(running).await,
            Act::KillClientOfAStoppedServer => {
                kill(running).await;
                server.stop(time).await;
            }
        }
        self.stops += u64::from(!matches!(act, Act::KillClient));
        self.client_kills += u64::from(matches!(act, Act::KillClient | Act::KillClientOfAStoppedServer));
    }
}
