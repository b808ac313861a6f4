//! A send without a server waits up to its deadline and then fails. It never delays a flush, and no
//! message is in the room twice.

use ::http::{HeaderMap, Response};
use prost_types::Timestamp;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::siege::MIB;
use crate::support::suite::{tests, tests_of_each_backend};
use crate::support::{Backend, client, http, program};
use libtest_mimic::Trial;
use messenger::proto::SendMessageResponse;
use prost::Message;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

pub fn tests() -> Vec<Trial> {
    let mut tests = tests_of_each_backend![
        a_waiting_send_is_accepted_when_the_server_returns,
        a_frozen_server_costs_no_memory_and_the_deadline_holds,
        sends_during_a_shutdown_are_accepted_once_or_refused
    ];
    tests.extend(tests![
        a_send_without_a_server_is_a_503_at_the_deadline,
        a_server_that_never_answers_is_a_504,
        a_port_that_never_speaks_is_a_503,
        a_connection_that_takes_no_more_calls_is_replaced,
        endless_refusals_end_at_the_deadline
    ]);
    tests
}

async fn a_send_without_a_server_is_a_503_at_the_deadline() {
    let gone = (Ipv4Addr::LOCALHOST, support::fixed_port()).into();
    let client = client(gone, &["--send-deadline", "1500ms"]);
    let address = client.address;
    let sends: Vec<_> =
        (0..20).map(|_| tokio::spawn(async move { http::try_send(address, "alice", "hey").await })).collect();
    let started = Instant::now();
    // A flush that waited for the sends would end after them.
    let mut flushes = 0;
    while sends.iter().all(|send| !send.is_finished()) {
        assert!(client.flush().await.is_empty());
        flushes += 1;
    }
    assert!(flushes > 2, "{flushes} flushes while the sends wait");
    for send in sends {
        let answer = send.await.unwrap();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.problem(), "the server is away: the message was not sent");
    }
    assert!(started.elapsed() >= Duration::from_millis(1400), "the sends waited for the server");
}

async fn a_waiting_send_is_accepted_when_the_server_returns(backend: Backend) {
    let first = backend.server_on(support::listen(support::fixed_port()), &[]);
    let server_address = first.address;
    let client = client(server_address, &[]);
    client.ready().await;
    first.stop().await;
    let address = client.address;
    let sends: Vec<_> = (0..10)
        .map(|number| tokio::spawn(async move { http::send(address, "alice", &number.to_string()).await }))
        .collect();
    let server = backend.server_on(support::listen(server_address.port()), &[]);
    let mut times = Vec::new();
    for send in sends {
        times.push(send.await.unwrap());
    }
    times.sort();
    let got = client.collect(10).await;
    assert_eq!(
        got.iter().map(|message| message.time.clone()).collect::<Vec<_>>(),
        times,
        "each message once, in the buffer of the sender too"
    );
    server.stop().await;
}

async fn a_server_that_never_answers_is_a_504() {
    // The server speaks HTTP/2 and answers no call, so the message may have arrived.
    let silent = support::free_port();
    let client = client(silent.local_addr().unwrap(), &["--send-deadline", "1500ms"]);
    tokio::spawn(async move {
        loop {
            let (stream, _) = silent.accept().await.unwrap();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut calls = Vec::new();
                while let Some(Ok(call)) = connection.accept().await {
                    calls.push(call);
                }
            });
        }
    });
    let answer = http::try_send(client.address, "alice", "hey").await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.problem(), "the server gave no answer in time: the message may or may not be in the chat");
}

async fn a_port_that_never_speaks_is_a_503() {
    let silent = support::free_port();
    let client = client(silent.local_addr().unwrap(), &["--send-deadline", "1500ms"]);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = silent.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    let answer = http::try_send(client.address, "alice", "hey").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.problem(), "the server is away: the message was not sent");
}

async fn a_frozen_server_costs_no_memory_and_the_deadline_holds(backend: Backend) {
    let (server, server_address) = backend.program(&[]).await;
    let server_address = server_address.to_string();
    let variables = [
        ("MESSENGER_SERVER_ADDR", server_address.as_str()),
        ("MESSENGER_HTTP_PORT", "0"),
        ("MESSENGER_SEND_DEADLINE", "1500ms"),
    ];
    let mut client = program::start(program::CLIENT, &variables);
    let address = client.address("client listening").await;
    client.line("stream open").await;
    let before = client.resident();
    server.signal("STOP");
    let sends = (0..50).map(async |_| {
        let began = Instant::now();
        (http::try_send(address, "alice", "hey").await, began.elapsed())
    });
    for (answer, took) in futures_util::future::join_all(sends).await {
        assert_eq!(answer.status, 504);
        assert!(took < Duration::from_secs(4), "its deadline is 1.5 s, it took {took:?}");
    }
    let grown = client.peak().saturating_sub(before);
    assert!(grown < 16 * MIB, "grew by {} KiB", grown / 1024);
    server.signal("CONT");
}

async fn sends_during_a_shutdown_are_accepted_once_or_refused(backend: Backend) {
    for round in 0..8 {
        let first = backend.server_on(support::listen(support::fixed_port()), &[]);
        let server_address = first.address;
        let client = client(server_address, &["--send-deadline", "10s"]);
        client.ready().await;
        let mut old = first.reader().await;
        let address = client.address;
        let sends: Vec<_> = (0..40)
            .map(|number| {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(number / 4)).await;
                    http::try_send(address, "alice", &number.to_string()).await
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(round)).await;
        let next = async {
            first.stop().await;
            backend.server_on(support::listen(server_address.port()), &[])
        };
        let before = async {
            tokio::join!(next, async {
                while (support::soon("the end", old.stream.message()).await).is_ok_and(|m| m.is_some()) {}
            })
        };
        let (second, ()) = before.await;
        let mut acknowledged = Vec::new();
        for send in sends {
            let answer = send.await.unwrap();
            // A call that breaks has an unknown outcome, and all others wait for the server.
            match answer.status.as_u16() {
                200 => acknowledged.push(answer.json()["sendTime"].as_str().unwrap().to_owned()),
                503 => assert!(answer.problem().contains("may or may not"), "{}", answer.problem()),
                other => panic!("{other}: {:?}", answer.body),
            }
        }
        acknowledged.sort();
        let last = client.send("test", "last").await;
        let mut got = Vec::new();
        support::until("the last message", async || {
            got.extend(client.flush().await);
            got.last().is_some_and(|message: &support::Message| message.time == last).then_some(())
        })
        .await;
        let mut texts: Vec<_> = got.iter().map(|message| message.text.clone()).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), got.len(), "no text twice");
        second.stop().await;
    }
}

/// Starts a server that takes this many messages on a connection and then sends GOAWAY, as proxies
/// do, while streams stay open. With none it refuses every message without a GOAWAY.
fn sends_goaway_after(listener: TcpListener, messages: usize) {
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                let (mut streams, mut taken) = (Vec::new(), 0);
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let response = || Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                    if request.uri().path().ends_with("/ReadMessages") {
                        streams.push(respond.send_response(response(), false).unwrap());
                        continue;
                    }
                    if messages == 0 {
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                        continue;
                    }
                    let time = Timestamp { seconds: 1_758_365_922, nanos: 665_193_557 };
                    let answer = SendMessageResponse { send_time: Some(time) }.encode_to_vec();
                    let frame = [&[0, 0, 0, 0, u8::try_from(answer.len()).unwrap()], &answer[..]].concat();
                    let mut body = respond.send_response(response(), false).unwrap();
                    body.send_data(frame.into(), false).unwrap();
                    body.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]))
                        .unwrap();
                    taken += 1;
                    if taken == messages {
                        connection.graceful_shutdown();
                    }
                }
            });
        }
    });
}

async fn a_connection_that_takes_no_more_calls_is_replaced() {
    let listener = support::free_port();
    let client = client(listener.local_addr().unwrap(), &["--send-deadline", "10s"]);
    sends_goaway_after(listener, 5);
    for number in 0..18 {
        assert_eq!(client.send("alice", &number.to_string()).await, "2025-09-20T10:58:42.665193557Z");
    }
}

async fn endless_refusals_end_at_the_deadline() {
    let listener = support::free_port();
    let client = client(listener.local_addr().unwrap(), &["--send-deadline", "1500ms"]);
    sends_goaway_after(listener, 0);
    let started = Instant::now();
    let answer = http::try_send(client.address, "alice", "hey").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.problem(), "the server is away: the message was not sent");
    assert!(started.elapsed() >= Duration::from_millis(1400), "the send was repeated until then");
}
