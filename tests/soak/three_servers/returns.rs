//! Measures how soon readers read again after a server or Redis is killed, and after it is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use messenger::net::{Connection, ServerAddr};
use messenger::proto::messenger_server_client::MessengerServerClient;
use messenger::proto::{IDEMPOTENCY_KEY, SendMessageRequest};
use messenger::send_time::rfc3339;
use tonic::Request;

use crate::network::Network;
use crate::record::{ReaderId, Time};
use crate::support::PATIENCE;
use crate::world::World;

/// The pause between two tries to send.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a try may take.
const ANSWER: Duration = Duration::from_secs(5);

/// A reader whose returns are measured.
#[derive(Debug)]
pub struct Watched {
    pub name: String,
    pub reader: ReaderId,
    pub network: Arc<Network>,
    /// The only server that the reader can reach, if it can't reach all.
    pub only_at: Option<usize>,
}

/// The state of the network of each reader at one moment.
pub struct States(Vec<Option<u64>>);

impl States {
    pub fn now(readers: &[Watched]) -> Self {
        Self(readers.iter().map(|watched| watched.network.undisturbed()).collect())
    }
}

/// Sends a message through this server, over a network without faults, until it is accepted.
pub async fn mark(world: &World, server: usize) -> Time {
    let id = world.sending(0);
    let address = ServerAddr::local(world.servers[server]);
    let attempt = async || {
        let connection = Connection::open(&address).await.ok()?;
        let mut request = Request::new(SendMessageRequest { author: "mark".to_owned(), text: id.text(0) });
        request.metadata_mut().insert(IDEMPOTENCY_KEY, format!("mark-{}", id.number).parse().expect("ASCII"));
        let mut client = MessengerServerClient::with_origin(connection, address.origin());
        let answer = client.send_message(request).await.ok()?.into_inner();
        answer.send_time.map(|time| rfc3339(&time).to_string())
    };
    let start = Instant::now();
    loop {
        if let Ok(Some(time)) = tokio::time::timeout(ANSWER, attempt()).await {
            world.note(|ledger| ledger.acknowledged(id, time.clone()));
            return time;
        }
        assert!(start.elapsed() < PATIENCE, "the server {} takes no message", server + 1);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Measures how long each reader takes from `since` until it has this message. Readers with another
/// fault meanwhile do not count, nor those that can't have it while a server is `gone`. `before`
/// are their states before the fault. More than `most` fails the soak.
pub async fn times(
    world: &World,
    readers: &[Watched],
    before: &States,
    mark: &Time,
    since: Instant,
    gone: Option<usize>,
    most: Duration,
) -> Vec<Duration> {
    let mut times = Vec::new();
    let waits = |(watched, state): (_, &Option<u64>)| Some((watched, (*state)?));
    let mut waiting: Vec<(&Watched, u64)> = readers.iter().zip(&before.0).filter_map(waits).collect();
    waiting.retain(|(watched, _)| gone.is_none() || watched.only_at != gone);
    while !waiting.is_empty() {
        let elapsed = since.elapsed();
        waiting.retain(|(watched, state)| {
            if world.note(|ledger| ledger.last(watched.reader) >= mark) {
                times.push(elapsed);
                return false;
            }
            watched.network.undisturbed() == Some(*state)
        });
        if elapsed > most && !waiting.is_empty() {
            let names: Vec<&str> = waiting.iter().map(|(watched, _)| watched.name.as_str()).collect();
            world.fail(&format!("SLOW: {elapsed:?} later these do not read again: {}", names.join(", ")));
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    times
}
