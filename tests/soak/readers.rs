//! gRPC readers that resume after each cut, and sometimes close their streams themselves.

use std::sync::Arc;
use std::time::Duration;

use messenger::net::{Connection, ServerAddr};
use messenger::proto::messenger_server_client::MessengerServerClient;
use messenger::proto::{EPOCH, POSITION, RESUME_AFTER, RESUMED, ReadMessagesResponse};
use messenger::send_time::rfc3339;
use tokio::sync::oneshot;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Streaming};

use crate::network::Network;
use crate::record::{ReaderId, Time};
use crate::world::World;

/// The time to open a stream before a retry, longer than the longest fault.
const OPENING: Duration = Duration::from_secs(5);

pub struct Reader {
    name: String,
    /// The servers that it can reach.
    servers: Vec<ServerAddr>,
    /// The index of its server.
    at: usize,
    world: Arc<World>,
    random: fastrand::Rng,
    /// Its record, epoch and position, once it had a stream.
    place: Option<(ReaderId, String, Time)>,
}

/// Starts a reader at the first server of this network, and reports its first stream to `opened`.
pub fn start(
    world: &Arc<World>,
    name: String,
    network: Arc<Network>,
    random: fastrand::Rng,
    opened: oneshot::Sender<ReaderId>,
) {
    let servers = network.servers.iter().copied().map(ServerAddr::local).collect();
    let mut reader = Reader { name, servers, at: 0, world: Arc::clone(world), random, place: None };
    let mut opened = Some(opened);
    tokio::spawn(async move {
        // The network lives as long as the reader.
        let _network = network;
        let mut kept = None;
        loop {
            match tokio::time::timeout(OPENING, reader.open(kept.take())).await {
                Ok(Some((connection, stream))) => {
                    if let Some((id, ..)) = reader.place {
                        opened.take().map(|opened| opened.send(id));
                    }
                    kept = reader.read(stream).await.then_some(connection);
                }
                _ => tokio::time::sleep(Duration::from_millis(reader.random.u64(5..50))).await,
            }
            // At the same server or at another one of the room.
            let next = reader.random.usize(..reader.servers.len());
            if std::mem::replace(&mut reader.at, next) != next {
                kept = None;
            }
        }
    });
}

impl Reader {
    /// Opens a stream over the connection or a new one.
    async fn open(&mut self, kept: Option<Connection>) -> Option<(Connection, Streaming<ReadMessagesResponse>)> {
        let server = &self.servers[self.at];
        let connection = match kept {
            Some(connection) => connection,
            None => Connection::open(server).await.ok()?,
        };
        let mut request = Request::new(());
        if let Some((_, epoch, after)) = &self.place {
            request.metadata_mut().insert(EPOCH, epoch.parse().expect("ASCII"));
            request.metadata_mut().insert(RESUME_AFTER, after.parse().expect("ASCII"));
        }
        let mut client = MessengerServerClient::with_origin(connection.clone(), server.origin());
        match client.read_messages(request).await {
            Ok(response) => {
                self.opened(response.metadata());
                Some((connection, response.into_inner()))
            }
            // The connection broke, or the time is over.
            Err(status)
                if matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal) =>
            {
                None
            }
            Err(status) => {
                self.world.fail(&format!("{} can't open a stream: {status}", self.name));
                None
            }
        }
    }

    /// Checks where a stream begins.
    fn opened(&mut self, headers: &MetadataMap) {
        let get = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (Some(epoch), Some(position), resumed) = (get(EPOCH), get(POSITION), get(RESUMED)) else {
            return self.world.fail(&format!("{} got a stream without a position", self.name));
        };
        match (&mut self.place, resumed.as_deref()) {
            (place @ None, None) => {
                let id = self.world.note(|ledger| ledger.reader(&self.name, position.clone()));
                *place = Some((id, epoch, position));
            }
            (Some((_, before, after)), Some("true")) if *before == epoch && *after == position => {}
            (Some((id, before, after)), Some("false")) => {
                self.world.note(|ledger| ledger.gap(*id, 1));
                (*before, *after) = (epoch, position);
            }
            (place, resumed) => {
                let what = format!("asked to go on at {place:?}, and was told {resumed:?} with {epoch} {position}");
                return self.world.fail(&format!("{} {what}", self.name));
            }
        }
        if let Some((id, epoch, _)) = &self.place {
            self.world.note(|ledger| ledger.opened(*id, epoch));
        }
    }

    /// Reads until the stream is cut, or until the reader closes it; returns whether the connection
    /// is still good.
    async fn read(&mut self, mut stream: Streaming<ReadMessagesResponse>) -> bool {
        let enough = tokio::time::sleep(Duration::from_millis(self.random.u64(0..4000)));
        tokio::pin!(enough);
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = &mut enough => return true,
            };
            let (Ok(Some(message)), Some((id, _, after))) = (message, &mut self.place) else { return false };
            let time = message.send_time.as_ref().map(|time| rfc3339(time).to_string()).unwrap_or_default();
            self.world.received(*id, &message.text, time.clone());
            *after = time;
        }
    }
}
