//! What a peer of the client may do to HTTP/1.1, and what it can't: while it goes on the others are served, memory is bounded, nothing
//! panics, and the client ends as always.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use support::http;
use support::raw_http2::{PREFACE, noise, settings};
use support::siege::{Besieged, KIB, MIB};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What one connection may take with its buffers, of which hyper's larger one grows to 400 KiB with what comes.
const CONNECTION: usize = 32 * KIB;
const READ_BUFFER: usize = 512 * KIB;
/// What the client may grow by for everything else: what bystanders' messages wait in, and what allocators keep.
const FLOOD: usize = 8 * MIB;
/// How long somebody who has stopped reading is written to.
const STUCK: Duration = Duration::from_secs(1);

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("a connection")
}

/// Writes as much as is taken.
async fn write(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    matches!(tokio::time::timeout(STUCK, stream.write_all(bytes)).await, Ok(Ok(())))
}

/// All that comes until the client closes the connection, as text.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // It may close with something of ours unread, and then the connection is reset after the answer.
    let _ = support::soon("the end of the connection", stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A request with these headers and this body, however they fit.
fn request(headers: &str, body: &str) -> Vec<u8> {
    format!("POST /sendMessage HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_none() {
    const MESSAGE: &str = r#"{"author":"smuggler","text":"hey"}"#;
    let chunked = |body: &str| request("Transfer-Encoding: chunked\r\n", body);
    let many: String = (0..10_000).map(|number| format!("x-{number}: 1\r\n")).collect();
    let length = MESSAGE.len();
    let attacks: Vec<(&str, Vec<u8>, &str)> = vec![
        ("ten thousand headers", request(&many, ""), "431"),
        ("a header of a mebibyte", request(&format!("x: {}\r\n", "y".repeat(MIB)), ""), "431"),
        ("a path of a mebibyte", format!("GET /{} HTTP/1.1\r\n", "x".repeat(MIB)).into_bytes(), "414"),
        ("a line without an end", vec![b'x'; MIB], "4"),
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
        eprintln!("{attack}: {status} {:?}", answer.lines().next());
        client.report(attack);
    }
    client.stands(FLOOD + count * READ_BUFFER).await;
}
