//! Thousands of connections that break leave no open file and no memory behind, and readers do not
//! notice them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support;
use crate::support::program::{self, CLIENT, Program};
use crate::support::suite::tests;
use crate::support::{grpc, http, http2, post, reader, until};
use libtest_mimic::Trial;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

pub fn tests() -> Vec<Trial> {
    tests![broken_connections_leave_nothing_behind_in_the_server, broken_connections_leave_nothing_behind_in_the_client]
}

const CONNECTIONS: usize = 4000;
/// The number of concurrent connections.
const GUSTS: usize = 40;
/// A busy program needs the memory that it has after the first storm. Growth in the other storms is
/// a leak.
const STORMS: usize = 4;
/// The bound of that growth. A kilobyte for each connection would be twice this, and the usual
/// spread is a third of it.
const LEFT: usize = 6 * 1024 * 1024;
/// The spread of four storms after which the memory counts as settled.
const SETTLED: usize = 512 * 1024;
const MOST_STORMS: usize = 40;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A connection to the server that breaks.
async fn gust(address: SocketAddr, kind: usize) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    if fastrand::bool() {
        // Close with a reset.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    match kind % 6 {
        0 => {}
        // A part of the preface, only the preface, or another protocol.
        1 => drop(stream.write_all(&PREFACE[..fastrand::usize(1..PREFACE.len())]).await),
        2 => drop(stream.write_all(PREFACE).await),
        3 => drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await),
        // A reader that leaves once its stream is open, and incomplete calls.
        4 => {
            drop(stream);
            let _ = reader(&mut grpc(address).await).await;
        }
        _ => {
            drop(stream);
            let mut requests = http2::open(address).await;
            let (_response, mut body) = http2::begin(&mut requests, "SendMessage");
            body.send_data(http2::message("never")[..7].to_vec().into(), false).expect("a call");
            let (_reading, _) = http2::begin(&mut requests, "ReadMessages");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A connection to the client that breaks.
async fn gust_of_http(address: SocketAddr, kind: usize) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    if fastrand::bool() {
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    let request: &[u8] = match kind % 4 {
        0 => b"",
        1 => b"POST /sendMe",
        2 => b"POST /sendMessage HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"author\": ",
        // An answer that is never read.
        _ => b"POST /getAndFlushMessages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    };
    let _ = stream.write_all(request).await;
}

async fn storm<F: Future<Output = ()> + Send + 'static>(address: SocketAddr, gust: fn(SocketAddr, usize) -> F) {
    let mut gusts = JoinSet::new();
    for number in 0..CONNECTIONS {
        gusts.spawn(gust(address, number));
        if gusts.len() >= GUSTS {
            gusts.join_next().await.expect("one").expect("no panic");
        }
    }
    gusts.join_all().await;
}

/// Waits until the program has as few open files as before.
async fn calm(program: &Program, before: usize) {
    until("as many files as before", async || (program.files() <= before).then_some(())).await;
}

async fn broken_connections_leave_nothing_behind_in_the_server() {
    let (server, address) = program::server(&[]).await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(reader(&mut grpc(address).await).await);
    }
    let mut sender = grpc(address).await;
    post(&mut sender, "alice", "before").await;
    let before = server.files();
    let mut sent = 1;
    let mut memory = Vec::new();
    for _ in 0..STORMS {
        let mut storm = tokio::spawn(storm(address, gust));
        loop {
            tokio::select! {
                end = &mut storm => break end.expect("no panic"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {
                    post(&mut sender, "alice", &sent.to_string()).await;
                    sent += 1;
                }
            }
        }
        calm(&server, before).await;
        memory.push(server.resident());
    }
    assert!(memory[STORMS - 1] < memory[0] + LEFT, "{memory:?} bytes after the storms");
    let orders = {
        let mut tasks = JoinSet::new();
        for mut reader in readers {
            tasks.spawn(async move { reader.take(sent).await });
        }
        tasks.join_all().await
    };
    support::assert_increasing(&orders[0]);
    assert!(orders.iter().all(|order| *order == orders[0]), "one order, without messages of the storm");
    assert!(orders[0].iter().all(|message| message.author == "alice" && message.text != "never"));
}

async fn broken_connections_leave_nothing_behind_in_the_client() {
    let server = support::server(&[]);
    let server_addr = server.address.to_string();
    let mut client = program::start(CLIENT, &[("MESSENGER_HTTP_PORT", "0"), ("MESSENGER_SERVER_ADDR", &server_addr)]);
    let address = client.address("client listening").await;
    client.line("stream open").await;
    http::flush(address).await;
    let before = client.files();
    let mut memory = Vec::new();
    // What the allocator keeps settles after some storms, and a leak grows with each.
    while !has_settled(&memory) {
        assert!(memory.len() < MOST_STORMS, "{memory:?} bytes after the storms");
        storm(address, gust_of_http).await;
        calm(&client, before).await;
        memory.push(client.resident());
    }
    let time = http::send(address, "alice", "after").await;
    until("the message", async || {
        let got = http::flush(address).await;
        assert!(got.len() <= 1, "nothing of the storm: {got:?}");
        got.first().map(|message| assert_eq!(message.time, time))
    })
    .await;
}

/// Whether the last four values are nearly the same.
fn has_settled(memory: &[usize]) -> bool {
    let Some(last) = memory.last_chunk::<4>() else { return false };
    last.iter().max().unwrap() - last.iter().min().unwrap() < SETTLED
}
