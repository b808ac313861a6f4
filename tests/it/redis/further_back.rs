//! A position is valid at every server as far back as the stream in Redis reaches, beyond the
//! retention of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support;
use crate::support::proxy::{Mode, proxy};
use crate::support::raw_http2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW, PING, Raw, call, frame, header, streams, window_update,
};
use crate::support::redis::Engine;
use crate::support::suite::tests;
use crate::support::{Grpc, Message, PATIENCE, Reader, Running, assert_increasing, post, server, soon};
use libtest_mimic::Trial;
use messenger::proto::{EPOCH, POSITION, RESUME_AFTER, RESUMED, WAITING};
use tokio::sync::{mpsc, watch};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

pub fn tests() -> Vec<Trial> {
    tests![
        every_position_in_the_stream_resumes_at_every_server,
        a_long_wait_receives_the_whole_stream,
        a_backfill_misses_nothing_that_is_sent_meanwhile,
        without_redis_a_backfill_does_not_open_and_reports_no_gap,
        streams_that_open_while_redis_hangs_ask_few_questions,
        paused_backfills_delay_nobody_and_continue_later,
        a_slow_backfill_continues_and_a_stopped_one_ends,
        a_backfill_at_a_lagging_server_repeats_nothing
    ]
}

/// A server with the smallest retention.
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

/// The epoch of a room, its first position, and the messages since, from empty ones to megabytes.
struct Posted {
    epoch: String,
    begin: String,
    messages: Vec<Message>,
}

async fn posted(server: &Running, count: usize) -> Posted {
    let sizes = (0..count).map(|number| [0, 100, 10_000, 60_000, 300_000, 2_000_000][number % 6] + number);
    posted_of(server, sizes).await
}

async fn posted_of(server: &Running, sizes: impl Iterator<Item = usize>) -> Posted {
    let mut grpc = server.grpc().await;
    let response = soon("the headers", grpc.read_messages(())).await.unwrap();
    let (epoch, begin) = (say(response.metadata(), EPOCH), say(response.metadata(), POSITION));
    drop(response);
    let mut messages = Vec::new();
    for (number, size) in sizes.enumerate() {
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

async fn every_position_in_the_stream_resumes_at_every_server() {
    let engine = Engine::start(&[]);
    let first = of(&engine);
    // Five times the retention.
    let Posted { epoch, begin, messages } = posted(&first, 96).await;
    // A server that has seen all messages, and one that starts later.
    for server in [first, of(&engine)] {
        let mut grpc = server.grpc().await;
        for had in [0, 1, 5, 6, 40, 80, 95, 96] {
            let time = if had == 0 { &begin } else { &messages[had - 1].time };
            let mut reader = after(&mut grpc, &epoch, time).await;
            assert_same(&reader.take(messages.len() - had).await, &messages[had..]);
            let next = post(&mut grpc, "alice", "live").await;
            // Later readers also get the live messages of the earlier rounds.
            let mut live = reader.next().await;
            while live.time != next {
                live = reader.next().await;
            }
        }
    }
}

async fn a_long_wait_receives_the_whole_stream() {
    let engine = Engine::start(&[]);
    let first = of(&engine);
    let Posted { messages, .. } = posted(&first, 96).await;
    // A server that has seen the beginning of the epoch, and one that cannot know that nothing was
    // before.
    for (server, complete) in [(first, "true"), (of(&engine), "false")] {
        let mut request = Request::new(());
        request.metadata_mut().insert(WAITING, "999999999999".parse().unwrap());
        let response = soon("the headers", server.grpc().await.read_messages(request)).await.expect("a stream");
        assert_eq!(say(response.metadata(), RESUMED), complete);
        assert_same(&Reader { stream: response.into_inner() }.take(messages.len()).await, &messages);
    }
}

async fn a_backfill_misses_nothing_that_is_sent_meanwhile() {
    const READERS: usize = 12;
    let engine = Engine::start(&[]);
    let servers = [of(&engine), of(&engine)];
    let Posted { epoch, begin, messages } = posted(&servers[0], 60).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (acknowledged, latest) = watch::channel(String::new());
    let mut senders = tokio::task::JoinSet::new();
    for server in &servers {
        let (mut grpc, stop, acknowledged) = (server.grpc().await, Arc::clone(&stop), acknowledged.clone());
        senders.spawn(async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let time = post(&mut grpc, "meanwhile", &"y".repeat(sent % 5_000)).await;
                acknowledged.send_modify(|latest| *latest = time.max(latest.clone()));
                sent += 1;
            }
            sent
        });
    }
    let (caught_up, mut catching_up) = mpsc::channel(READERS);
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..READERS {
        let mut grpc = servers[number % 2].grpc().await;
        let (epoch, begin) = (epoch.clone(), begin.clone());
        let (caught_up, latest) = (caught_up.clone(), latest.clone());
        readers.spawn(async move {
            let mut reader = after(&mut grpc, &epoch, &begin).await;
            let opened = latest.borrow().clone();
            let mut got = vec![reader.next().await];
            while got.last().unwrap().time <= opened {
                got.push(reader.next().await);
            }
            caught_up.send(()).await.unwrap();
            while got.last().unwrap().author != "last" {
                got.push(reader.next().await);
            }
            got
        });
    }
    // Wait until every reader has received a message that was sent after its stream opened.
    for _ in 0..READERS {
        soon("a reader that has caught up", catching_up.recv()).await;
    }
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

async fn without_redis_a_backfill_does_not_open_and_reports_no_gap() {
    let mut engine = Engine::start(&support::redis::ON_DISK);
    let server = of(&engine);
    let Posted { epoch, begin, messages } = posted(&server, 48).await;
    let mut grpc = server.grpc().await;
    engine.kill();
    let status = try_after(&mut grpc, &epoch, &begin).await.expect_err("nobody knows");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    // Messages within the retention are served without Redis.
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

/// Each caller gives up soon and returns. A question to a hanging Redis cannot be taken back.
async fn streams_that_open_while_redis_hangs_ask_few_questions() {
    const STREAMS: usize = 1_000;
    let engine = Engine::start(&[]);
    let server = of(&engine);
    let Posted { epoch, begin, .. } = posted(&server, 48).await;
    let asked = || {
        let stats: String = engine.run(&["INFO", "commandstats"]);
        let calls = stats.split("cmdstat_evalsha:calls=").nth(1).expect("it was called").split(',').next();
        calls.and_then(|calls| calls.parse::<usize>().ok()).expect("a number")
    };
    let mut connections = Vec::new();
    for _ in 0..10 {
        connections.push(server.grpc().await);
    }
    // Every second stream begins before the retention of the server.
    let open = |number: usize, timeout: Duration| {
        let mut request = Request::new(());
        if number.is_multiple_of(2) {
            request.metadata_mut().insert(EPOCH, epoch.parse().unwrap());
            request.metadata_mut().insert(RESUME_AFTER, begin.parse().unwrap());
        }
        request.set_timeout(timeout);
        let mut grpc = connections[number % connections.len()].clone();
        async move { grpc.read_messages(request).await.map(drop) }
    };
    let before = asked();
    engine.signal("STOP");
    for _ in 0..2 {
        let mut tries = tokio::task::JoinSet::new();
        for number in 0..STREAMS {
            tries.spawn(open(number, Duration::from_millis(300)));
        }
        while let Some(opened) = soon("an answer", tries.join_next()).await {
            opened.expect("no panic").expect_err("the engine hangs");
        }
    }
    engine.signal("CONT");
    support::until("the engine", async || open(0, PATIENCE).await.ok()).await;
    let asked = asked() - before;
    assert!(asked < 200, "asked {asked} times for {} streams", 2 * STREAMS);
    // On a busy machine a few of a thousand take longer than a stream may take to open. They try
    // again.
    let streams =
        (0..STREAMS).map(|number| support::until("a stream", async move || open(number, PATIENCE).await.ok()));
    futures_util::future::join_all(streams).await;
}

async fn paused_backfills_delay_nobody_and_continue_later() {
    const STOPPED: usize = 20;
    let engine = Engine::start(&[]);
    let server = of(&engine);
    let Posted { epoch, begin, messages } = posted(&server, 48).await;
    let mut stopped = Vec::new();
    for _ in 0..STOPPED {
        stopped.push(after(&mut server.grpc().await, &epoch, &begin).await);
    }
    let mut reader = after(&mut server.grpc().await, &epoch, &begin).await;
    assert_same(&reader.take(48).await, &messages);
    for mut reader in stopped {
        // Its messages were dropped for others, and are read from Redis again, even from within a
        // message.
        assert_same(&reader.take(48).await, &messages);
    }
}

/// Many readers are slower than one part in 3 s: none is ended as long as it takes something. A
/// reader that takes nothing is ended.
async fn a_slow_backfill_continues_and_a_stopped_one_ends() {
    const CONNECTIONS: usize = 3;
    const READERS: u32 = 100;
    const TAKES: u32 = 3 * 1024;
    let engine = Engine::start(&[]);
    let server = of(&engine);
    let Posted { epoch, begin, .. } = posted_of(&server, std::iter::repeat_n(16_000, 1_000)).await;
    let open = |stream| {
        let after = [header(EPOCH, &epoch), header(RESUME_AFTER, &begin)].concat();
        let head = [call("ReadMessages"), after].concat();
        [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, END_STREAM, stream, &[0; 5])].concat()
    };
    let settings = [(INITIAL_WINDOW, TAKES)];
    let mut stopped = Raw::open(server.address, &settings).await;
    let start = Instant::now();
    assert!(stopped.write(&open(1)).await);
    stopped.until("its first bytes", |seen| seen.frames[usize::from(DATA)] > 0).await;
    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut raw = Raw::open(server.address, &settings).await;
        assert!(raw.write(&window_update(0, 1 << 30)).await);
        assert_eq!(raw.pour(streams(READERS).map(open)).await, READERS as usize);
        raw.until("the headers", |seen| seen.frames[usize::from(HEADERS)] == READERS as usize).await;
        slow.push(raw);
    }
    while !stopped.seen().reset {
        assert!(start.elapsed() < 2 * PATIENCE, "it still has what it takes nothing of");
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The peer answers, and takes nothing.
        assert!(stopped.write(&frame(PING, 0, 0, &[0; 8])).await);
        for raw in &mut slow {
            raw.pour(streams(READERS).map(|stream| window_update(stream, TAKES))).await;
            let seen = raw.seen();
            assert!(!seen.reset && !seen.closed, "after {:?}: {seen:?}", start.elapsed());
        }
    }
    assert!(start.elapsed() > Duration::from_secs(29), "after {:?}", start.elapsed());
    for raw in slow {
        let given = raw.seen().frames[usize::from(DATA)];
        assert!(given >= 5 * READERS as usize, "{given} frames for {READERS}");
    }
}

async fn a_backfill_at_a_lagging_server_repeats_nothing() {
    let engine = Engine::start(&[]);
    let way = proxy(engine.address());
    let (server, lagging) =
        (of(&engine), server(&["--redis-url", &format!("redis://{}", way.address), "--retention-bytes", "8MiB"]));
    let Posted { epoch, begin, messages } = posted(&server, 48).await;
    let (mut grpc, mut other) = (server.grpc().await, lagging.grpc().await);
    // With this answer the server has reached the end of the stream, and then its reads are held.
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
