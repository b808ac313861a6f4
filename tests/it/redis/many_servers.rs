//! Many servers of one room in Redis give one order, and positions and keys are valid at each of
//! them.

use std::collections::HashMap;

use crate::support::redis::Engine;
use crate::support::suite::tests;
use crate::support::{Grpc, Message, Reader, Running, assert_increasing, post, server, soon};
use libtest_mimic::Trial;
use messenger::proto::{EPOCH, IDEMPOTENCY_KEY, POSITION, RESUME_AFTER, RESUMED, SendMessageRequest};
use messenger::send_time::rfc3339;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

pub fn tests() -> Vec<Trial> {
    tests![
        senders_at_every_server_make_one_order,
        a_new_stream_gets_nothing_that_another_server_accepted_before,
        a_new_stream_at_a_lagging_server_gets_no_older_message,
        a_position_means_the_same_at_every_server,
        a_server_waits_for_a_position_that_it_has_not_reached,
        a_key_accepts_one_message_across_servers,
        a_trimmed_position_is_a_gap,
        rooms_with_other_names_are_separate,
        a_foreign_entry_in_the_stream_is_skipped,
        messages_and_keys_of_format_1_are_understood
    ]
}

/// Starts a server of the room.
fn of(engine: &Engine) -> Running {
    with(engine, &[])
}

fn with(engine: &Engine, flags: &[&str]) -> Running {
    server(&[&["--redis-url", &engine.url()], flags].concat())
}

fn say(headers: &MetadataMap, name: &str) -> String {
    headers.get(name).expect(name).to_str().unwrap().to_owned()
}

/// Opens a stream, and returns its headers.
async fn open(grpc: &mut Grpc, after: Option<(&str, &str)>) -> (Reader, MetadataMap) {
    let mut request = Request::new(());
    if let Some((epoch, time)) = after {
        request.metadata_mut().insert(EPOCH, epoch.parse().unwrap());
        request.metadata_mut().insert(RESUME_AFTER, time.parse().unwrap());
    }
    let response = soon("the headers", grpc.read_messages(request)).await.expect("a stream");
    let headers = response.metadata().clone();
    (Reader { stream: response.into_inner() }, headers)
}

async fn send(grpc: &mut Grpc, text: &str, key: &str) -> Result<String, Status> {
    let mut request = Request::new(SendMessageRequest { author: "alice".to_owned(), text: text.to_owned() });
    request.metadata_mut().insert(IDEMPOTENCY_KEY, key.parse().unwrap());
    let answer = grpc.send_message(request).await?.into_inner();
    Ok(rfc3339(&answer.send_time.expect("a time")).to_string())
}

async fn senders_at_every_server_make_one_order() {
    const SENDERS: usize = 6;
    const EACH: usize = 200;
    let engine = Engine::start(&[]);
    let servers = [of(&engine), of(&engine), of(&engine)];
    let mut readers = Vec::new();
    for server in servers.iter().chain(&servers) {
        readers.push(server.reader().await);
    }
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let mut grpc = servers[sender % servers.len()].grpc().await;
        senders.spawn(async move {
            let mut sent = Vec::new();
            for number in 0..EACH {
                let (author, text) = (format!("sender {sender}"), number.to_string());
                let time = post(&mut grpc, &author, &text).await;
                sent.push(Message { author, text, time });
            }
            sent
        });
    }
    let sent = senders.join_all().await;
    let order = readers[0].take(SENDERS * EACH).await;
    assert_increasing(&order);
    assert!(order.iter().all(|message| message.time.len() == order[0].time.len() && message.time.ends_with("001Z")));
    for reader in &mut readers[1..] {
        assert_eq!(reader.take(SENDERS * EACH).await, order);
    }
    let place: HashMap<&Message, usize> = order.iter().enumerate().map(|(place, message)| (message, place)).collect();
    for mine in sent {
        let places: Vec<usize> = mine.iter().map(|message| place[message]).collect();
        assert!(places.is_sorted(), "the order of each sender, with the times of its answers");
    }
}

async fn a_new_stream_gets_nothing_that_another_server_accepted_before() {
    const ROUNDS: usize = 300;
    let engine = Engine::start(&[]);
    let servers = [of(&engine), of(&engine)];
    let (mut one, mut other) = (servers[0].grpc().await, servers[1].grpc().await);
    for round in 0..ROUNDS {
        // The other server reads the message from Redis a moment later.
        post(&mut one, "alice", &format!("before {round}")).await;
        let (mut reader, _) = open(&mut other, None).await;
        let after = post(&mut one, "alice", &format!("after {round}")).await;
        assert_eq!(reader.next().await.time, after);
    }
}

async fn a_new_stream_at_a_lagging_server_gets_no_older_message() {
    const ROUNDS: usize = 8;
    let engine = Engine::start(&[]);
    let servers = [of(&engine), of(&engine)];
    let (one, mut other) = (servers[0].grpc().await, servers[1].grpc().await);
    let large = "x".repeat(1_000_000);
    for _ in 0..ROUNDS {
        // The other server needs longer to read these messages than to open a stream.
        let mut sends = tokio::task::JoinSet::new();
        for _ in 0..24 {
            let (mut grpc, large) = (one.clone(), large.clone());
            sends.spawn(async move { post(&mut grpc, "alice", &large).await });
        }
        sends.join_all().await;
        let (mut reader, _) = open(&mut other, None).await;
        let after = post(&mut one.clone(), "alice", "after").await;
        assert_eq!(reader.next().await.time, after);
    }
}

async fn a_position_means_the_same_at_every_server() {
    let engine = Engine::start(&[]);
    let (one, other) = (of(&engine), of(&engine));
    let mut grpc = one.grpc().await;
    let (mut reader, headers) = open(&mut grpc, None).await;
    let epoch = say(&headers, EPOCH);
    let mut positions = vec![say(&headers, POSITION)];
    let mut order = Vec::new();
    for number in 0..50 {
        post(&mut grpc, "alice", &number.to_string()).await;
        order.push(reader.next().await);
        positions.push(order[number].time.clone());
    }
    one.stop().await;
    // A server that was there, and one that starts afterwards.
    for server in [other, of(&engine)] {
        let mut grpc = server.grpc().await;
        for (had, position) in positions.iter().enumerate() {
            let (mut reader, headers) = open(&mut grpc, Some((&epoch, position))).await;
            assert_eq!((say(&headers, RESUMED), say(&headers, EPOCH)), ("true".to_owned(), epoch.clone()));
            assert_eq!(reader.take(order.len() - had).await, order[had..]);
        }
    }
}

async fn a_server_waits_for_a_position_that_it_has_not_reached() {
    const ROUNDS: usize = 300;
    let engine = Engine::start(&[]);
    let servers = [of(&engine), of(&engine)];
    let (mut one, mut other) = (servers[0].grpc().await, servers[1].grpc().await);
    let epoch = say(&open(&mut one, None).await.1, EPOCH);
    for round in 0..ROUNDS {
        let time = post(&mut one, "alice", &round.to_string()).await;
        let (mut reader, headers) = open(&mut other, Some((&epoch, &time))).await;
        assert_eq!(say(&headers, RESUMED), "true");
        let next = post(&mut one, "alice", "next").await;
        assert_eq!(reader.next().await.time, next);
    }
}

async fn a_key_accepts_one_message_across_servers() {
    let engine = Engine::start(&[]);
    let servers = [of(&engine), of(&engine), of(&engine)];
    let mut reader = servers[2].reader().await;
    let mut connections = Vec::new();
    for server in &servers {
        connections.push(server.grpc().await);
    }
    for round in 0..100 {
        let key = format!("round-{round}");
        let mut sends = tokio::task::JoinSet::new();
        for mut grpc in connections.iter().cloned() {
            let key = key.clone();
            sends.spawn(async move { send(&mut grpc, &key, &key).await.unwrap() });
        }
        let times = sends.join_all().await;
        let message = reader.next().await;
        assert!(message.text == key && times.iter().all(|time| *time == message.time), "{message:?} {times:?}");
    }
    let status = send(&mut connections[1], "another", "round-0").await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status}");
}

async fn a_trimmed_position_is_a_gap() {
    let engine = Engine::start(&[]);
    let first = with(&engine, &["--redis-max-length", "500"]);
    let mut grpc = first.grpc().await;
    let (mut reader, headers) = open(&mut grpc, None).await;
    let (epoch, position) = (say(&headers, EPOCH), say(&headers, POSITION));
    let mut order = Vec::new();
    for number in 0..2_000 {
        post(&mut grpc, "alice", &number.to_string()).await;
        order.push(reader.next().await);
    }
    // The new server has less than the first one, which has seen all messages.
    let late = of(&engine);
    let mut grpc = late.grpc().await;
    let (mut reader, headers) = open(&mut grpc, Some((&epoch, &position))).await;
    assert_eq!(say(&headers, RESUMED), "false");
    let oldest = reader.next().await;
    let index = order.iter().position(|message| *message == oldest).expect("one of them");
    assert!((1_000..=1_500).contains(&index), "{index}");
    assert_eq!(say(&headers, POSITION), order[index - 1].time, "everything after this time");
    assert_eq!(reader.take(order.len() - index - 1).await, order[index + 1..]);
    let (mut reader, headers) = open(&mut grpc, Some((&epoch, &order[index - 1].time))).await;
    assert_eq!((say(&headers, RESUMED), reader.next().await), ("true".to_owned(), oldest));
}

async fn rooms_with_other_names_are_separate() {
    let engine = Engine::start(&[]);
    let (one, other) = (with(&engine, &["--redis-room", "one"]), with(&engine, &["--redis-room", "other"]));
    let (mut in_one, mut in_other) = (one.reader().await, other.reader().await);
    let time = post(&mut one.grpc().await, "alice", "hey").await;
    assert_eq!(in_one.next().await.time, time);
    let time = post(&mut other.grpc().await, "alice", "hey").await;
    assert_eq!(in_other.next().await.time, time);
}

async fn a_foreign_entry_in_the_stream_is_skipped() {
    let engine = Engine::start(&[]);
    let server = of(&engine);
    let (mut grpc, mut reader) = (server.grpc().await, server.reader().await);
    let first = post(&mut grpc, "alice", "one").await;
    let last: String = engine.run(&["HGET", "{messenger}:state", "last"]);
    let id = last.replace("-0", "-7");
    engine.run::<String>(&["XADD", "{messenger}:stream", &id, "author", "mallory"]);
    let second = post(&mut grpc, "alice", "two").await;
    assert_eq!(reader.take(2).await.into_iter().map(|message| message.time).collect::<Vec<_>>(), [first, second]);
}

/// Format 1 has author and text in fields of their own, the time of the last message as a number,
/// and another digest with a key.
async fn messages_and_keys_of_format_1_are_understood() {
    const EPOCH_1: &str = "0123456789abcdef";
    const STATE: &str = "{messenger}:state";
    let engine = Engine::start(&[]);
    engine.run::<usize>(&["HSET", STATE, "epoch", EPOCH_1, "last", "1758365922665194"]);
    for (time, previous, text) in
        [("1758365922665193", "1758365922665192", "one"), ("1758365922665194", "1758365922665193", "two")]
    {
        let id = format!("{time}-0");
        engine.run::<String>(&[
            "XADD",
            "{messenger}:stream",
            &id,
            "e",
            EPOCH_1,
            "p",
            previous,
            "a",
            "alice",
            "t",
            text,
        ]);
    }
    let digest: String = engine.run(&["EVAL", "return redis.sha1hex(ARGV[1])", "0", "5:alicetwo"]);
    engine.run::<String>(&["SET", "{messenger}:key:k", &format!("1758365922665194 {digest}")]);

    let server = of(&engine);
    let mut grpc = server.grpc().await;
    let (mut reader, headers) = open(&mut grpc, Some((EPOCH_1, "2025-09-20T10:58:42.665193001Z"))).await;
    assert_eq!(say(&headers, RESUMED), "true");
    let two = reader.next().await;
    assert_eq!((two.author.as_str(), two.text.as_str()), ("alice", "two"));
    assert_eq!(send(&mut grpc, "two", "k").await.unwrap(), two.time);
    assert_eq!(send(&mut grpc, "three", "k").await.unwrap_err().code(), Code::AlreadyExists);
    let three = send(&mut grpc, "three", "another").await.unwrap();
    assert_eq!(reader.next().await.time, three);
    // The script of format 1 compares this as a number, and fails before it writes anything.
    let fails = "return tonumber(redis.call('HGET', KEYS[1], 'last')) == nil and 'fails'";
    assert_eq!(engine.run::<String>(&["EVAL", fails, "1", STATE]), "fails");
}
