//! A position is good at any server of a room for as far back as the engine's stream reaches, however little the server keeps itself.
//!
//! Needs redis-server, as `many_servers.rs` does.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use messenger::proto::{EPOCH, POSITION, RESUME_AFTER, RESUMED};
use support::proxy::{Mode, proxy};
use support::redis::Engine;
use support::{Grpc, Message, Reader, Running, assert_increasing, post, server, soon};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

/// A server that keeps as little as can be set.
fn of(engine: &Engine) -> Running {
    server(&["--redis-url", &engine.url(), "--retention-bytes", "8MiB"])
}

fn say(headers: &MetadataMap, name: &str) -> String {
    headers.get(name).expect(name).to_str().unwrap().to_owned()
}

async fn try_after(grpc: &mut Grpc, epoch: &str, time: &str) -> Result<(Reader, String), Status> {
    let mut request = Request::new(());
    request.metadata_mut().insert(EPOCH, epoch.parse().unwrap());
    request.metadata_mut().insert(RESUME_AFTER, time.parse().unwrap());
    let response = soon("the headers", grpc.read_messages(request)).await?;
    let resumed = say(response.metadata(), RESUMED);
    Ok((Reader { stream: response.into_inner() }, resumed))
}

async fn after(grpc: &mut Grpc, epoch: &str, time: &str) -> Reader {
    let (reader, resumed) = try_after(grpc, epoch, time).await.expect("a stream");
    assert_eq!(resumed, "true");
    reader
}

/// What is in a room now: its epoch, where it began, and what was posted to it since, of sizes from nothing to megabytes.
struct Posted {
    epoch: String,
    begin: String,
    messages: Vec<Message>,
}

async fn posted(server: &Running, count: usize) -> Posted {
    let mut grpc = server.grpc().await;
    let response = soon("the headers", grpc.read_messages(())).await.unwrap();
    let (epoch, begin) = (say(response.metadata(), EPOCH), say(response.metadata(), POSITION));
    drop(response);
    let mut messages = Vec::new();
    for number in 0..count {
        let size = [0, 100, 10_000, 60_000, 300_000, 2_000_000][number % 6] + number;
        let (author, text) = (number.to_string(), "x".repeat(size));
        let time = post(&mut grpc, &author, &text).await;
        messages.push(Message { author, text, time });
    }
    Posted { epoch, begin, messages }
}

fn assert_same(got: &[Message], expected: &[Message]) {
    let short =
        |all: &[Message]| -> Vec<_> { all.iter().map(|m| (m.author.clone(), m.text.len(), m.time.clone())).collect() };
    assert_eq!(short(got), short(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_position_of_the_stream_is_good_at_every_server() {
    let Some(engine) = Engine::start(&[]) else { return };
    let first = of(&engine);
    // Five times what it keeps.
    let Posted { epoch, begin, messages } = posted(&first, 96).await;
    // One that has seen all of it, and one that comes later.
    for server in [first, of(&engine)] {
        let mut grpc = server.grpc().await;
        for had in [0, 1, 5, 6, 40, 80, 95, 96] {
            let time = if had == 0 { &begin } else { &messages[had - 1].time };
            let mut reader = after(&mut grpc, &epoch, time).await;
            assert_same(&reader.take(messages.len() - had).await, &messages[had..]);
            let next = post(&mut grpc, "alice", "live").await;
            // Those who came later have had the live ones of those before.
            let mut live = reader.next().await;
            while live.time != next {
                live = reader.next().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_from_further_back_misses_nothing_that_is_sent_meanwhile() {
    const READERS: usize = 12;
    let Some(engine) = Engine::start(&[]) else { return };
    let servers = [of(&engine), of(&engine)];
    let Posted { epoch, begin, messages } = posted(&servers[0], 60).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = tokio::task::JoinSet::new();
    for server in &servers {
        let (mut grpc, stop) = (server.grpc().await, Arc::clone(&stop));
        senders.spawn(async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                post(&mut grpc, "meanwhile", &"y".repeat(sent % 5_000)).await;
                sent += 1;
            }
            sent
        });
    }
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..READERS {
        let mut grpc = servers[number % 2].grpc().await;
        let (epoch, begin) = (epoch.clone(), begin.clone());
        readers.spawn(async move {
            let mut reader = after(&mut grpc, &epoch, &begin).await;
            let mut got = reader.take(2_000).await;
            while got.last().expect("a message").author != "last" {
                got.push(reader.next().await);
            }
            got
        });
    }
    // Long enough that all of them have come to the live messages.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    stop.store(true, Ordering::Relaxed);
    let sent: usize = senders.join_all().await.into_iter().sum();
    let mut grpc = servers[0].grpc().await;
    for number in 0..2_000 {
        post(&mut grpc, "filler", &number.to_string()).await;
    }
    post(&mut grpc, "last", "").await;
    let all = readers.join_all().await;
    assert_increasing(&all[0]);
    assert_eq!(all[0].len(), messages.len() + sent + 2_001);
    assert_same(&all[0][..messages.len()], &messages);
    for got in &all[1..] {
        assert_same(got, &all[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_engine_is_away_such_a_stream_does_not_open_and_nobody_is_told_of_a_gap() {
    let Some(mut engine) = Engine::start(&support::redis::ON_DISK) else { return };
    let server = of(&engine);
    let Posted { epoch, begin, messages } = posted(&server, 48).await;
    let mut grpc = server.grpc().await;
    engine.kill();
    let status = try_after(&mut grpc, &epoch, &begin).await.expect_err("nobody knows");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    // What the server has itself is there.
    let mut reader = after(&mut grpc, &epoch, &messages[46].time).await;
    assert_same(&[reader.next().await], &messages[47..]);
    engine.start_again();
    let mut reader = support::until("the engine", async || {
        let (reader, resumed) = try_after(&mut grpc, &epoch, &begin).await.ok()?;
        assert_eq!(resumed, "true");
        Some(reader)
    })
    .await;
    assert_same(&reader.take(48).await, &messages);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_take_nothing_are_told_so_and_are_not_in_the_way_of_others() {
    const STOPPED: usize = 20;
    let Some(engine) = Engine::start(&[]) else { return };
    let server = of(&engine);
    let Posted { epoch, begin, messages } = posted(&server, 48).await;
    let mut stopped = Vec::new();
    for _ in 0..STOPPED {
        stopped.push(after(&mut server.grpc().await, &epoch, &begin).await);
    }
    let mut reader = after(&mut server.grpc().await, &epoch, &begin).await;
    assert_same(&reader.take(48).await, &messages);
    let mut told = 0;
    for reader in stopped {
        // All that it gets comes in order, whether it is given up or goes on now.
        let mut got = Vec::new();
        let mut stream = reader.stream;
        while got.len() < messages.len() {
            let Ok(message) = soon("a message", stream.message()).await else {
                told += 1;
                break;
            };
            got.push(message.expect("no end without a status").into());
        }
        assert_same(&got, &messages[..got.len()]);
    }
    assert!(told > 0, "somebody had to go");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_read_to_from_the_stream_gets_nothing_twice_at_a_server_that_lags_behind_it() {
    let Some(engine) = Engine::start(&[]) else { return };
    let way = proxy(engine.address());
    let (server, lagging) =
        (of(&engine), server(&["--redis-url", &format!("redis://{}", way.address), "--retention-bytes", "8MiB"]));
    let Posted { epoch, begin, messages } = posted(&server, 48).await;
    let (mut grpc, mut other) = (server.grpc().await, lagging.grpc().await);
    // It has come to the end when this is answered, and then its reading stops.
    drop(after(&mut other, &epoch, &messages[47].time).await);
    way.set(Mode::HoldAnswersTo("XREAD"));
    let mut expected = messages.clone();
    for number in 0..3 {
        let (author, text) = ("meanwhile".to_owned(), number.to_string());
        let time = post(&mut grpc, &author, &text).await;
        expected.push(Message { author, text, time });
    }
    let mut reader = after(&mut other, &epoch, &begin).await;
    let mut got = reader.take(messages.len()).await;
    way.set(Mode::Pass);
    let time = post(&mut grpc, "last", "").await;
    expected.push(Message { author: "last".to_owned(), text: String::new(), time });
    got.extend(reader.take(4).await);
    assert_same(&got, &expected);
}
