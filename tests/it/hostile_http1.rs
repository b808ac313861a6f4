//! Attacks over HTTP/1.1: the client serves the others, memory is bounded, nothing panics, and the
//! client shuts down.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support;
use crate::support::http;
use crate::support::raw_http2::{PREFACE, STUCK, noise, settings};
use crate::support::siege::{Besieged, KIB, MIB};
use crate::support::suite::tests;
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

pub fn tests() -> Vec<Trial> {
    tests![
        malformed_requests_are_refused,
        ambiguous_request_lengths_are_refused,
        slow_requests_time_out,
        five_thousand_idle_connections_are_bounded,
        pipelined_requests_with_unread_answers_are_bounded,
        unread_flushes_are_bounded
    ]
}

/// The memory of a connection with little traffic.
const CONNECTION: usize = 20 * KIB;
/// The memory of a busy connection: hyper reads up to 400 KiB ahead.
const READ_BUFFER: usize = 512 * KIB;
/// The growth of the client for everything else: the messages of the bystanders, and what the
/// allocator keeps.
const FLOOD: usize = 8 * MIB;

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("a connection")
}

/// Writes as much as the client accepts, and returns whether that was all.
async fn write(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    matches!(tokio::time::timeout(STUCK, stream.write_all(bytes)).await, Ok(Ok(())))
}

/// Reads to the end of the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // The client may close with unread bytes of ours, which resets the connection after the answer.
    let _ = support::soon("the end of the connection", stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A request with these headers and this body, which need not match.
fn request(headers: &str, body: &str) -> Vec<u8> {
    format!("POST /sendMessage HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}").into_bytes()
}

async fn malformed_requests_are_refused() {
    const MESSAGE: &str = r#"{"author":"smuggler","text":"hey"}"#;
    let chunked = |body: &str| request("Transfer-Encoding: chunked\r\n", body);
    let many = (0..10_000).map(|number| format!("x-{number}: 1\r\n")).collect::<Vec<_>>().concat();
    let length = MESSAGE.len();
    let attacks: Vec<(&str, Vec<u8>, &str)> = vec![
        ("ten thousand headers", request(&many, ""), "431"),
        ("a header of a mebibyte", request(&format!("x: {}\r\n", "y".repeat(MIB)), ""), "431"),
        ("a path of a mebibyte", format!("GET /{} HTTP/1.1\r\n", "x".repeat(MIB)).into_bytes(), "431"),
        ("a line without an end", vec![b'x'; MIB], "431"),
        ("two lengths", request(&format!("Content-Length: {length}\r\nContent-Length: 3\r\n"), MESSAGE), "400"),
        ("a length of letters", request("Content-Length: many\r\n", MESSAGE), "400"),
        ("a negative length", request("Content-Length: -1\r\n", MESSAGE), "400"),
        ("a length with a sign", request(&format!("Content-Length: +{length}\r\n"), MESSAGE), "400"),
        ("a length that overflows", request("Content-Length: 99999999999999999999\r\n", MESSAGE), "400"),
        ("an encoding that is not known", request("Transfer-Encoding: gzip\r\n", MESSAGE), "400"),
        ("chunks and something after", request("Transfer-Encoding: chunked, gzip\r\n", MESSAGE), "400"),
        ("a chunk of no number", chunked("hey\r\n"), "400"),
        ("a chunk that overflows", chunked("fffffffffffffffff\r\nx"), "400"),
        ("a chunk that is longer than it says", chunked(&format!("5\r\n{MESSAGE}\r\n0\r\n\r\n")), "400"),
        ("a chunk's extension without an end", chunked(&format!("1;{}", "x".repeat(MIB))), "400"),
        ("trailers without an end", chunked(&format!("0\r\n{many}")), "400"),
        ("a space before the colon", request("Content-Length : 5\r\n", "hello"), "400"),
        ("a folded header", request("x: 1\r\n 2\r\n", ""), "400"),
        ("a null in a header", request("x: \0\r\n", ""), "400"),
        ("another version", b"GET /health HTTP/9.9\r\n\r\n".to_vec(), "400"),
        ("HTTP/2", [PREFACE, &settings(&[])].concat(), ""),
        ("TLS", [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &noise(500)].concat(), "400"),
        ("noise", noise(MIB), "400"),
    ];
    let client = Besieged::client().await;
    let count = attacks.len();
    for (attack, bytes, status) in attacks {
        let mut stream = connect(client.address).await;
        write(&mut stream, &bytes).await;
        let _ = stream.shutdown().await;
        let answer = rest(&mut stream).await;
        let begin = if status.is_empty() { String::new() } else { format!("HTTP/1.1 {status} ") };
        assert!(answer.starts_with(&begin) && answer.is_empty() == begin.is_empty(), "{attack}: {answer}");
    }
    client.stands(FLOOD + count * READ_BUFFER).await;
}

async fn ambiguous_request_lengths_are_refused() {
    // With chunks and a length, a proxy that uses the other one sees a second request. RFC 9112,
    // 6.1: the server may answer, and must close the connection.
    let client = Besieged::client().await;
    let mut stream = connect(client.address).await;
    let body = r#"{"author":"alice","text":"hey"}"#;
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", body.len());
    write(&mut stream, &request("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &chunked)).await;
    let answer = rest(&mut stream).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    client.stands(FLOOD).await;
}

async fn slow_requests_time_out() {
    const EACH: usize = 100;
    let client = Besieged::client().await;
    let mut slow = JoinSet::new();
    let long = "x".repeat(100);
    let attacks = [
        ("a header", vec![], request(&format!("x: {long}\r\n"), "")),
        ("a body", request("Content-Length: 1000\r\n", ""), long.clone().into_bytes()),
        ("a body in chunks", request("Transfer-Encoding: chunked\r\n", ""), "1\r\nx\r\n".repeat(20).into_bytes()),
        ("a chunk's length", request("Transfer-Encoding: chunked\r\n", ""), "0".repeat(15).into_bytes()),
    ];
    let count = attacks.len();
    for (_, at_once, slowly) in attacks {
        for _ in 0..EACH {
            let (mut stream, at_once, slowly) = (connect(client.address).await, at_once.clone(), slowly.clone());
            slow.spawn(async move {
                write(&mut stream, &at_once).await;
                // All bytes but the last, for which the client may wait.
                for byte in &slowly[..slowly.len() - 1] {
                    write(&mut stream, &[*byte]).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                stream
            });
        }
    }
    let _left_open = slow.join_all().await;
    client.stands(FLOOD + count * EACH * CONNECTION).await;
}

async fn five_thousand_idle_connections_are_bounded() {
    let client = Besieged::client().await;
    // As many as the limit of open files allows: both ends have a descriptor.
    let count = (messenger::process::file_limit() / 2).min(5_000);
    let mut idle = Vec::new();
    for number in 0..count {
        let mut stream = connect(client.address).await;
        // Every second connection has had an answer.
        if number % 2 == 0 {
            assert!(write(&mut stream, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await);
            support::soon("an answer", stream.readable()).await.expect("an answer");
        }
        idle.push(stream);
    }
    client.stands(FLOOD + count * CONNECTION).await;
}

async fn pipelined_requests_with_unread_answers_are_bounded() {
    // The answers are larger than the buffers of the kernel.
    const REQUESTS: usize = 200_000;
    const CONNECTIONS: usize = 4;
    let client = Besieged::client().await;
    let health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(REQUESTS);
    let bad = request("Content-Length: 3\r\n", "hey").repeat(REQUESTS);
    let mut senders = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (mut stream, requests) =
            (connect(client.address).await, if number % 2 == 0 { &health } else { &bad }.clone());
        senders.spawn(async move {
            assert!(!write(&mut stream, &requests).await, "who takes no answers is read no further");
            stream
        });
    }
    let _left_open = senders.join_all().await;
    client.stands(FLOOD + CONNECTIONS * READ_BUFFER).await;
}

async fn unread_flushes_are_bounded() {
    const MESSAGES: usize = 32;
    let mut left_open = Vec::new();
    let client = Besieged::client_after(async |address| {
        for _ in 0..MESSAGES {
            http::send(address, "alice", &"x".repeat(MIB)).await;
        }
        for _ in 0..10 {
            let mut stream = connect(address).await;
            let flush = b"POST /getAndFlushMessages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
            assert!(write(&mut stream, &flush.repeat(1_000)).await);
            support::soon("an answer", stream.readable()).await.expect("an answer");
            left_open.push(stream);
        }
    })
    .await;
    client.stands(FLOOD + left_open.len() * READ_BUFFER).await;
}
