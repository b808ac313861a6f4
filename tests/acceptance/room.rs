//! The room under test: its addresses, and calls to its server and clients.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use clap::{Args, Parser};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use messenger::net::{self, Connection, ServerAddr};
use messenger::proto::messenger_server_client::MessengerServerClient;
use messenger::proto::{ReadMessagesResponse, SendMessageRequest};
use prost_types::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Test;

/// How long the programs under test may take to start.
const START: Duration = Duration::from_secs(30);
/// How long a test waits for an event. Generous, because only failing tests wait so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

const VARIABLES: [&str; 3] =
    ["MESSENGER_TEST_SERVER_ADDR", "MESSENGER_TEST_CLIENT1_ADDR", "MESSENGER_TEST_CLIENT2_ADDR"];

/// A server and two clients of it.
#[derive(Debug, Clone)]
pub struct Room {
    pub server: Server,
    pub clients: [HttpClient; 2],
}

fn needs_clients(tests: &[Test]) -> bool {
    tests.iter().any(|test| test.name.starts_with("test_client"))
}

/// The addresses of the room in the environment, as many as these tests need. `None` if the
/// environment has none.
pub fn addresses(tests: &[Test]) -> Result<Option<Vec<ServerAddr>>, String> {
    let values = VARIABLES.map(|name| (name, std::env::var_os(name)));
    if values.iter().all(|(_, value)| value.is_none()) {
        return Ok(None);
    }
    let needed = if needs_clients(tests) { VARIABLES.len() } else { 1 };
    let addresses = values.into_iter().take(needed).map(|(name, value)| {
        let value = value.ok_or_else(|| format!("{name} is not set, which these tests need"))?;
        let value = value.to_string_lossy();
        value.parse().map_err(|error| format!("{name} is {value:?}: {error}"))
    });
    addresses.collect::<Result<_, _>>().map(Some)
}

/// Returns the room at these addresses, or starts one. Waits until it works.
pub async fn find(addresses: Option<Vec<ServerAddr>>, tests: &[Test]) -> anyhow::Result<Room> {
    let addresses = match addresses {
        Some(addresses) => addresses,
        None => start_own()?,
    };
    let server = Server { address: Arc::new(addresses[0].clone()) };
    // Tests of the server do not use the clients.
    let client = |index: usize| HttpClient { address: addresses.get(index).unwrap_or(&addresses[0]).to_string() };
    let room = Room { server, clients: [client(1), client(2)] };
    eventually(START, "the server answers", async || room.server.send("acceptance", "are you there?").await).await?;
    if needs_clients(tests) {
        for client in &room.clients {
            // A client may answer before its stream is open. So this waits until its own message
            // comes back.
            eventually(START, &format!("the client at {} is ready", client.address), async || {
                let tag = tag();
                client.send(&tag, "are you there?").await?;
                timeout(Duration::from_secs(1), client.collect(&tag, 1)).await.context("its message does not come")?
            })
            .await?;
        }
    }
    Ok(room)
}

#[derive(Parser)]
struct Flags<S: Args> {
    #[command(flatten)]
    settings: S,
}

fn start_own() -> anyhow::Result<Vec<ServerAddr>> {
    let port = || net::listen(([127, 0, 0, 1], 0).into());
    let listener = port()?;
    let server = ServerAddr::local(listener.local_addr()?);
    let settings = Flags::<messenger::server::Settings>::try_parse_from(["acceptance"])?.settings;
    tokio::spawn(async move {
        messenger::server::serve(listener, &settings, &Default::default(), std::future::pending()).await
    });
    let mut addresses = vec![server.clone()];
    for _ in 0..2 {
        let listener = port()?;
        addresses.push(ServerAddr::local(listener.local_addr()?));
        let mut settings = Flags::<messenger::client::Settings>::try_parse_from(["acceptance"])?.settings;
        settings.server_addr = server.clone().into();
        tokio::spawn(async move {
            messenger::client::serve(listener, &settings, &Default::default(), std::future::pending()).await
        });
    }
    Ok(addresses)
}

/// Repeats an attempt until it succeeds or the time is over. The error has the last reason.
async fn eventually<T>(limit: Duration, what: &str, attempt: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut last = anyhow!("no answer at all");
    let tries = async {
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(error) => last = error,
            }
            sleep(PAUSE).await;
        }
    };
    let done = timeout(limit, tries).await;
    done.map_err(|_| last.context(format!("waited {limit:?} until {what}")))
}

/// A new author name. A test recognises its own messages by the prefix of the author.
pub fn tag() -> String {
    format!("test-{:016x}", fastrand::u64(..))
}

/// A message from either interface. Times are compared as times, because other implementations may
/// print fewer digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    pub author: String,
    pub text: String,
    pub time: SystemTime,
}

pub fn system_time(time: Option<Timestamp>) -> anyhow::Result<SystemTime> {
    let time = time.context("no sendTime")?;
    ensure!((0..1_000_000_000).contains(&time.nanos), "sendTime.nanos is {}", time.nanos);
    SystemTime::try_from(time).context("sendTime is not a time")
}

#[derive(Debug, Clone)]
pub struct Server {
    address: Arc<ServerAddr>,
}

impl Server {
    /// Opens a new connection.
    pub async fn connect(&self) -> anyhow::Result<MessengerServerClient<Connection>> {
        let connection = Connection::open(&self.address).await?;
        Ok(MessengerServerClient::with_origin(connection, self.address.origin()))
    }

    pub async fn send(&self, author: &str, text: &str) -> anyhow::Result<Message> {
        send(&mut self.connect().await?, author, text).await
    }

    /// Opens a stream, and ignores messages whose author does not begin with `tag`.
    pub async fn reader(&self, tag: &str) -> anyhow::Result<Reader> {
        let mut grpc = self.connect().await?;
        let (seen, messages) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let error = loop_through(&mut grpc, &seen).await;
            let _ = seen.send(Err(error));
        });
        let mut reader = Reader { messages, tag: tag.to_owned(), early: VecDeque::new() };
        // Some servers send the response headers only with the first message. So this sends
        // messages until one arrives.
        let hello = format!("hello {}", self::tag());
        let opening = async {
            loop {
                self.send(&hello, "is the stream open?").await?;
                let next = async {
                    loop {
                        let message = reader.any().await?;
                        if message.author == hello {
                            return anyhow::Ok(());
                        }
                        reader.early.push_back(message);
                    }
                };
                if let Ok(opened) = timeout(Duration::from_millis(200), next).await {
                    return opened;
                }
            }
        };
        timeout(PATIENCE, opening).await.context("nothing comes through the stream")??;
        Ok(reader)
    }
}

/// Sends a message over gRPC, and returns it with the time of the answer.
pub async fn send(grpc: &mut MessengerServerClient<Connection>, author: &str, text: &str) -> anyhow::Result<Message> {
    let (author, text) = (author.to_owned(), text.to_owned());
    let request = SendMessageRequest { author: author.clone(), text: text.clone() };
    let answer = timeout(PATIENCE, grpc.send_message(request)).await.context("no answer to SendMessage")?;
    let answer = answer.map_err(|status| anyhow!("SendMessage: {:?} {}", status.code(), status.message()))?;
    Ok(Message { author, text, time: system_time(answer.into_inner().send_time)? })
}

/// Passes the messages of a new stream on, and returns the reason of its end.
async fn loop_through(
    grpc: &mut MessengerServerClient<Connection>,
    seen: &mpsc::UnboundedSender<anyhow::Result<Message>>,
) -> anyhow::Error {
    let read = async {
        let mut stream = grpc.read_messages(()).await?.into_inner();
        while let Some(ReadMessagesResponse { author, text, send_time }) = stream.message().await? {
            let _ = seen.send(system_time(send_time).map(|time| Message { author, text, time }));
        }
        Ok::<_, tonic::Status>(())
    };
    match read.await {
        Ok(()) => anyhow!("the stream ended"),
        Err(status) => anyhow!("the stream ended: {:?} {}", status.code(), status.message()),
    }
}

/// An open stream.
#[derive(Debug)]
pub struct Reader {
    messages: mpsc::UnboundedReceiver<anyhow::Result<Message>>,
    tag: String,
    /// Messages that arrived before the reader was known to be open.
    early: VecDeque<Message>,
}

impl Reader {
    async fn any(&mut self) -> anyhow::Result<Message> {
        self.messages.recv().await.context("the reader is gone")?
    }

    /// The next `count` messages with the reader's tag.
    pub async fn take(&mut self, count: usize) -> anyhow::Result<Vec<Message>> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let message = match self.early.pop_front() {
                Some(message) => message,
                None => timeout(PATIENCE, self.any())
                    .await
                    .with_context(|| format!("only {} of {count} messages came through the stream", taken.len()))??,
            };
            if message.author.starts_with(&self.tag) {
                taken.push(message);
            }
        }
        Ok(taken)
    }
}

/// A client, over HTTP.
#[derive(Debug, Clone)]
pub struct HttpClient {
    address: String,
}

impl HttpClient {
    /// Posts a body, and returns the JSON of the answer. Any status but 200 is an error.
    pub async fn post(&self, path: &str, content_type: &str, body: String) -> anyhow::Result<Value> {
        let call = async {
            let request = Request::post(format!("http://{}{path}", self.address)).header("content-type", content_type);
            // A connection for each call, as with curl, because some clients serve one connection
            // at a time.
            let http = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
            let answer = http.request(request.body(Full::new(Bytes::from(body)))?).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
            serde_json::from_slice(&body).with_context(|| format!("not JSON: {:?}", String::from_utf8_lossy(&body)))
        };
        let answer = timeout(PATIENCE, call).await.context("no answer").flatten();
        answer.with_context(|| format!("POST {path} at {}", self.address))
    }

    /// Sends a message as curl does, and returns it with the time of the answer.
    pub async fn send(&self, author: &str, text: &str) -> anyhow::Result<Message> {
        let body = json!({"author": author, "text": text}).to_string();
        let answer = self.post("/sendMessage", "application/x-www-form-urlencoded", body).await?;
        let time = time_of(&answer, &["sendTime"])?;
        Ok(Message { author: author.to_owned(), text: text.to_owned(), time })
    }

    /// Flushes once, and returns the messages.
    pub async fn flush(&self) -> anyhow::Result<Vec<Message>> {
        let answer = self.post("/getAndFlushMessages", "application/x-www-form-urlencoded", String::new()).await?;
        let Value::Array(messages) = answer else { bail!("a flush answers no array: {answer}") };
        let message = |json: Value| {
            let time = time_of(&json, &["author", "sendTime", "text"])?;
            let field = |name: &str| anyhow::Ok(json[name].as_str().context("no string")?.to_owned());
            Ok(Message { author: field("author")?, text: field("text")?, time })
        };
        messages.into_iter().map(message).collect()
    }

    /// Flushes until `count` messages with this tag have arrived.
    pub async fn collect(&self, tag: &str, count: usize) -> anyhow::Result<Vec<Message>> {
        let mut all: Vec<Message> = Vec::new();
        let flushes = async {
            while all.len() < count {
                all.extend(self.flush().await?.into_iter().filter(|message| message.author.starts_with(tag)));
                sleep(PAUSE).await;
            }
            anyhow::Ok(())
        };
        let done = timeout(PATIENCE, flushes).await;
        done.with_context(|| format!("only {} of {count} messages came to the client {}", all.len(), self.address))??;
        Ok(all)
    }
}

/// The `sendTime` of an object that has exactly these keys.
fn time_of(json: &Value, keys: &[&str]) -> anyhow::Result<SystemTime> {
    let object = json.as_object().with_context(|| format!("not an object: {json}"))?;
    let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
    found.sort_unstable();
    ensure!(found == keys, "the keys are {found:?}, not {keys:?}");
    let time = object["sendTime"].as_str().context("sendTime is not a string")?;
    humantime::parse_rfc3339(time).with_context(|| format!("sendTime is not RFC 3339 in UTC: {time:?}"))
}
