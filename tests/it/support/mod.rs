//! The support code of the tests: servers and clients on free ports, readers, HTTP calls, and the
//! real programs.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::pedantic, clippy::unwrap_used)]

mod backend;
pub mod browser;
pub mod certificates;
pub mod http;
pub mod http2;
pub mod netns;
pub mod program;
pub mod proxy;
pub mod raw_http2;
pub mod redis;
pub mod siege;
pub mod space;
pub mod suite;

pub use self::backend::Backend;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use clap::{Args, Parser};
use messenger::net::{self, Connection, ServerAddr};
use messenger::proto::messenger_server_client::MessengerServerClient;
use messenger::proto::{ReadMessagesResponse, SendMessageRequest};
use messenger::send_time::rfc3339;
use messenger::{client, server};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::{Status, Streaming};

pub type Grpc = MessengerServerClient<Connection>;

/// Longer than any step takes on a busy machine: a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for an event, and fails if it does not come.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// Polls until something is found, where no event can be awaited.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}

#[derive(Parser)]
struct Flags<S: Args> {
    #[command(flatten)]
    settings: S,
}

/// Parses settings from flags, as the programs do.
pub fn settings<S: Args>(flags: &[&str]) -> S {
    Flags::<S>::parse_from(std::iter::once(&"test").chain(flags)).settings
}

/// A server or a client that runs in this process.
#[derive(Debug)]
pub struct Running {
    pub address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

pub fn free_port() -> TcpListener {
    listen(0)
}

/// Listens on a port of ours. A program that another test has just started may hold a copy of the
/// old socket for a moment, so this tries until the port is free.
pub fn listen(port: u16) -> TcpListener {
    let start = std::time::Instant::now();
    loop {
        match net::listen((Ipv4Addr::LOCALHOST, port).into()) {
            Err(error) if start.elapsed() > PATIENCE => panic!("{error:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
            Ok(listener) => return listener,
        }
    }
}

/// Does the same without blocking the thread.
pub async fn listen_again(port: u16) -> TcpListener {
    until("the port", async || net::listen((Ipv4Addr::LOCALHOST, port).into()).ok()).await
}

/// A port at which a server can restart. It is below the range of ephemeral ports: an outgoing
/// connection could otherwise take the port while the server is away. Each call gives another one:
/// tests that run at once must not meet there.
pub fn fixed_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..)));
    loop {
        let port = 10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 20_000;
        if net::listen((Ipv4Addr::LOCALHOST, port).into()).is_ok() {
            return port;
        }
    }
}

/// Starts a server.
pub fn server(flags: &[&str]) -> Running {
    server_on(free_port(), flags)
}

pub fn server_on(listener: TcpListener, flags: &[&str]) -> Running {
    let settings: server::Settings = settings(flags);
    start(listener, |listener, shutdown| async move {
        server::serve(listener, &settings, &server::Metrics::default(), shutdown).await.expect("a room");
    })
}

/// Starts a client of the server at `server`.
pub fn client(server: SocketAddr, flags: &[&str]) -> Running {
    client_on(free_port(), server, flags)
}

pub fn client_on(listener: TcpListener, server: SocketAddr, flags: &[&str]) -> Running {
    let server = server.to_string();
    let settings: client::Settings = settings(&[&["--server-addr", &server], flags].concat());
    start(listener, |listener, shutdown| async move {
        client::serve(listener, &settings, &client::Metrics::default(), shutdown).await;
    })
}

fn start<F>(listener: TcpListener, serve: impl FnOnce(TcpListener, Shutdown) -> F) -> Running
where
    F: Future<Output = ()> + Send + 'static,
{
    let address = listener.local_addr().expect("an address");
    let (shutdown, asked) = oneshot::channel();
    let task = tokio::spawn(serve(listener, Box::pin(async { asked.await.unwrap_or_default() })));
    Running { address, shutdown, task }
}

type Shutdown = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Running {
    /// Shuts it down, and waits for its end.
    pub async fn stop(self) {
        let _ = self.shutdown.send(());
        soon("the shutdown", self.task).await.expect("no panic");
    }

    /// Opens a new connection to this server.
    pub async fn grpc(&self) -> Grpc {
        grpc(self.address).await
    }

    /// Opens a reader over a new connection, and waits for its headers.
    pub async fn reader(&self) -> Reader {
        reader(&mut self.grpc().await).await
    }

    /// Sends a message over HTTP, and returns its `sendTime`.
    pub async fn send(&self, author: &str, text: &str) -> String {
        http::send(self.address, author, text).await
    }

    /// Fetches the messages over HTTP.
    pub async fn flush(&self) -> Vec<Message> {
        http::flush(self.address).await
    }

    /// Waits until the stream of this client is open: sends a message, and flushes until it is
    /// there.
    pub async fn ready(&self) {
        let time = self.send("test", "are you there?").await;
        until("the client's own message", async || {
            self.flush().await.iter().any(|message| message.time == time).then_some(())
        })
        .await;
    }

    /// Flushes until there are `count` messages.
    pub async fn collect(&self, count: usize) -> Vec<Message> {
        let mut all = Vec::new();
        until("all messages", async || {
            all.extend(self.flush().await);
            (all.len() >= count).then_some(())
        })
        .await;
        all
    }
}

/// A message with its time as text, whichever interface it came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    pub author: String,
    pub text: String,
    pub time: String,
}

impl From<ReadMessagesResponse> for Message {
    fn from(message: ReadMessagesResponse) -> Self {
        let time = rfc3339(&message.send_time.expect("a time")).to_string();
        Self { author: message.author, text: message.text, time }
    }
}

pub async fn grpc(address: SocketAddr) -> Grpc {
    let address = ServerAddr::local(address);
    let connection = Connection::open(&address).await.expect("a connection");
    MessengerServerClient::with_origin(connection, address.origin())
}

/// Sends a message over gRPC, and returns its `sendTime`.
pub async fn post(grpc: &mut Grpc, author: &str, text: &str) -> String {
    let request = SendMessageRequest { author: author.to_owned(), text: text.to_owned() };
    let answer = grpc.send_message(request).await.expect("accepted").into_inner();
    rfc3339(&answer.send_time.expect("a time")).to_string()
}

pub async fn reader(grpc: &mut Grpc) -> Reader {
    Reader { stream: soon("the headers", grpc.read_messages(())).await.expect("a stream").into_inner() }
}

/// An open stream.
#[derive(Debug)]
pub struct Reader {
    pub stream: Streaming<ReadMessagesResponse>,
}

impl Reader {
    /// Waits for the next message.
    pub async fn next(&mut self) -> Message {
        soon("a message", self.stream.message()).await.expect("no status yet").expect("not the end").into()
    }

    pub async fn take(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::with_capacity(count);
        for _ in 0..count {
            messages.push(self.next().await);
        }
        messages
    }

    /// Reads to the end of the stream, and returns its status too.
    pub async fn rest(mut self) -> (Vec<Message>, Option<Status>) {
        let mut messages = Vec::new();
        loop {
            match soon("the end", self.stream.message()).await {
                Ok(Some(message)) => messages.push(message.into()),
                Ok(None) => return (messages, None),
                Err(status) => return (messages, Some(with_code(status))),
            }
        }
    }
}

/// The status with the code that gRPC defines for a reset stream, which tonic sets only with its
/// own transport. <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors>
fn with_code(status: Status) -> Status {
    match net::http2_error(&status).and_then(h2::Error::reason) {
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Status::resource_exhausted(status.message()),
        _ => status,
    }
}

/// Fails unless the times strictly increase, as text.
pub fn assert_increasing(messages: &[Message]) {
    for pair in messages.windows(2) {
        assert!(pair[0].time < pair[1].time, "{:?} is not before {:?}", pair[0], pair[1]);
    }
}
