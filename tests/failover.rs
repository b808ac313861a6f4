//! The engine's master dies, sentinels make a replica the master, and the room goes on there: what was acknowledged with replicas is there.
//!
//! Needs redis-server, as `many_servers.rs` does.

mod support;

use std::time::Instant;

use messenger::proto::{IDEMPOTENCY_KEY, SendMessageRequest};
use messenger::send_time::rfc3339;
use support::redis::Engine;
use support::{Grpc, PATIENCE, server, until};
use tonic::{Code, Request};

/// Sends until it is accepted.
async fn send(grpc: &mut Grpc, text: &str) -> String {
    let start = Instant::now();
    loop {
        let mut request = Request::new(SendMessageRequest { author: "alice".to_owned(), text: text.to_owned() });
        request.metadata_mut().insert(IDEMPOTENCY_KEY, text.parse().unwrap());
        match grpc.send_message(request).await {
            Ok(answer) => return rfc3339(&answer.into_inner().send_time.expect("a time")).to_string(),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for the engine");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_goes_on_at_the_replica() {
    let Some(mut master) = Engine::start(&[]) else { return };
    let port = master.port.to_string();
    let replicas = [(); 2].map(|()| Engine::start(&["--replicaof", "127.0.0.1", &port]).unwrap());
    until("the replicas", async || {
        master.run::<String>(&["INFO", "replication"]).contains("connected_slaves:2").then_some(())
    })
    .await;
    let sentinel = Engine::sentinel(&master).unwrap();
    until("the sentinel", async || {
        let known: redis::Value = sentinel.run(&["SENTINEL", "REPLICAS", "room"]);
        matches!(known, redis::Value::Array(known) if known.len() == 2).then_some(())
    })
    .await;
    let url = format!("redis+sentinel://127.0.0.1:{}/room", sentinel.port);
    let servers = [(); 2].map(|()| server(&["--redis-url", &url, "--redis-replicas", "1"]));
    let mut grpc = servers[0].grpc().await;
    let first = send(&mut grpc, "first").await;
    let mut readers = [servers[0].reader().await, servers[1].reader().await];
    let mut times = vec![first];
    for number in 0..50 {
        times.push(send(&mut grpc, &number.to_string()).await);
    }
    master.kill();
    for number in 50..100 {
        times.push(send(&mut grpc, &number.to_string()).await);
    }
    for reader in &mut readers {
        let got: Vec<String> = reader.take(100).await.into_iter().map(|message| message.time).collect();
        assert_eq!(got, times[1..], "the same stream, and nothing is lost");
    }
    let length: Vec<usize> = replicas.iter().map(|replica| replica.run(&["XLEN", "{messenger}:stream"])).collect();
    assert!(length.contains(&times.len()), "{length:?}");
}
