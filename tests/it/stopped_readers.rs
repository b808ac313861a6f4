//! A stopped reader pins its last slice of the log for at most an eighth of the retention after the
//! log has dropped it. Then its stream ends. So the memory of the server does not grow with stopped
//! readers, wherever they stop.

use crate::support;
use crate::support::suite::tests;
use crate::support::{grpc, http2, post, program, soon};
use h2::{Reason, RecvStream, client};
use http::Request;
use libtest_mimic::Trial;
use tokio::net::TcpStream;

pub fn tests() -> Vec<Trial> {
    tests![
        stopped_readers_hold_an_eighth_of_the_retention,
        a_reader_that_takes_nothing_is_told_of_the_shutdown,
        idle_readers_leave_the_window_of_their_connection
    ]
}

const MIB: usize = 1024 * 1024;
const RETENTION: usize = 8 * MIB;
/// Memory of the server that comes and goes with each message.
const SPREAD: usize = 2 * MIB;

/// Opens a connection whose streams take this many bytes.
async fn with_window(address: std::net::SocketAddr, window: u32) -> client::SendRequest<bytes::Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    let mut settings = client::Builder::new();
    settings.initial_window_size(window).initial_connection_window_size(1 << 30);
    let (requests, connection) = soon("the handshake", settings.handshake(socket)).await.unwrap();
    tokio::spawn(connection);
    requests
}

/// Reads a stream to its end, which is a status or a reset.
async fn end(mut stream: RecvStream) -> Result<String, Reason> {
    while let Some(data) = soon("the end", stream.data()).await {
        data.map_err(|error| error.reason().expect("a reset"))?;
    }
    let trailers = soon("trailers", stream.trailers()).await.unwrap().expect("trailers");
    Ok(trailers["grpc-status"].to_str().unwrap().to_owned())
}

async fn stopped_readers_hold_an_eighth_of_the_retention() {
    const STOPPED: usize = 500;
    const TEXT: usize = 64 * 1024;
    let (server, address) = program::server(&[("MESSENGER_RETENTION_BYTES", "8MiB")]).await;
    let mut requests = with_window(address, 1).await;
    let mut sender = grpc(address).await;
    let mut watch = support::reader(&mut grpc(address).await).await;
    for _ in 0..2 * RETENTION / TEXT {
        post(&mut sender, "alice", &"x".repeat(TEXT)).await;
        watch.next().await;
    }
    let before = server.resident();
    let mut stopped = Vec::new();
    for _ in 0..STOPPED {
        // Each reader takes the first byte of the next message, which all others have received.
        stopped.push(http2::reader(&mut requests).await);
        post(&mut sender, "alice", &"x".repeat(TEXT)).await;
        watch.next().await;
    }
    // The readers hold an eighth of the retention. Without a bound they would hold 31 MiB.
    let grown = server.peak().saturating_sub(before);
    assert!(grown < RETENTION / 8 + SPREAD, "grew by {} KiB", grown / 1024);
    for (number, stream) in stopped.into_iter().enumerate() {
        if number < STOPPED - 2 * RETENTION / TEXT {
            assert_eq!(end(stream).await, Err(Reason::ENHANCE_YOUR_CALM), "reader {number}");
        }
    }
}

async fn a_reader_that_takes_nothing_is_told_of_the_shutdown() {
    let server = support::server(&["--drain-deadline", "60s"]);
    let mut requests = with_window(server.address, 0).await;
    let idle = http2::reader(&mut requests).await;
    server.stop().await;
    assert_eq!(end(idle).await.as_deref(), Ok("14"));
}

async fn idle_readers_leave_the_window_of_their_connection() {
    // More readers than the default window of a connection has bytes: 64 KiB for all streams
    // together.
    const READERS: usize = 66_000;
    let (_server, address) = program::server(&[]).await;
    let socket = TcpStream::connect(address).await.unwrap();
    let mut settings = client::Builder::new();
    settings.initial_max_send_streams(usize::MAX).data_frame_budget(usize::MAX);
    let (mut requests, connection) = settings.handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let mut readers = Vec::new();
    for _ in 0..READERS / 1_000 {
        let calls: Vec<_> = (0..1_000).map(|_| http2::call(&mut requests, "ReadMessages", http2::frame(b""))).collect();
        for call in calls {
            readers.push(soon("the headers", call).await.expect("a stream").into_body());
        }
    }
    // A call with an answer over the same connection, while the room is silent.
    let request =
        Request::post("http://localhost/grpc.health.v1.Health/Check").header("content-type", "application/grpc");
    let (answer, mut stream) = requests.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(http2::frame(b""), true).unwrap();
    assert_eq!(http2::status(answer).await, "0");
    drop(readers);
}
