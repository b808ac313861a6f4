//! Senders over HTTP, over gRPC, and over gRPC with a key. Each sends one message after the other,
//! and records the answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use messenger::net::{Connection, ServerAddr};
use messenger::proto::messenger_server_client::MessengerServerClient;
use messenger::proto::{EPOCH, IDEMPOTENCY_KEY, NOT_ACCEPTED, SendMessageRequest};
use messenger::send_time::rfc3339;
use serde_json::json;
use tokio::sync::watch;
use tonic::{Code, Request};

use crate::clients::{http, post};
use crate::network::Network;
use crate::record::{Id, Time};
use crate::world::World;

/// The deadline of a gRPC call, longer than most faults.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a send is repeated with its key, shorter than the server keeps keys.
const AGAIN: Duration = Duration::from_secs(8);
/// The pause before a retry without a server.
const AWAY: Duration = Duration::from_millis(20);

/// The outcome for the sender.
#[derive(Debug)]
enum Told {
    Accepted(Time),
    /// The message is not in the room.
    Refused,
    /// The message is not in the room, and its epoch is over.
    Over,
    /// The message may or may not be in the room.
    Unknown,
}

impl World {
    fn told(&self, id: Id, told: Told) {
        self.note(|ledger| match told {
            Told::Accepted(time) => ledger.acknowledged(id, time),
            Told::Refused | Told::Over => ledger.refused(id),
            Told::Unknown => ledger.unknown(),
        });
    }
}

/// A text for the message: mostly short, sometimes longer than a segment of the log or than a
/// window.
fn text(id: Id, random: &mut fastrand::Rng) -> String {
    id.text(if random.u8(..50) == 0 { random.usize(..150_000) } else { random.usize(..40) })
}

/// The pause between two messages of a sender.
async fn pause(world: &World, random: &mut fastrand::Rng) {
    tokio::time::sleep(world.pace.pause.mul_f64(random.f64())).await;
}

/// Sends over HTTP through the client `name`.
pub fn over_http(
    world: &Arc<World>,
    sender: u16,
    name: &str,
    mut address: watch::Receiver<Option<(u32, std::net::SocketAddr)>>,
    mut random: fastrand::Rng,
) {
    let (world, name) = (Arc::clone(world), name.to_owned());
    tokio::spawn(async move {
        let http = http();
        loop {
            let Ok(Some((generation, to))) = address.wait_for(Option::is_some).await.map(|address| *address) else {
                return;
            };
            let id = world.sending(sender);
            let body = json!({"author": name, "text": text(id, &mut random)}).to_string();
            let told = match post(&http, to, "/sendMessage", body.into()).await {
                Ok((200, _, body)) => {
                    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                    Told::Accepted(answer["sendTime"].as_str().unwrap_or_default().to_owned())
                }
                Ok((502..=504, _, body)) => {
                    let detail = String::from_utf8_lossy(&body).into_owned();
                    match (
                        detail.contains("the message was not sent"),
                        detail.contains("may or may not be in the chat"),
                    ) {
                        (true, false) => Told::Refused,
                        (false, true) => Told::Unknown,
                        _ => return world.fail(&format!("{name} answered a send with {detail}")),
                    }
                }
                Err(_) if address.borrow().is_none_or(|(now, _)| now != generation) => Told::Unknown,
                other => return world.fail(&format!("{name} answered a send with {other:?}")),
            };
            world.told(id, told);
            pause(&world, &mut random).await;
        }
    });
}

/// Sends over gRPC through a bad network, each message once.
pub fn over_grpc(world: &Arc<World>, sender: u16, random: fastrand::Rng) {
    let mut caller = Caller::new(world, format!("sender {sender}"), random);
    tokio::spawn(async move {
        loop {
            let id = caller.world.sending(sender);
            let text = text(id, &mut caller.random);
            let told = caller.call(&text, None).await;
            caller.world.told(id, told);
            pause(&caller.world, &mut caller.random).await;
        }
    });
}

/// Sends over gRPC through a bad network, each message under a key, again and again until it is
/// accepted or its epoch is over.
pub fn with_keys(world: &Arc<World>, sender: u16, random: fastrand::Rng) {
    let mut caller = Caller::new(world, format!("sender {sender} with keys"), random);
    tokio::spawn(async move {
        loop {
            let id = caller.world.sending(sender);
            let text = text(id, &mut caller.random);
            let epoch = caller.world.epoch.borrow().clone();
            let (start, mut unknown) = (Instant::now(), false);
            let told = loop {
                match caller.call(&text, Some((&format!("{sender}-{}", id.number), &epoch))).await {
                    Told::Unknown if start.elapsed() < AGAIN => unknown = true,
                    Told::Refused if start.elapsed() < AGAIN => tokio::time::sleep(AWAY).await,
                    // The refusal tells nothing about earlier tries.
                    Told::Refused | Told::Over if unknown => break Told::Unknown,
                    told => break told,
                }
            };
            caller.world.told(id, told);
            pause(&caller.world, &mut caller.random).await;
        }
    });
}

/// Makes gRPC calls, and reconnects to any server of the room when the connection is gone.
struct Caller {
    world: Arc<World>,
    name: String,
    network: Network,
    random: fastrand::Rng,
    connection: Option<(ServerAddr, Connection)>,
}

impl Caller {
    fn new(world: &Arc<World>, name: String, mut random: fastrand::Rng) -> Self {
        let network = world.bad_network(&name, &mut random);
        Self { world: Arc::clone(world), name, network, random, connection: None }
    }

    /// Sends once, with a key and its epoch, if there is one.
    async fn call(&mut self, text: &str, key: Option<(&str, &str)>) -> Told {
        let (server, connection) = loop {
            if let Some(open) = self.connection.take() {
                break open;
            }
            let servers = &self.network.servers;
            let server = ServerAddr::local(servers[self.random.usize(..servers.len())]);
            match Connection::open(&server).await {
                Ok(connection) => self.connection = Some((server, connection)),
                Err(_) => tokio::time::sleep(AWAY).await,
            }
        };
        let mut request = Request::new(SendMessageRequest { author: self.name.clone(), text: text.to_owned() });
        if let Some((key, epoch)) = key {
            request.metadata_mut().insert(IDEMPOTENCY_KEY, key.parse().expect("ASCII"));
            request.metadata_mut().insert(EPOCH, epoch.parse().expect("ASCII"));
        }
        let mut client = MessengerServerClient::with_origin(connection.clone(), server.origin());
        match tokio::time::timeout(ANSWER, client.send_message(request)).await {
            Ok(Ok(answer)) => {
                self.connection = Some((server, connection));
                Told::Accepted(answer.into_inner().send_time.map(|time| rfc3339(&time).to_string()).unwrap_or_default())
            }
            Ok(Err(status)) if status.metadata().contains_key(NOT_ACCEPTED) => Told::Refused,
            Ok(Err(status)) if status.code() == Code::FailedPrecondition && key.is_some() => Told::Over,
            Ok(Err(status))
                if matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal) =>
            {
                Told::Unknown
            }
            Ok(Err(status)) => {
                self.world.fail(&format!("{} was answered {status}", self.name));
                Told::Unknown
            }
            Err(_) => Told::Unknown,
        }
    }
}
