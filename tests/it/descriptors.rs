//! A program without free file descriptors serves its connections, and accepts others once some
//! close. A program that cannot start another thread runs on.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::support;
use crate::support::program::{self, CHAT, CLIENT, Program, SERVER};
use crate::support::suite::{self, tests};
use crate::support::{PATIENCE, Reader, grpc, http, post, reader, server_on, until};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub fn tests() -> Vec<Trial> {
    tests![
        a_server_without_free_descriptors_serves_its_connections,
        a_client_without_free_descriptors_serves_its_connections,
        too_few_threads_at_startup_are_one_line,
        a_client_runs_on_without_another_thread
    ]
}

/// A limit of open files that the process cannot raise.
const LIMIT: &str = "ulimit -n 40";
/// More connections than the limit.
const CALLERS: usize = 60;

/// Waits until a count has not changed for a while.
async fn settled(mut count: impl FnMut() -> usize) -> usize {
    let (mut last, mut same) = (0, 0);
    until("an end of the rush", async || {
        tokio::time::sleep(Duration::from_millis(10)).await;
        same = if count() == last { same + 1 } else { 0 };
        last = count();
        (same > 50).then_some(last)
    })
    .await
}

async fn start_limited(program: &str, what: &str, variables: &[(&str, &str)]) -> (Program, SocketAddr) {
    let mut program = program::start_after(LIMIT, program, variables);
    let address = program.address(what).await;
    (program, address)
}

async fn a_server_without_free_descriptors_serves_its_connections() {
    let (mut server, address) = start_limited(SERVER, "server listening", &[("MESSENGER_SERVER_PORT", "0")]).await;
    let mut sender = grpc(address).await;
    // The kernel accepts all connections, the server as many as it can.
    let callers: Vec<JoinHandle<Reader>> =
        (0..CALLERS).map(|_| tokio::spawn(async move { reader(&mut grpc(address).await).await })).collect();
    let is_in = |caller: &JoinHandle<Reader>| caller.is_finished();
    let count = settled(|| callers.iter().filter(|caller| is_in(caller)).count()).await;
    assert!((15..40).contains(&count), "{count} readers with 40 files");
    server.line("can't accept connections").await;
    let (inside, outside): (Vec<_>, Vec<_>) = callers.into_iter().partition(is_in);
    let mut readers = Vec::new();
    for caller in inside {
        readers.push(caller.await.expect("a reader"));
    }
    for round in 0..20 {
        let time = post(&mut sender, "alice", &round.to_string()).await;
        for reader in &mut readers {
            assert_eq!(reader.next().await.time, time);
        }
    }
    assert!(!outside.iter().any(is_in), "the others still wait");

    // Each connection that closes lets in another one.
    readers.truncate(count - 10);
    until("ten others", async || (outside.iter().filter(|caller| is_in(caller)).count() >= 10).then_some(())).await;
    server.line("accepting connections again").await;
    drop(readers);
    let mut late: FuturesUnordered<_> = outside.into_iter().collect();
    let mut last = None;
    while let Some(caller) = late.next().await {
        last = Some(caller.expect("a reader"));
    }
    let time = post(&mut sender, "alice", "the end").await;
    assert_eq!(last.expect("somebody").next().await.time, time);
}

/// A connection to a client with one request at a time.
struct Caller(TcpStream);

impl Caller {
    async fn new(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("the kernel connects"))
    }

    /// Whether a request is answered with 200 within this time.
    async fn asks(&mut self, time: Duration) -> bool {
        if self.0.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.is_err() {
            return false;
        }
        self.hears(time).await
    }

    async fn hears(&mut self, time: Duration) -> bool {
        let mut answer = [0; 1024];
        match tokio::time::timeout(time, self.0.read(&mut answer)).await {
            Ok(Ok(length)) => answer[..length].starts_with(b"HTTP/1.1 200"),
            _ => false,
        }
    }
}

async fn a_client_without_free_descriptors_serves_its_connections() {
    let port = support::fixed_port();
    let server = server_on(support::listen(port), &[]);
    let server_addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
    let variables = [("MESSENGER_HTTP_PORT", "0"), ("MESSENGER_SERVER_ADDR", server_addr.as_str())];
    let (mut client, address) = start_limited(CLIENT, "client listening", &variables).await;
    client.line("stream open").await;

    let mut inside = Vec::new();
    for _ in 0..CALLERS {
        let mut caller = Caller::new(address).await;
        if caller.asks(PATIENCE).await {
            inside.push(caller);
        }
    }
    assert!((15..40).contains(&inside.len()), "{} connections with 40 files", inside.len());
    client.line("too many connections").await;
    for caller in &mut inside {
        assert!(caller.asks(PATIENCE).await, "an accepted connection is served");
    }

    // Some descriptors are reserved for the client: it reconnects after a restart of the server.
    server.stop().await;
    client.line("stream ended").await;
    let server = server_on(support::listen(port), &[]);
    client.line("stream open").await;
    for caller in &mut inside {
        assert!(caller.asks(PATIENCE).await, "an accepted connection is served");
    }

    // Two connections close, and two others are served.
    for _ in 0..2 {
        inside.pop();
        let another = until("a place", async || {
            let mut caller = Caller::new(address).await;
            caller.asks(PATIENCE).await.then_some(caller)
        });
        inside.insert(0, another.await);
    }
    drop(inside);
    let send = async || {
        let answer =
            tokio::spawn(http::try_send(address, "alice", "hey")).await.ok().filter(|answer| answer.status == 200)?;
        Some(answer.json()["sendTime"].as_str().expect("a time").to_owned())
    };
    let time = until("a place, and an answer", send).await;
    until("the message", async || http::flush(address).await.iter().any(|message| message.time == time).then_some(()))
        .await;
    server.stop().await;
}

/// The limit of processes does not apply to root, so the programs run as a user without other
/// processes.
const NOBODY: &str = "setpriv --reuid 61234 --clear-groups";

fn require_limits() {
    let tools = std::process::Command::new("sh").args(["-c", &format!("{NOBODY} prlimit --version")]).output();
    if !tools.is_ok_and(|tools| tools.status.success()) {
        suite::missing("root, `setpriv` and `prlimit` (Debian: util-linux)");
    }
}

async fn too_few_threads_at_startup_are_one_line() {
    require_limits();
    for program in [SERVER, CLIENT, CHAT] {
        let ports = [("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_HTTP_PORT", "0")];
        let setup = format!("exec {NOBODY} prlimit --nproc=3:3 \"$0\"");
        let mut started = program::start_after(&setup, program, &ports);
        assert_eq!(started.exit().await.code(), Some(1), "{program}: {:#?}", started.whole_log().await);
        let log = started.whole_log().await;
        assert!(log.len() == 1 && log[0].contains("does not grant the"), "{program}: {log:#?}");
    }
}

async fn a_client_runs_on_without_another_thread() {
    require_limits();
    let port = support::fixed_port();
    let server = format!("localhost:{port}");
    let variables = [("MESSENGER_SERVER_ADDR", server.as_str()), ("MESSENGER_HTTP_PORT", "0")];
    let mut client = program::start_after(&format!("exec {NOBODY} \"$0\""), CLIENT, &variables);
    let address = client.address("client listening").await;
    let limit = format!("{NOBODY} prlimit --nproc=1:1 --pid {}", client.pid());
    let limited = std::process::Command::new("sh").args(["-c", &limit]).status();
    assert!(limited.expect("a shell").success());
    // Each attempt to connect looks the name up.
    for _ in 0..2 {
        let server = support::server_on(support::listen_again(port).await, &[]);
        http::send(address, "alice", "hey").await;
        server.stop().await;
    }
    assert_eq!(http::flush(address).await.len(), 2);
}
