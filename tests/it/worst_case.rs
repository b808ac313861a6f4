//! With all limits reached at once, the server takes no more memory than the sum in docs/limits.md,
//! and still serves others.

use std::net::SocketAddr;

use crate::support;
use crate::support::suite::tests;
use crate::support::{assert_increasing, grpc, http2, program, soon};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::client::{self, SendRequest};
use libtest_mimic::Trial;
use messenger::proto::SendMessageRequest;
use messenger::proto::messenger_server_client::MessengerServerClient;
use tokio::net::TcpStream;
use tonic::Request;

pub fn tests() -> Vec<Trial> {
    tests![all_limits_reached_at_once_fit_in_the_documented_sum]
}

const MIB: usize = 1024 * 1024;

// The settings of the server.
const RETENTION: usize = 8 * MIB;
const MESSAGE: usize = MIB;
const KEYS: usize = 1_000;
const CONNECTIONS: usize = 50;
const STREAMS: usize = 200;

/// The sum in docs/limits.md.
const SUM: usize = 8 * MIB // the program itself
    + RETENTION + RETENTION / 4 // the messages, and what stopped readers pin
    + 3 * MESSAGE // the newest message on its way in
    + 2 * 16 * MIB // incomplete messages
    + KEYS * 112
    + CONNECTIONS * (64 * 1024 + STREAMS * 4 * 1024);

/// The allocator of the static programs keeps more freed memory than that of glibc.
const MOST: usize = if cfg!(target_env = "musl") { SUM + SUM / 4 } else { SUM };

/// Messages of a megabyte, ten times the retention.
const LARGE: usize = 10 * RETENTION / MIB;

async fn connect(address: SocketAddr, window: u32) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    let mut settings = client::Builder::new();
    settings.initial_window_size(window).initial_connection_window_size(1 << 30).initial_max_send_streams(usize::MAX);
    let (requests, connection) = soon("the handshake", settings.handshake(socket)).await.unwrap();
    tokio::spawn(connection);
    requests
}

async fn all_limits_reached_at_once_fit_in_the_documented_sum() {
    let (mut server, address) = program::server(&[
        ("MESSENGER_RETENTION_BYTES", "8MiB"),
        ("MESSENGER_MAX_MESSAGE_BYTES", "1MiB"),
        ("MESSENGER_IDEMPOTENCY_KEYS", "1000"),
        ("MESSENGER_MAX_CONNECTIONS", "50"),
        ("MESSENGER_MAX_STREAMS", "200"),
    ])
    .await;
    // A reader and a sender that must be served.
    let mut healthy = support::reader(&mut grpc(address).await).await;
    let mut sender = grpc(address).await;
    let listener = tokio::spawn(async move { healthy.take(KEYS).await });

    let send = async |sender: &mut MessengerServerClient<_>, number: usize, text: String| {
        let mut request = Request::new(SendMessageRequest { author: "alice".to_owned(), text });
        request.metadata_mut().insert("idempotency-key", number.to_string().parse().unwrap());
        soon("an answer", sender.send_message(request)).await
    };
    let mut attackers = Vec::new();
    // As many readers as the connections allow, which take one byte each.
    let mut stopped = Vec::new();
    for _ in 0..CONNECTIONS - 10 {
        let mut requests = connect(address, 1).await;
        for _ in 0..STREAMS {
            stopped.push(http2::call(&mut requests, "ReadMessages", http2::frame(b"")));
        }
        attackers.push(requests);
    }
    for number in 0..LARGE {
        send(&mut sender, number, "y".repeat(MESSAGE - 100)).await.expect("accepted");
    }
    // Incomplete messages on other connections.
    let half = http2::message(&"x".repeat(MESSAGE - 100));
    let (mut halves, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut requests = connect(address, 65_535).await;
        for _ in 0..STREAMS {
            let (answer, mut stream) = http2::begin(&mut requests, "SendMessage");
            stream.send_data(half.slice(..half.len() - 1), false).unwrap();
            halves.push(answer);
            streams.push(stream);
        }
        attackers.push(requests);
    }
    // All but the 16 that fit are refused.
    let mut refused = FuturesUnordered::from_iter(halves);
    for _ in 0..4 * STREAMS - 16 {
        soon("a refusal", refused.next()).await.unwrap().expect("a status");
    }
    // More connections than the limit.
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    // All keys are in use, and the chat continues.
    for number in LARGE..2 * KEYS {
        let answer = send(&mut sender, number, number.to_string()).await;
        assert_eq!(answer.is_ok(), number < KEYS, "key {number}");
    }
    assert_increasing(&soon("the chat", listener).await.unwrap());
    for answer in stopped {
        soon("the headers", answer).await.expect("a stream");
    }
    let peak = server.peak();
    assert!(peak < MOST, "{} of {} MiB", peak / MIB, MOST / MIB);
    drop((attackers, refused, streams, crowd));
    server.signal("TERM");
    assert_eq!(server.exit().await.code(), Some(0));
}
