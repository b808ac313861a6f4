//! Client programs, each behind its own network. Their messages are fetched over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::network::Network;
use crate::record::ReaderId;
use crate::support::PATIENCE;
use crate::support::program::{self, Program};
use crate::world::{World, now};

/// An HTTP client with kept connections.
pub type Http = HttpClient<HttpConnector, Full<Bytes>>;

/// Pauses between two flushes, in milliseconds.
const FLUSHES: std::ops::Range<u64> = 1..20;

#[derive(Debug)]
pub struct Client {
    pub name: String,
    pub reader: ReaderId,
    pub network: Arc<Network>,
    /// The send deadline.
    deadline: &'static str,
    /// The number and the address of the running program; `None` while there is none.
    pub address: watch::Sender<Option<(u32, SocketAddr)>>,
    world: Arc<World>,
    program: Program,
    flushes: JoinHandle<()>,
}

#[derive(Deserialize)]
struct Message {
    text: String,
    #[serde(rename = "sendTime")]
    send_time: String,
}

impl Client {
    /// Starts a client, and waits until it reads.
    pub async fn start(world: &Arc<World>, name: String, network: Arc<Network>, deadline: &'static str) -> Self {
        let (program, address) = start(&network, deadline).await;
        let reader = world.note(|ledger| ledger.reader(&name, now()));
        let flushes = tokio::spawn(flush_forever(Arc::clone(world), name.clone(), reader, address));
        let address = watch::Sender::new(Some((0, address)));
        Self { name, reader, network, deadline, address, world: Arc::clone(world), program, flushes }
    }

    /// Kills the program and starts another, with a new record: the buffer is lost with the
    /// process.
    pub async fn kill(&mut self) {
        self.world.journal.note(&self.name, "killed");
        let generation = self.address.send_replace(None).map_or(0, |(generation, _)| generation + 1);
        self.flushes.abort();
        let _ = (&mut self.flushes).await;
        self.program.signal("KILL");
        self.program.exit().await;
        let address;
        (self.program, address) = start(&self.network, self.deadline).await;
        self.world.note(|ledger| ledger.begin_anew(self.reader, now()));
        self.world.journal.note(&self.name, "reads again, in a new process");
        self.flushes = tokio::spawn(flush_forever(Arc::clone(&self.world), self.name.clone(), self.reader, address));
        self.address.send_replace(Some((generation, address)));
    }

    /// The last lines of its log, for a failure that involves it.
    pub fn last_lines(&mut self) -> String {
        format!("what {} says of it:\n{}", self.name, self.program.last_lines(12))
    }

    /// Stops the program for this time.
    pub async fn stop(&self, time: Duration) {
        self.world.journal.note(&self.name, format!("stopped for {time:?}"));
        self.program.signal("STOP");
        tokio::time::sleep(time).await;
        self.program.signal("CONT");
    }
}

/// Starts the program, and waits until its stream is open.
async fn start(network: &Network, deadline: &str) -> (Program, SocketAddr) {
    let servers: Vec<String> = network.servers.iter().map(ToString::to_string).collect();
    let servers = servers.join(",");
    let settings = [
        ("MESSENGER_SERVER_ADDR", servers.as_str()),
        ("MESSENGER_HTTP_PORT", "0"),
        ("MESSENGER_SEND_DEADLINE", deadline),
    ];
    let mut program = program::start(program::CLIENT, &settings);
    let address = program.address("client listening").await;
    program.line("stream open").await;
    (program, address)
}

async fn flush_forever(world: Arc<World>, name: String, reader: ReaderId, address: SocketAddr) {
    let http = http();
    loop {
        match post(&http, address, "/getAndFlushMessages", Bytes::new()).await {
            Ok((200, headers, body)) => {
                let count = |header| headers.get(header).map_or(0, |count| count.to_str().unwrap().parse().unwrap());
                // The gap is somewhere among these messages, before those of the next life of the
                // server.
                match count("messenger-gaps") {
                    0 => {}
                    gaps => world.note(|ledger| ledger.gap(reader, gaps)),
                }
                if count("messenger-dropped") > 0 {
                    world.fail(&format!("{name} dropped messages"));
                }
                match serde_json::from_slice::<Vec<Message>>(&body) {
                    Ok(messages) => {
                        messages
                            .into_iter()
                            .for_each(|message| world.received(reader, &message.text, message.send_time));
                    }
                    Err(error) => world.fail(&format!("{name} answered a flush with {error}: {body:?}")),
                }
            }
            other => world.fail(&format!("{name} answered a flush with {other:?}")),
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(FLUSHES))).await;
    }
}

pub fn http() -> Http {
    HttpClient::builder(TokioExecutor::new()).build_http()
}

/// Makes a call, and returns its status, headers and body.
pub async fn post(
    http: &Http,
    address: SocketAddr,
    path: &str,
    body: Bytes,
) -> Result<(u16, HeaderMap, Bytes), String> {
    let request = Request::post(format!("http://{address}{path}")).body(Full::new(body)).expect("a request");
    let call = async {
        let (head, body) = http.request(request).await.map_err(|error| format!("{error:?}"))?.into_parts();
        let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
        Ok((head.status.as_u16(), head.headers, body))
    };
    tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| Err("no answer".to_owned()))
}
