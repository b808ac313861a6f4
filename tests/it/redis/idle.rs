//! A connection to Redis that was closed or dropped while idle does not fail the next call.

use std::time::Duration;

use crate::support::proxy::proxy;
use crate::support::redis::Engine;
use crate::support::suite::tests;
use crate::support::{Grpc, Reader, post, server, soon, until};
use libtest_mimic::Trial;
use messenger::proto::{EPOCH, POSITION, RESUME_AFTER, RESUMED};
use tonic::Request;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

pub fn tests() -> Vec<Trial> {
    tests![
        a_connection_closed_by_the_idle_timeout_costs_no_call,
        a_connection_killed_by_an_admin_costs_no_call,
        a_connection_dropped_by_the_network_costs_no_call
    ]
}

/// The ids of the idle connections: neither the one that reads the stream nor that of the test.
fn idle(engine: &Engine) -> Vec<String> {
    let clients: String = engine.run(&["CLIENT", "LIST", "TYPE", "normal"]);
    let idle = clients.lines().filter(|client| client.contains(" flags=N ") && !client.contains(" cmd=client|list "));
    idle.filter_map(|client| Some(client.strip_prefix("id=")?.split_once(' ')?.0.to_owned())).collect()
}

/// Waits for a condition for a while. If it never holds, the next call of the test fails.
async fn settled(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(4), wait).await;
}

fn say(headers: &MetadataMap, name: &str) -> AsciiMetadataValue {
    headers.get(name).expect(name).clone()
}

/// Starts a replica, and waits until it has all data.
async fn replica(engine: &Engine) -> Engine {
    let replica = Engine::start(&["--replicaof", "127.0.0.1", &engine.port.to_string()]);
    let online = || engine.run::<String>(&["INFO", "replication"]).contains("state=online");
    until("the replica", async || online().then_some(())).await;
    replica
}

/// Posts more than the retention of the server, and returns the first position.
struct Begin {
    epoch: AsciiMetadataValue,
    position: AsciiMetadataValue,
}

async fn posted(grpc: &mut Grpc) -> Begin {
    let response = soon("the headers", grpc.read_messages(())).await.expect("a stream");
    let headers = response.metadata();
    let begin = Begin { epoch: say(headers, EPOCH), position: say(headers, POSITION) };
    drop(response);
    for _ in 0..16 {
        post(grpc, "alice", &"x".repeat(1 << 20)).await;
    }
    begin
}

/// Opens a stream from that position, which begins in Redis.
async fn further_back(grpc: &mut Grpc, begin: &Begin) {
    let mut request = Request::new(());
    request.metadata_mut().insert(EPOCH, begin.epoch.clone());
    request.metadata_mut().insert(RESUME_AFTER, begin.position.clone());
    let response = soon("the headers", grpc.read_messages(request)).await.expect("a stream");
    assert_eq!(say(response.metadata(), RESUMED), "true");
    let mut reader = Reader { stream: response.into_inner() };
    assert_eq!(reader.take(16).await.len(), 16);
}

const SMALL: [&str; 2] = ["--retention-bytes", "8MiB"];

async fn a_connection_closed_by_the_idle_timeout_costs_no_call() {
    let engine = Engine::start(&["--timeout", "1"]);
    let server = server(&[&["--redis-url", &engine.url()][..], &SMALL].concat());
    let mut grpc = server.grpc().await;
    let begin = posted(&mut grpc).await;
    further_back(&mut grpc, &begin).await;
    for number in 0..3 {
        let open = idle(&engine);
        assert!(!open.is_empty());
        settled(|| open.iter().all(|id| !idle(&engine).contains(id))).await;
        post(&mut grpc, "alice", &number.to_string()).await;
    }
    let mut reader = server.reader().await;
    further_back(&mut grpc, &begin).await;
    let time = post(&mut grpc, "alice", "last").await;
    assert_eq!(reader.next().await.time, time);
}

async fn a_connection_killed_by_an_admin_costs_no_call() {
    let engine = Engine::start(&[]);
    let _replica = replica(&engine).await;
    // With replicas there is another connection, which confirms messages.
    for replicas in ["0", "1"] {
        let flags = ["--redis-url", &engine.url(), "--redis-replicas", replicas, "--redis-room", replicas];
        let server = server(&[&flags[..], &SMALL].concat());
        let mut grpc = server.grpc().await;
        let begin = posted(&mut grpc).await;
        further_back(&mut grpc, &begin).await;
        // One after the other: without one connection the others are not idle.
        for id in idle(&engine) {
            // The connection may have ended with the one before.
            let _: redis::Value = engine.run(&["CLIENT", "KILL", "ID", &id]);
            settled(|| !idle(&engine).contains(&id)).await;
            // The server notices the end later, without a sign for the test.
            tokio::time::sleep(Duration::from_millis(100)).await;
            post(&mut grpc, "alice", "hey").await;
            server.reader().await;
        }
        further_back(&mut grpc, &begin).await;
        server.stop().await;
    }
}

async fn a_connection_dropped_by_the_network_costs_no_call() {
    let engine = Engine::start(&[]);
    let _replica = replica(&engine).await;
    let way = proxy(engine.address());
    for replicas in ["0", "1"] {
        let flags = ["--redis-url", &format!("redis://{}", way.address), "--redis-replicas", replicas];
        let server = server(&[&flags[..], &["--redis-room", replicas], &SMALL].concat());
        let mut grpc = server.grpc().await;
        let begin = posted(&mut grpc).await;
        further_back(&mut grpc, &begin).await;
        // The connection that reads the stream is never idle.
        way.forget_all_but("XREAD");
        // Long enough for the connection to count as idle.
        tokio::time::sleep(Duration::from_secs(6)).await;
        further_back(&mut grpc, &begin).await;
        post(&mut grpc, "alice", "hey").await;
        let mut reader = server.reader().await;
        let time = post(&mut grpc, "alice", "last").await;
        assert_eq!(reader.next().await.time, time);
        server.stop().await;
    }
}
