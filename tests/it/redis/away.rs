//! Redis is killed, hangs, and returns with all or less of its data. Acknowledged messages are
//! there, or every reader is told of the loss.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::support;
use crate::support::proxy::{Mode, proxy};
use crate::support::redis::{Engine, ON_DISK};
use crate::support::suite::tests;
use crate::support::{Grpc, Message, Reader, Running, assert_increasing, client, http, post, server, soon, until};
use libtest_mimic::Trial;
use messenger::proto::{EPOCH, IDEMPOTENCY_KEY, NOT_ACCEPTED, POSITION, RESUME_AFTER, RESUMED, SendMessageRequest};
use messenger::send_time::rfc3339;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

pub fn tests() -> Vec<Trial> {
    tests![
        a_server_starts_without_redis_and_refuses_messages_at_once,
        a_kill_under_load_loses_no_acknowledged_message,
        a_hang_leaves_an_unknown_outcome_that_a_key_resolves,
        flushing_redis_begins_a_new_epoch,
        a_return_without_data_begins_a_new_epoch,
        a_return_with_less_data_begins_a_new_epoch,
        each_return_with_the_same_old_data_begins_a_new_epoch,
        losses_while_no_server_ran_are_reported_to_readers,
        a_room_an_hour_ahead_of_the_clock_keeps_its_order,
        no_server_goes_back_behind_what_it_has_seen,
        without_its_replica_a_message_is_not_acknowledged,
        a_short_outage_is_invisible_over_http,
        a_server_that_missed_trimmed_messages_tells_its_readers,
        a_room_that_was_rewritten_is_a_new_epoch_for_its_readers
    ]
}

fn of(engine: &Engine) -> Running {
    server(&["--redis-url", &engine.url()])
}

fn say(headers: &MetadataMap, name: &str) -> String {
    headers.get(name).expect(name).to_str().unwrap().to_owned()
}

async fn try_open(grpc: &mut Grpc, after: Option<(&str, &str)>) -> Result<(Reader, MetadataMap), Status> {
    let mut request = Request::new(());
    if let Some((epoch, time)) = after {
        request.metadata_mut().insert(EPOCH, epoch.parse().unwrap());
        request.metadata_mut().insert(RESUME_AFTER, time.parse().unwrap());
    }
    let response = soon("the headers", grpc.read_messages(request)).await?;
    let headers = response.metadata().clone();
    Ok((Reader { stream: response.into_inner() }, headers))
}

async fn open(grpc: &mut Grpc, after: Option<(&str, &str)>) -> (Reader, MetadataMap) {
    try_open(grpc, after).await.expect("a stream")
}

async fn send(grpc: &mut Grpc, author: &str, text: &str, key: &str) -> Result<String, Status> {
    let mut request = Request::new(SendMessageRequest { author: author.to_owned(), text: text.to_owned() });
    request.metadata_mut().insert(IDEMPOTENCY_KEY, key.parse().unwrap());
    let answer = grpc.send_message(request).await?.into_inner();
    Ok(rfc3339(&answer.send_time.expect("a time")).to_string())
}

/// Sends until the message is accepted.
async fn send_at_last(grpc: &mut Grpc, author: &str, text: &str) -> String {
    let key = format!("{author}-{text}").replace(' ', "-");
    // A loop, because the future of a borrowing closure would not be `Send`.
    let start = Instant::now();
    loop {
        match send(grpc, author, text, &key).await {
            Ok(time) => return time,
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
        assert!(start.elapsed() < support::PATIENCE, "waited too long for the engine");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn a_server_starts_without_redis_and_refuses_messages_at_once() {
    let mut engine = Engine::start(&[]);
    engine.kill();
    let server = of(&engine);
    let client = client(server.address, &[]);
    let mut grpc = server.grpc().await;
    let start = Instant::now();
    for number in 0..20 {
        let status = send(&mut grpc, "alice", "hey", &number.to_string()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.metadata().contains_key(NOT_ACCEPTED), "{status}");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let status = try_open(&mut grpc, None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "nobody can say which messages are new: {status}");

    engine.start_again();
    client.ready().await;
    let (mut reader, _) = until("a stream", async || try_open(&mut grpc, None).await.ok()).await;
    let time = send_at_last(&mut grpc, "alice", "at last").await;
    assert_eq!(reader.next().await.time, time);
    assert_eq!(client.collect(1).await[0].time, time);
}

async fn a_kill_under_load_loses_no_acknowledged_message() {
    const SENDERS: usize = 4;
    const KILLS: usize = 4;
    let mut engine = Engine::start(&ON_DISK);
    let servers = [of(&engine), of(&engine)];
    let mut readers = Vec::new();
    for server in servers.iter().chain(&servers) {
        readers.push(open(&mut server.grpc().await, None).await.0);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let (mut grpc, stop) = (servers[sender % servers.len()].grpc().await, Arc::clone(&stop));
        senders.spawn(async move {
            let mut sent = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let (author, text) = (format!("sender {sender}"), sent.len().to_string());
                // A repetition with the same key, whatever the first try did.
                let time = send_at_last(&mut grpc, &author, &text).await;
                sent.push(Message { author, text, time });
            }
            sent
        });
    }
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(300)).await;
        engine.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        engine.start_again();
    }
    let mut grpc = servers[0].grpc().await;
    send_at_last(&mut grpc, "test", "it is back").await;
    stop.store(true, Ordering::Relaxed);
    let sent = senders.join_all().await;
    let last = send_at_last(&mut grpc, "test", "last").await;

    let mut orders = Vec::new();
    for mut reader in readers {
        let mut order = vec![reader.next().await];
        while order.last().unwrap().time != last {
            order.push(reader.next().await);
        }
        orders.push(order);
    }
    assert_increasing(&orders[0]);
    assert!(orders.iter().all(|order| *order == orders[0]), "one order everywhere");
    let count: usize = sent.iter().map(Vec::len).sum();
    assert_eq!(orders[0].len(), count + 2, "each once");
    let place: HashMap<&Message, usize> =
        orders[0].iter().enumerate().map(|(place, message)| (message, place)).collect();
    for mine in sent {
        assert!(mine.len() > KILLS, "{} messages", mine.len());
        let places: Vec<usize> = mine.iter().map(|message| place[message]).collect();
        assert!(places.is_sorted());
    }
}

async fn a_hang_leaves_an_unknown_outcome_that_a_key_resolves() {
    let engine = Engine::start(&[]);
    let server = of(&engine);
    let mut grpc = server.grpc().await;
    let (mut reader, _) = open(&mut grpc, None).await;
    let first = send(&mut grpc, "alice", "one", "1").await.unwrap();
    engine.signal("STOP");
    let status = send(&mut grpc, "alice", "two", "2").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(!status.metadata().contains_key(NOT_ACCEPTED) && status.message().contains("unknown"), "{status}");
    engine.signal("CONT");
    let second = until("the engine", async || send(&mut grpc, "alice", "two", "2").await.ok()).await;
    let third = send_at_last(&mut grpc, "alice", "three").await;
    let times: Vec<String> = reader.take(3).await.into_iter().map(|message| message.time).collect();
    assert_eq!(times, [first, second, third], "the stream is the same, and each message is there once");
}

/// Checks with two readers from before, one of them at an idle server: both are told of the gap,
/// all servers are in the same new epoch, and times increase.
async fn everybody_is_told(engine: &Engine, servers: &[Running], before: Vec<(Reader, String, Vec<Message>)>) {
    let last_before = before[0].2.last().expect("a message").time.clone();
    let mut epochs = Vec::new();
    for ((reader, epoch, had), server) in before.into_iter().zip(servers) {
        let (rest, status) = reader.rest().await;
        assert!(rest.is_empty(), "{rest:?}");
        let status = status.expect("a status");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.message().contains("a new epoch"), "{status}");
        let mut grpc = server.grpc().await;
        let (_, headers) = open(&mut grpc, Some((&epoch, &had.last().unwrap().time))).await;
        assert_eq!(say(&headers, RESUMED), "false");
        assert_ne!(say(&headers, EPOCH), epoch);
        epochs.push(say(&headers, EPOCH));
    }
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    assert_eq!(engine.run::<String>(&["HGET", "{messenger}:state", "epoch"]), epochs[0]);
    let mut readers = Vec::new();
    for server in servers {
        readers.push(open(&mut server.grpc().await, None).await.0);
    }
    for server in servers {
        let time = post(&mut server.grpc().await, "alice", "in the new epoch").await;
        assert!(time > last_before, "no server goes back behind what it has seen");
        for reader in &mut readers {
            assert_eq!(reader.next().await.time, time);
        }
    }
}

/// Posts messages, which a reader at each server receives.
async fn posted(servers: &[Running], count: usize) -> Vec<(Reader, String, Vec<Message>)> {
    let mut readers = Vec::new();
    for server in servers {
        let (reader, headers) = open(&mut server.grpc().await, None).await;
        readers.push((reader, say(&headers, EPOCH), Vec::new()));
    }
    add(&mut readers, &servers[0], count).await;
    readers
}

async fn add(readers: &mut [(Reader, String, Vec<Message>)], server: &Running, count: usize) {
    let mut grpc = server.grpc().await;
    for number in 0..count {
        post(&mut grpc, "alice", &number.to_string()).await;
    }
    for (reader, _, had) in readers {
        had.extend(reader.take(count).await);
    }
}

async fn flushing_redis_begins_a_new_epoch() {
    let engine = Engine::start(&[]);
    let servers = [of(&engine), of(&engine)];
    let before = posted(&servers, 10).await;
    engine.run::<String>(&["FLUSHALL"]);
    everybody_is_told(&engine, &servers, before).await;
}

async fn a_return_without_data_begins_a_new_epoch() {
    let mut engine = Engine::start(&[]);
    let servers = [of(&engine), of(&engine)];
    let before = posted(&servers, 10).await;
    engine.kill();
    engine.start_again();
    everybody_is_told(&engine, &servers, before).await;
}

async fn a_return_with_less_data_begins_a_new_epoch() {
    let mut engine = Engine::start(&[]);
    let servers = [of(&engine), of(&engine), of(&engine)];
    let mut before = posted(&servers, 10).await;
    engine.run::<String>(&["SAVE"]);
    add(&mut before, &servers[1], 10).await;
    let kept = before[0].2[..10].to_vec();
    engine.kill();
    engine.start_again();
    let (mut grpc, epoch, position) = (servers[0].grpc().await, before[0].1.clone(), kept[4].time.clone());
    everybody_is_told(&engine, &servers, before).await;
    // Readers get the remaining messages that they do not have, with a gap and without a repeat.
    let (mut reader, headers) = open(&mut grpc, Some((&epoch, &position))).await;
    assert_eq!(say(&headers, RESUMED), "false");
    assert_eq!(reader.take(5).await, kept[5..]);
    assert_eq!(reader.next().await.text, "in the new epoch");
}

async fn each_return_with_the_same_old_data_begins_a_new_epoch() {
    let mut engine = Engine::start(&[]);
    let servers = [of(&engine), of(&engine)];
    let mut before = posted(&servers, 10).await;
    engine.run::<String>(&["SAVE"]);
    add(&mut before, &servers[1], 10).await;
    let (epoch, last) = (before[0].1.clone(), before[0].2.last().unwrap().time.clone());
    engine.kill();
    engine.start_again();
    everybody_is_told(&engine, &servers, before).await;
    let before = posted(&servers, 10).await;
    engine.kill();
    // The data is of the first epoch, which is over.
    engine.start_again();
    everybody_is_told(&engine, &servers, before).await;
    for server in &servers {
        let (_, headers) = open(&mut server.grpc().await, Some((&epoch, &last))).await;
        assert_eq!(say(&headers, RESUMED), "false", "who was away all the time has missed the second one");
        assert_ne!(say(&headers, EPOCH), epoch);
    }
}

async fn losses_while_no_server_ran_are_reported_to_readers() {
    let mut engine = Engine::start(&[]);
    let server = of(&engine);
    let mut before = posted(std::slice::from_ref(&server), 10).await;
    engine.run::<String>(&["SAVE"]);
    add(&mut before, &server, 10).await;
    let (reader, epoch, had) = before.remove(0);
    drop(reader);
    server.stop().await;
    engine.kill();
    engine.start_again();
    let server = of(&engine);
    let mut grpc = server.grpc().await;
    // The epoch continues, because no reader has seen the lost messages.
    let next = send_at_last(&mut grpc, "alice", "next").await;
    for (place, resumed) in [(4, "true"), (9, "true"), (10, "false"), (14, "false"), (19, "false")] {
        let (mut reader, headers) = open(&mut grpc, Some((&epoch, &had[place].time))).await;
        assert_eq!((say(&headers, EPOCH), say(&headers, RESUMED)), (epoch.clone(), resumed.to_owned()), "{place}");
        for message in had.iter().take(10).skip(place + 1) {
            assert_eq!(reader.next().await, *message);
        }
        assert_eq!(reader.next().await.time, next, "and nothing twice");
    }
}

async fn a_room_an_hour_ahead_of_the_clock_keeps_its_order() {
    let engine = Engine::start(&[]);
    let ahead = SystemTime::UNIX_EPOCH.elapsed().unwrap() + Duration::from_hours(1);
    let last = ahead.as_micros().to_string();
    engine.run::<usize>(&["HSET", "{messenger}:state", "epoch", "0123456789abcdef", "last", &last]);
    let servers = [of(&engine), of(&engine)];
    let (mut reader, headers) = open(&mut servers[0].grpc().await, None).await;
    let position = say(&headers, POSITION);
    let mut times = vec![position.clone()];
    for number in 0..100 {
        times.push(post(&mut servers[number % 2].grpc().await, "alice", &number.to_string()).await);
    }
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    let got: Vec<String> = reader.take(100).await.into_iter().map(|message| message.time).collect();
    assert_eq!(got, times[1..]);
    let (mut reader, headers) = open(&mut servers[1].grpc().await, Some(("0123456789abcdef", &position))).await;
    assert_eq!((say(&headers, RESUMED), reader.next().await.time), ("true".to_owned(), times[1].clone()));
}

async fn no_server_goes_back_behind_what_it_has_seen() {
    let engine = Engine::start(&[]);
    let ahead = SystemTime::UNIX_EPOCH.elapsed().unwrap() + Duration::from_hours(1);
    let last = ahead.as_micros().to_string();
    engine.run::<usize>(&["HSET", "{messenger}:state", "epoch", "0123456789abcdef", "last", &last]);
    let way = proxy(engine.address());
    let cut_off = server(&["--redis-url", &format!("redis://{}", way.address)]);
    let mut grpc = cut_off.grpc().await;
    let (reader, _) = open(&mut grpc, None).await;
    let before = post(&mut grpc, "alice", "an hour ahead").await;
    way.set(Mode::Cut);
    engine.run::<String>(&["FLUSHALL"]);
    let other = of(&engine);
    let between = post(&mut other.grpc().await, "alice", "now").await;
    assert!(between < before);
    way.set(Mode::Pass);
    let (rest, _) = reader.rest().await;
    assert!(rest.len() <= 1, "{rest:?}");
    let after = send_at_last(&mut grpc, "alice", "again").await;
    assert!(after > before, "{after}");
    assert!(post(&mut other.grpc().await, "alice", "and the other").await > after);
}

async fn without_its_replica_a_message_is_not_acknowledged() {
    let engine = Engine::start(&[]);
    let port = engine.port.to_string();
    let mut replica = Engine::start(&["--replicaof", "127.0.0.1", &port]);
    let server = server(&["--redis-url", &engine.url(), "--redis-replicas", "1"]);
    let mut grpc = server.grpc().await;
    let (mut reader, _) = open(&mut grpc, None).await;
    let first = send_at_last(&mut grpc, "alice", "one").await;
    assert_eq!(replica.run::<usize>(&["XLEN", "{messenger}:stream"]), 1, "acknowledged: the replica has it");
    replica.kill();
    for _ in 0..2 {
        let status = send(&mut grpc, "alice", "two", "2").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(!status.metadata().contains_key(NOT_ACCEPTED), "{status}");
        assert!(status.message().contains("0 of 1 replicas"), "the second try is not taken for confirmed: {status}");
    }
    replica.start_again();
    let second = until("the replica", async || send(&mut grpc, "alice", "two", "2").await.ok()).await;
    assert_eq!(replica.run::<usize>(&["XLEN", "{messenger}:stream"]), 2);
    let times: Vec<String> = reader.take(2).await.into_iter().map(|message| message.time).collect();
    assert_eq!(times, [first, second], "each once");
}

async fn a_short_outage_is_invisible_over_http() {
    let mut engine = Engine::start(&ON_DISK);
    let server = of(&engine);
    let client = client(server.address, &[]);
    client.ready().await;
    let mut sent = Vec::new();
    for round in 0..5 {
        sent.push(http::send(client.address, "alice", &format!("{round} before")).await);
        engine.kill();
        engine.start_again();
        sent.push(http::send(client.address, "alice", &format!("{round} after")).await);
    }
    let got: Vec<String> = client.collect(sent.len()).await.into_iter().map(|message| message.time).collect();
    assert_eq!(got, sent);
}

async fn a_server_that_missed_trimmed_messages_tells_its_readers() {
    let engine = Engine::start(&[]);
    let way = proxy(engine.address());
    let cut_off = server(&["--redis-url", &format!("redis://{}", way.address)]);
    let other = server(&["--redis-url", &engine.url(), "--redis-max-length", "100"]);
    let (reader, headers) = open(&mut cut_off.grpc().await, None).await;
    let (mut watch, epoch) = (other.reader().await, say(&headers, EPOCH));
    let mut grpc = other.grpc().await;
    let seen = post(&mut grpc, "alice", "seen").await;
    let mut reader = reader;
    assert_eq!(reader.next().await.time, seen);
    way.set(Mode::Cut);
    for number in 0..1_000 {
        post(&mut grpc, "alice", &number.to_string()).await;
    }
    let order = watch.take(1_001).await;
    way.set(Mode::Pass);
    let (rest, status) = reader.rest().await;
    assert!(rest.is_empty());
    assert_eq!(status.expect("a status").code(), Code::ResourceExhausted);
    let (mut reader, headers) = open(&mut cut_off.grpc().await, Some((&epoch, &seen))).await;
    assert_eq!((say(&headers, RESUMED), say(&headers, EPOCH)), ("false".to_owned(), epoch.clone()));
    let oldest = reader.next().await;
    let index = order.iter().position(|message| *message == oldest).expect("one of them");
    assert!(index > 500, "{index}");
    assert_eq!(reader.take(order.len() - index - 1).await, order[index + 1..]);
    // The epoch of a reader without a loss is still valid.
    let (_, headers) = open(&mut cut_off.grpc().await, Some((&epoch, &order[index].time))).await;
    assert_eq!(say(&headers, RESUMED), "true");
}

async fn a_room_that_was_rewritten_is_a_new_epoch_for_its_readers() {
    let mut engine = Engine::start(&[]);
    let way = proxy(engine.address());
    let cut_off = server(&["--redis-url", &format!("redis://{}", way.address)]);
    let mut before = posted(std::slice::from_ref(&cut_off), 10).await;
    engine.run::<String>(&["SAVE"]);
    add(&mut before, &cut_off, 10).await;
    way.set(Mode::Cut);
    engine.kill();
    engine.start_again();
    // A server that was not there continues in the old epoch.
    let other = of(&engine);
    let (mut reader, headers) = open(&mut other.grpc().await, None).await;
    assert_eq!(say(&headers, EPOCH), before[0].1);
    let mut grpc = other.grpc().await;
    for number in 0..20 {
        let time = post(&mut grpc, "alice", &format!("instead {number}")).await;
        assert_eq!(reader.next().await.time, time);
    }
    way.set(Mode::Pass);
    let (rest, status) = before.remove(0).0.rest().await;
    assert!(rest.is_empty(), "{rest:?}");
    assert!(status.expect("a status").message().contains("a new epoch"));
    let (rest, status) = reader.rest().await;
    assert!(rest.is_empty(), "{rest:?}");
    assert!(status.expect("a status").message().contains("a new epoch"), "it is one epoch for all");
}
