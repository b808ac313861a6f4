//! One connection takes thousands of concurrent calls. All are served, stopped readers harm only
//! themselves, and cancelled calls leave nothing behind.

use std::task::Poll;

use crate::support;
use crate::support::suite::tests;
use crate::support::{http, http2, program};
use ::http::Method;
use futures_util::FutureExt;
use futures_util::future::join_all;
use h2::Reason;
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests![
        ten_thousand_calls_at_once_are_served,
        cancelled_calls_do_not_delay_the_next,
        stopped_readers_do_not_delay_others_on_their_connection,
        cancelled_readers_leave_no_memory_behind
    ]
}

const READERS: usize = 1_000;
/// More than the window of a stream, which is 64 KiB.
const TEXTS: usize = 100;
const TEXT: usize = 1_000;

/// Starts a server that logs when a reader leaves.
async fn server() -> (program::Program, std::net::SocketAddr) {
    program::server(&[("RUST_LOG", "info,messenger=debug")]).await
}

async fn ten_thousand_calls_at_once_are_served() {
    const CALLS: usize = 10_000;
    let (server, address) = server().await;
    let mut watch = support::reader(&mut support::grpc(address).await).await;
    let (mut requests, mut connection) = http2::connect(address).await;
    // While the server is stopped all calls arrive, as on a machine that is busy for a moment.
    server.signal("STOP");
    let calls: Vec<_> = (0..CALLS)
        .map(|number| match number % 100 {
            0 => http2::call(&mut requests, "ReadMessages", http2::frame(b"")),
            _ => http2::call(&mut requests, "SendMessage", http2::message(&number.to_string())),
        })
        .collect();
    std::future::poll_fn(|cx| Poll::Ready(connection.poll_unpin(cx).is_pending())).await;
    server.signal("CONT");
    tokio::spawn(connection);
    let mut readers = Vec::new();
    for (number, response) in calls.into_iter().enumerate() {
        if number % 100 == 0 {
            readers.push(support::soon("the headers", response).await.expect("a stream").into_body());
        } else {
            assert_eq!(http2::status(response).await, "0", "call {number}");
        }
    }
    let order = watch.take(CALLS / 100 * 99).await;
    support::assert_increasing(&order);
    let last = http2::call(&mut requests, "SendMessage", http2::message("the last"));
    assert_eq!(http2::status(last).await, "0");
    // Each reader begins somewhere, and has all messages from there on.
    let order: Vec<_> = order.into_iter().map(|message| message.text).chain(["the last".to_owned()]).collect();
    for mut reader in readers {
        let texts = http2::texts(&mut reader, |texts| texts.last().is_some_and(|last| last == "the last")).await;
        assert_eq!(texts, order[order.len() - texts.len()..], "an end of the order");
    }
}

async fn cancelled_calls_do_not_delay_the_next() {
    let (server, address) = server().await;
    let (mut requests, mut connection) = http2::connect(address).await;
    let mut reader = support::reader(&mut support::grpc(address).await).await;
    // As from a proxy whose client leaves. Far more cancelled calls are an attack, and end the
    // connection.
    server.signal("STOP");
    let calls: Vec<_> = (0..READERS / 2).map(|_| http2::begin(&mut requests, "ReadMessages")).collect();
    std::future::poll_fn(|cx| Poll::Ready(connection.poll_unpin(cx).is_pending())).await;
    for (_, mut stream) in calls {
        stream.send_reset(Reason::CANCEL);
    }
    let kept = http2::call(&mut requests, "SendMessage", http2::message("from another client"));
    std::future::poll_fn(|cx| Poll::Ready(connection.poll_unpin(cx).is_pending())).await;
    server.signal("CONT");
    tokio::spawn(connection);
    assert_eq!(http2::status(kept).await, "0");
    assert_eq!(reader.next().await.text, "from another client");
}

async fn stopped_readers_do_not_delay_others_on_their_connection() {
    let (_server, address) = server().await;
    let mut requests = http2::open(address).await;
    let (mut stopped, mut healthy) = (Vec::new(), Vec::new());
    for _ in 0..READERS / 20 {
        stopped.push(http2::reader(&mut requests).await);
        healthy.push(http2::reader(&mut requests).await);
    }
    let expected: Vec<_> = (0..TEXTS).map(|number| format!("{number:0>TEXT$}")).collect();
    for text in &expected {
        let answer = http2::call(&mut requests, "SendMessage", http2::message(text));
        assert_eq!(http2::status(answer).await, "0");
    }
    for texts in join_all(healthy.iter_mut().map(|reader| http2::texts(reader, |texts| texts.len() == TEXTS))).await {
        assert_eq!(texts, expected, "beside those that stopped");
    }
    for texts in join_all(stopped.iter_mut().map(|reader| http2::texts(reader, |texts| texts.len() == TEXTS))).await {
        assert_eq!(texts, expected, "late, and all");
    }
}

async fn cancelled_readers_leave_no_memory_behind() {
    let ports = [("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_METRICS_PORT", "0")];
    let mut server = program::start(program::SERVER, &ports);
    let (address, metrics) = (server.address("server listening").await, server.address("metrics listening").await);
    let mut requests = http2::open(address).await;
    let mut before = 0;
    for round in 0..10 {
        let mut streams = Vec::new();
        let mut responses = Vec::new();
        for _ in 0..READERS {
            let (response, mut stream) = http2::begin(&mut requests, "ReadMessages");
            stream.send_data(http2::frame(b""), true).expect("a call");
            streams.push(stream);
            responses.push(response);
        }
        for response in responses {
            support::soon("the headers", response).await.expect("a stream");
        }
        for mut stream in streams {
            stream.send_reset(Reason::CANCEL);
        }
        support::until("the readers' leaving", async || {
            let answer = http::call(metrics, Method::GET, "/metrics", &[], "").await;
            String::from_utf8(answer.body.to_vec()).unwrap().contains("\nmessenger_readers 0\n").then_some(())
        })
        .await;
        // After five rounds the memory of the server no longer grows.
        if round < 5 {
            before = before.max(server.resident());
        }
    }
    // Readers that stay would take a kilobyte or more each, so five megabytes.
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 3 * 1024 * 1024, "grew by {grown} bytes");
    let answer = http2::call(&mut requests, "SendMessage", http2::message("still here?"));
    assert_eq!(http2::status(answer).await, "0");
}
