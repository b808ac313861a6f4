//! With `MESSENGER_REDIS_DURABILITY=disk` a message is acknowledged once it is on the disk of
//! Redis.
//!
//! Most of the tests need `WAITAOF`, which Redis has since 7.2, and Valkey.

use std::time::{Duration, Instant};

use crate::support;
use crate::support::program::{self, SERVER};
use crate::support::redis::{Engine, ON_DISK};
use crate::support::suite::{self, tests};
use crate::support::{Grpc, Reader, Running, assert_increasing, server, until};
use libtest_mimic::Trial;
use messenger::proto::{IDEMPOTENCY_KEY, NOT_ACCEPTED, SendMessageRequest};
use messenger::send_time::rfc3339;
use tonic::{Code, Request, Status};

pub fn tests() -> Vec<Trial> {
    tests![
        without_a_sync_the_outcome_is_unknown,
        a_slow_disk_delays_senders_but_not_each_other,
        the_replica_must_sync_too,
        a_redis_without_an_append_only_file_gets_no_message
    ]
}

/// Requires a Redis that can report what is on disk.
fn require_waitaof(engine: &Engine) {
    if engine.run::<Vec<redis::Value>>(&["COMMAND", "INFO", "WAITAOF"]) == [redis::Value::Nil] {
        suite::ignore("this engine has no WAITAOF");
    }
}

fn of(engine: &Engine, more: &[&str]) -> Running {
    server(&[&["--redis-url", &engine.url(), "--redis-durability", "disk"], more].concat())
}

async fn send(grpc: &mut Grpc, text: &str, key: &str) -> Result<String, Status> {
    let mut request = Request::new(SendMessageRequest { author: "alice".to_owned(), text: text.to_owned() });
    request.metadata_mut().insert(IDEMPOTENCY_KEY, key.parse().unwrap());
    let answer = grpc.send_message(request).await?.into_inner();
    Ok(rfc3339(&answer.send_time.expect("a time")).to_string())
}

/// Opens a reader, once the server is connected to Redis.
async fn reader(server: &Running) -> Reader {
    let mut grpc = server.grpc().await;
    until("a stream", async || Some(Reader { stream: grpc.read_messages(()).await.ok()?.into_inner() })).await
}

async fn without_a_sync_the_outcome_is_unknown() {
    // With this setting only the kernel decides when to write.
    let engine = Engine::start(&["--appendonly", "yes", "--appendfsync", "no"]);
    require_waitaof(&engine);
    let server = of(&engine, &[]);
    let mut reader = reader(&server).await;
    let mut grpc = server.grpc().await;
    let status = send(&mut grpc, "hey", "1").await.expect_err("not on disk");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("not written the message to its disk"), "{status}");
    assert!(!status.metadata().contains_key(NOT_ACCEPTED), "it may be in the room, and is: {status}");
    engine.run::<String>(&["CONFIG", "SET", "appendfsync", "always"]);
    let time = until("the disk", async || send(&mut grpc, "hey", "1").await.ok()).await;
    let next = until("the disk", async || send(&mut grpc, "again", "2").await.ok()).await;
    assert_eq!([reader.next().await.time, reader.next().await.time], [time, next], "once");
}

async fn a_slow_disk_delays_senders_but_not_each_other() {
    const SENDERS: usize = 600;
    let engine = Engine::start(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    require_waitaof(&engine);
    let server = of(&engine, &[]);
    let mut reader = reader(&server).await;
    let grpc = server.grpc().await;
    let mut sends = tokio::task::JoinSet::new();
    let start = Instant::now();
    for sender in 0..SENDERS {
        let mut grpc = grpc.clone();
        sends.spawn(async move {
            for round in 0..3 {
                let key = format!("{sender}-{round}");
                send(&mut grpc, &key, &key).await.expect("acknowledged");
            }
        });
    }
    sends.join_all().await;
    // Batches that waited for each other, a second each, would take longer.
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    assert_increasing(&reader.take(3 * SENDERS).await);
}

async fn the_replica_must_sync_too() {
    let engine = Engine::start(&ON_DISK);
    require_waitaof(&engine);
    let port = engine.port.to_string();
    let replica = Engine::start(&[&ON_DISK[..], &["--replicaof", "127.0.0.1", &port]].concat());
    let server = of(&engine, &["--redis-replicas", "1"]);
    let mut grpc = server.grpc().await;
    until("the replica", async || send(&mut grpc, "one", "1").await.ok()).await;
    assert_eq!(replica.run::<usize>(&["XLEN", "{messenger}:stream"]), 1);
    replica.run::<String>(&["CONFIG", "SET", "appendfsync", "no"]);
    let status = send(&mut grpc, "two", "2").await.expect_err("only in the replica's memory");
    assert!(status.message().contains("0 of 1 replicas"), "{status}");
}

async fn a_redis_without_an_append_only_file_gets_no_message() {
    // Without an append-only file, or before Redis 7.2, the command fails.
    let engine = Engine::start(&[]);
    let url = engine.url();
    let mut server = program::start(
        SERVER,
        &[("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_REDIS_URL", &url), ("MESSENGER_REDIS_DURABILITY", "disk")],
    );
    let mut grpc = support::grpc(server.address("server listening").await).await;
    let line = server.line("redis refuses messages").await;
    assert!(line.contains("WAITAOF") || line.contains("appendonly"), "{line}");
    let status = send(&mut grpc, "hey", "1").await.expect_err("no message");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.metadata().contains_key(NOT_ACCEPTED), "{status}");
    assert_eq!(engine.run::<usize>(&["XLEN", "{messenger}:stream"]), 0);
}
