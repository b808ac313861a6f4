//! All incomplete requests together take a bounded memory for a bounded time. Requests above the
//! bound are refused as not accepted, and small messages still pass.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support;
use crate::support::raw_http2::{self, DATA, FRAME, Outcome, Raw, frame, streams};
use crate::support::suite::tests;
use crate::support::{http2, post, program, soon};
use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub fn tests() -> Vec<Trial> {
    tests![
        incomplete_grpc_requests_hold_bounded_memory,
        incomplete_http_requests_hold_bounded_memory,
        incomplete_requests_end_after_their_timeout,
        small_pieces_do_not_hold_whole_read_buffers
    ]
}

const MIB: usize = 1024 * 1024;
/// The number of incomplete messages that fit when the largest is 1 MiB.
const ROOM: usize = 16;

/// A message of a megabyte without its last byte.
fn begin(requests: &mut h2::client::SendRequest<Bytes>, text: &str) -> (ResponseFuture, SendStream<Bytes>, Bytes) {
    let mut whole = http2::message(text);
    let last = whole.split_off(whole.len() - 1);
    let (answer, mut stream) = http2::begin(requests, "SendMessage");
    stream.send_data(whole, false).unwrap();
    (answer, stream, last)
}

async fn incomplete_grpc_requests_hold_bounded_memory() {
    let (server, address) = program::server(&[("MESSENGER_MAX_MESSAGE_BYTES", "1MiB")]).await;
    let mut reader = support::reader(&mut support::grpc(address).await).await;
    let mut sender = support::grpc(address).await;
    let text = "x".repeat(MIB - 100);
    let before = server.resident();
    for round in 0..3 {
        let mut requests = http2::open(address).await;
        let mut half: Vec<_> = (0..4 * ROOM).map(|_| begin(&mut requests, &text)).collect();
        // Small messages pass meanwhile, and refusals come at once.
        let mut refused = 0;
        while refused < 3 * ROOM {
            let time = post(&mut sender, "alice", "small").await;
            assert_eq!(reader.next().await.time, time);
            let mut waiting = Vec::new();
            for (mut answer, stream, last) in half {
                match tokio::time::timeout(Duration::from_millis(1), &mut answer).await {
                    Err(_) => waiting.push((answer, stream, last)),
                    Ok(answer) => {
                        let answer = answer.expect("a status");
                        assert_eq!(answer.headers()["grpc-status"], "14");
                        assert_eq!(answer.headers()["messenger-not-accepted"], "true");
                        refused += 1;
                    }
                }
            }
            half = waiting;
        }
        assert_eq!(half.len(), ROOM, "round {round}");
        for (answer, mut stream, last) in half {
            if round == 0 {
                // A cancelled call frees its room.
                stream.send_reset(h2::Reason::CANCEL);
            } else {
                stream.send_data(last, true).unwrap();
                assert_eq!(http2::status(answer).await, "0");
                assert_eq!(reader.next().await.text.len(), text.len());
            }
        }
    }
    // Twice the sixteen, because a growing buffer is copied, and as much for the log and its
    // deliveries. Not sixty-four.
    let grown = server.peak().saturating_sub(before);
    assert!(grown < (2 * ROOM + 2 * ROOM + 16) * MIB, "grew by {grown} bytes");
}

async fn incomplete_http_requests_hold_bounded_memory() {
    const MORE: usize = 4;
    let server = support::server(&[]);
    let client = support::client(server.address, &["--max-body-bytes", "1MiB"]);
    client.ready().await;
    let body = serde_json::json!({"author": "alice", "text": "x".repeat(MIB - 100)}).to_string();
    let (begin, end) = body.split_at(body.len() - 1);
    let mut half = Vec::new();
    for _ in 0..ROOM + MORE {
        half.push(begin_post(client.address, body.len(), begin).await);
    }
    let mut refused = 0;
    while refused < MORE {
        client.send("alice", "small").await;
        let mut waiting = Vec::new();
        for mut socket in half {
            match tokio::time::timeout(Duration::from_millis(10), status(&mut socket)).await {
                Err(_) => waiting.push(socket),
                Ok(status) => {
                    assert_eq!(status, "503");
                    refused += 1;
                }
            }
        }
        half = waiting;
    }
    let mut accepted = 0;
    for mut socket in half {
        // The last part may have found no room beside the others.
        let _ = socket.write_all(end.as_bytes()).await;
        let status = soon("an answer", status(&mut socket)).await;
        assert!(["200", "503"].contains(&status.as_str()), "{status}");
        accepted += usize::from(status == "200");
    }
    assert!(accepted >= ROOM / 2, "{accepted}");
    let mut socket = begin_post(client.address, body.len(), &body).await;
    assert_eq!(soon("an answer", status(&mut socket)).await, "200", "there is room again");
}

async fn incomplete_requests_end_after_their_timeout() {
    let (_server, address) = program::server(&[]).await;
    let mut requests = http2::open(address).await;
    let mut reader = support::reader(&mut support::grpc(address).await).await;
    let calls: Vec<_> = (0..100).map(|_| begin(&mut requests, "hey")).collect();
    for (answer, _stream, _) in calls {
        assert_eq!(http2::status(answer).await, "4", "DEADLINE_EXCEEDED");
    }
    let time = post(&mut support::grpc(address).await, "alice", "the first").await;
    assert_eq!(reader.next().await.time, time);
}

async fn small_pieces_do_not_hold_whole_read_buffers() {
    const CALLS: u32 = 3000;
    /// Less than the read buffer of a connection, and more than a call takes.
    const MOST: usize = 7 * 1024;
    /// An unknown type of frames, which are ignored, and fill the rest of the read buffer.
    const UNKNOWN: u8 = 0xbe;
    // Only the headers, a byte of the prefix, a byte of the message.
    for piece in [&[][..], &[0], &[0, 0, 0, 1, 0, 10]] {
        let (server, address) = program::server(&[]).await;
        let before = server.resident();
        let mut raw = Raw::open(address, &[]).await;
        let calls = streams(CALLS).map(|id| {
            let data = if piece.is_empty() { Vec::new() } else { frame(DATA, 0, id, piece) };
            [raw_http2::begin(id, "SendMessage"), data, frame(UNKNOWN, 0, 0, &[0; FRAME])].concat()
        });
        assert_eq!(raw.pour(calls).await, CALLS as usize);
        // The answer shows that all bytes were read.
        raw.comes_to("tiny pieces", Outcome::Lives).await;
        let each = server.resident().saturating_sub(before) / CALLS as usize;
        assert!(each < MOST, "{each} bytes for each call with {piece:?}");
    }
}

async fn begin_post(address: SocketAddr, length: usize, body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("POST /sendMessage HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();
    socket
}

/// Reads the status of an answer.
async fn status(socket: &mut TcpStream) -> String {
    let mut head = [0; "HTTP/1.1 200".len()];
    socket.read_exact(&mut head).await.unwrap();
    String::from_utf8_lossy(&head[9..]).into_owned()
}
