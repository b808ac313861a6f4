//! After SIGTERM or SIGINT streams end with `UNAVAILABLE`, running calls finish, and the exit
//! status is 0, in under three seconds even when a peer never reads. A second signal ends the
//! program at once.

use std::time::{Duration, Instant};

use crate::support;
use crate::support::Backend;
use crate::support::program::{self, CHAT, CLIENT};
use crate::support::suite::{tests, tests_of_each_backend};
use crate::support::{grpc, http2, post, reader};
use libtest_mimic::Trial;
use messenger::net::{Connection, ServerAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

pub fn tests() -> Vec<Trial> {
    let mut tests = tests_of_each_backend![
        both_signals_end_streams_with_a_status,
        peers_that_never_read_do_not_delay_the_shutdown,
        idle_peers_do_not_delay_the_shutdown,
        an_incomplete_call_is_answered,
        a_client_ends_with_running_requests_and_hanging_peers,
        a_second_signal_ends_at_once
    ];
    tests.extend(tests![the_combined_program_shuts_down_in_order]);
    tests
}

/// The promised bound.
const BOUND: Duration = Duration::from_secs(3);

async fn both_signals_end_streams_with_a_status(backend: Backend) {
    for signal in ["TERM", "INT"] {
        let (mut server, address) = backend.program(&[]).await;
        let mut readers = Vec::new();
        for _ in 0..20 {
            readers.push(reader(&mut grpc(address).await).await);
        }
        let last = post(&mut grpc(address).await, "alice", "the last words").await;
        let asked = Instant::now();
        server.signal(signal);
        let status = server.exit().await;
        assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
        assert_eq!(status.code(), Some(0), "{signal}");
        for reader in readers {
            let (messages, status) = reader.rest().await;
            assert_eq!(messages.last().expect("the message").time, last, "accepted before, delivered before the end");
            let status = status.expect("not a clean end");
            assert_eq!((status.code(), status.message()), (Code::Unavailable, "the server is shutting down"));
        }
    }
}

async fn peers_that_never_read_do_not_delay_the_shutdown(backend: Backend) {
    let (mut server, address) = backend.program(&[]).await;
    // A reader that has stopped with more messages than any buffer takes, a silent connection, and
    // a stream of another service.
    let stopped = reader(&mut grpc(address).await).await;
    let mut sender = grpc(address).await;
    for _ in 0..30 {
        post(&mut sender, "alice", &"x".repeat(1024 * 1024)).await;
    }
    let silent = TcpStream::connect(address).await.unwrap();
    let local = ServerAddr::local(address);
    let connection = Connection::open(&local).await.unwrap();
    let other = ServerReflectionClient::with_origin(connection, local.origin())
        .server_reflection_info(tokio_stream::pending())
        .await
        .unwrap();
    let asked = Instant::now();
    server.signal("TERM");
    let status = server.exit().await;
    assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
    assert_eq!(status.code(), Some(0));
    drop((stopped, silent, other));
}

async fn idle_peers_do_not_delay_the_shutdown(backend: Backend) {
    // With a drain of a minute each connection must end by itself.
    let (mut server, address) = backend.program(&[("MESSENGER_DRAIN_DEADLINE", "60s")]).await;
    let silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0").await.unwrap();
    let idle = http2::open(address).await;
    let mut was_busy = grpc(address).await;
    // Shows that the connections before were accepted.
    post(&mut was_busy, "alice", "hey").await;
    let asked = Instant::now();
    server.signal("TERM");
    assert_eq!(server.exit().await.code(), Some(0));
    assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
    drop((silent, half, idle, was_busy));
}

async fn an_incomplete_call_is_answered(backend: Backend) {
    let (mut server, address) = backend.program(&[("MESSENGER_DRAIN_DEADLINE", "60s")]).await;
    let mut requests = http2::open(address).await;
    let stream = http2::reader(&mut requests).await;
    let (answer, mut half) = http2::begin(&mut requests, "SendMessage");
    let message = http2::message("too late");
    half.send_data(message.slice(..3), false).unwrap();
    server.signal("TERM");
    server.line("draining").await;
    half.send_data(message.slice(3..), true).unwrap();
    assert_eq!(http2::status(answer).await, "14", "UNAVAILABLE, and not a connection that is gone");
    assert_eq!(server.exit().await.code(), Some(0));
    drop(stream);
}

async fn a_client_ends_with_running_requests_and_hanging_peers(backend: Backend) {
    for (server, signal) in [(true, "TERM"), (false, "INT")] {
        let (_server, address) = backend.program(&[]).await;
        let server_addr = if server { address.to_string() } else { "localhost:1".to_owned() };
        let mut client =
            program::start(CLIENT, &[("MESSENGER_SERVER_ADDR", &server_addr), ("MESSENGER_HTTP_PORT", "0")]);
        let http = client.address("client listening").await;
        // An incomplete request, an idle connection, and a send that waits for an absent server.
        let mut half = TcpStream::connect(http).await.unwrap();
        half.write_all(b"POST /sendMessage HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").await.unwrap();
        let _idle = TcpStream::connect(http).await.unwrap();
        let mut send = TcpStream::connect(http).await.unwrap();
        let body = r#"{"author": "alice", "text": "hey"}"#;
        let request = format!("POST /sendMessage HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        send.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        if server {
            support::soon("an answer", send.read_exact(&mut answer)).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
        } else {
            // The send must be accepted before the signal, and requests are accepted in order.
            assert_eq!(support::http::post(http, "/getAndFlushMessages", "").await.status, 200);
        }
        let asked = Instant::now();
        client.signal(signal);
        if !server {
            let mut all = String::new();
            support::soon("an answer", send.read_to_string(&mut all)).await.unwrap();
            assert!(all.starts_with("HTTP/1.1 503"), "a running call is answered: {all:?}");
            assert!(all.contains("the client is shutting down: the message was not sent"), "{all}");
        }
        assert_eq!(client.exit().await.code(), Some(0));
        assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
    }
}

async fn a_second_signal_ends_at_once(backend: Backend) {
    // With a drain of a minute.
    let (mut server, address) = backend.program(&[("MESSENGER_DRAIN_DEADLINE", "60s")]).await;
    let _stopped = reader(&mut grpc(address).await).await;
    let mut sender = grpc(address).await;
    for _ in 0..30 {
        post(&mut sender, "alice", &"x".repeat(1024 * 1024)).await;
    }
    server.signal("TERM");
    server.line("draining").await;
    assert!(server.exits_within(Duration::from_millis(300)).await.is_none(), "draining");
    server.signal("INT");
    assert_eq!(server.exit().await.code(), Some(130));
}

async fn the_combined_program_shuts_down_in_order() {
    let mut chat = program::start(CHAT, &[("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_HTTP_PORT", "0")]);
    let address = chat.address("server listening").await;
    chat.line("stream open").await;
    let stream = reader(&mut grpc(address).await).await;
    let asked = Instant::now();
    chat.signal("INT");
    assert_eq!(chat.exit().await.code(), Some(0));
    assert!(asked.elapsed() < BOUND);
    assert_eq!(stream.rest().await.1.expect("a status").code(), Code::Unavailable);
}
