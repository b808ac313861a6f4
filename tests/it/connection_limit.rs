//! Both programs limit their connections. A connection above the limit is closed at once, the
//! others are served, and a closed connection makes room for another.

use std::net::SocketAddr;

use crate::support;
use crate::support::suite::tests;
use crate::support::{client, grpc, http, http2, post, program, server, soon, until};
use libtest_mimic::Trial;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

pub fn tests() -> Vec<Trial> {
    tests![the_server_limits_connections, the_client_limits_connections, the_server_limits_streams_of_a_connection]
}

/// Waits until the peer closes the connection.
async fn is_closed(mut socket: TcpStream) {
    let read = soon("the close", socket.read(&mut [0])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

async fn the_server_limits_connections() {
    let (mut server, address) = program::server(&[("MESSENGER_MAX_CONNECTIONS", "2")]).await;
    let (mut one, mut other) = (grpc(address).await, grpc(address).await);
    let mut reader = support::reader(&mut one).await;
    post(&mut other, "alice", "hey").await;
    for _ in 0..10 {
        is_closed(TcpStream::connect(address).await.unwrap()).await;
    }
    server.line("too many connections").await;
    post(&mut other, "alice", "ho").await;
    assert_eq!(reader.take(2).await[1].text, "ho");
    drop(other);
    let time = until("a place", async || try_post(address).await).await;
    assert_eq!(reader.next().await.time, time);
}

async fn try_post(address: SocketAddr) -> Option<String> {
    let server = messenger::net::ServerAddr::local(address);
    let connection = messenger::net::Connection::open(&server).await.ok()?;
    let mut grpc = support::Grpc::with_origin(connection, server.origin());
    let answer = grpc.send_message(messenger::proto::SendMessageRequest::default()).await.ok()?;
    Some(messenger::send_time::rfc3339(&answer.into_inner().send_time?).to_string())
}

async fn the_client_limits_connections() {
    let server = server(&[]);
    let client = client(server.address, &["--http-max-connections", "2"]);
    client.ready().await;
    let mut idle = Vec::new();
    // A connection of an earlier call may still hold its place.
    until("both places", async || {
        let socket = TcpStream::connect(client.address).await.unwrap();
        let mut byte = [0];
        match tokio::time::timeout(std::time::Duration::from_millis(100), socket.peek(&mut byte)).await {
            Err(_) => idle.push(socket),
            Ok(closed) => assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}"),
        }
        (idle.len() == 2).then_some(())
    })
    .await;
    is_closed(TcpStream::connect(client.address).await.unwrap()).await;
    idle.pop();
    let call = async || {
        let answer = tokio::spawn(http::post(client.address, "/getAndFlushMessages", "")).await;
        answer.ok().filter(|answer| answer.status == 200)
    };
    until("a place", call).await;
}

async fn the_server_limits_streams_of_a_connection() {
    let server = server(&["--max-streams", "2"]);
    let mut requests = http2::open(server.address).await;
    let mut readers = vec![http2::reader(&mut requests).await, http2::reader(&mut requests).await];
    // The client knows the limit by now, and waits as HTTP/2 demands.
    let third = http2::call(&mut requests, "SendMessage", http2::message("hey"));
    post(&mut server.grpc().await, "alice", "from elsewhere").await;
    assert_eq!(http2::texts(&mut readers[0], |texts| !texts.is_empty()).await, ["from elsewhere"]);
    readers.pop();
    assert_eq!(http2::status(third).await, "0");
    assert_eq!(
        http2::texts(&mut readers[0], |texts| !texts.is_empty()).await,
        ["hey"],
        "sent after a stream has ended"
    );
}
