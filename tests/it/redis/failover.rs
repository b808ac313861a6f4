//! Sentinels promote a replica after the death of the master, and the room continues there with
//! everything that was acknowledged with replicas.

use std::time::Instant;

use crate::support::redis::Engine;
use crate::support::suite::tests;
use crate::support::{Grpc, PATIENCE, Reader, grpc, program, reader, server, soon, until};
use libtest_mimic::Trial;
use messenger::proto::{EPOCH, IDEMPOTENCY_KEY, POSITION, RESUME_AFTER, RESUMED, SendMessageRequest};
use messenger::send_time::rfc3339;
use tonic::{Code, Request};

pub fn tests() -> Vec<Trial> {
    tests![the_room_continues_on_the_promoted_replica, a_user_with_the_documented_rights_serves_the_room]
}

/// Sends until the message is accepted.
async fn send(grpc: &mut Grpc, text: &str) -> String {
    let start = Instant::now();
    loop {
        let mut request = Request::new(SendMessageRequest { author: "alice".to_owned(), text: text.to_owned() });
        request.metadata_mut().insert(IDEMPOTENCY_KEY, text[..text.len().min(10)].replace(' ', "-").parse().unwrap());
        match grpc.send_message(request).await {
            Ok(answer) => return rfc3339(&answer.into_inner().send_time.expect("a time")).to_string(),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for the engine");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn the_room_continues_on_the_promoted_replica() {
    let mut master = Engine::start(&[]);
    let port = master.port.to_string();
    let replicas = [(); 2].map(|()| Engine::start(&["--replicaof", "127.0.0.1", &port]));
    until("the replicas", async || {
        master.run::<String>(&["INFO", "replication"]).contains("connected_slaves:2").then_some(())
    })
    .await;
    let sentinel = Engine::sentinel(&master);
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
    // The sentinel may promote either replica: it knows their offsets only from its last question.
    let lengths = || replicas.iter().map(|replica| replica.run::<usize>(&["XLEN", "{messenger}:stream"]));
    until("both replicas", async || lengths().all(|length| length == times.len()).then_some(())).await;
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

/// The words of the `ACL SETUSER` line in the docs.
fn acl(with: &str) -> Vec<String> {
    let docs = include_str!("../../../docs/redis.md");
    let line = docs.lines().find(|line| line.starts_with("ACL SETUSER") && line.contains(with)).expect("the line");
    line.replace("PASSWORD", "s3cret").split(' ').map(str::to_owned).collect()
}

fn allow(engine: &Engine, with: &str) {
    let acl = acl(with);
    engine.run::<String>(&acl.iter().map(String::as_str).collect::<Vec<_>>());
}

/// The documented rights suffice, with sentinels that have their own password too.
async fn a_user_with_the_documented_rights_serves_the_room() {
    let mut master = Engine::start(&[]);
    let port = master.port.to_string();
    let replicas = [(); 2].map(|()| Engine::start(&["--replicaof", "127.0.0.1", &port]));
    for engine in replicas.iter().chain([&master]) {
        allow(engine, "~{messenger}:*");
        engine.run::<String>(&["CONFIG", "RESETSTAT"]);
    }
    let sentinel = Engine::sentinel(&master);
    until("the sentinel", async || {
        let known: redis::Value = sentinel.run(&["SENTINEL", "REPLICAS", "room"]);
        matches!(known, redis::Value::Array(known) if known.len() == 2).then_some(())
    })
    .await;
    allow(&sentinel, "sentinel|");
    sentinel.run::<String>(&["ACL", "SETUSER", "default", "resetpass", ">0ther"]);
    let url = format!("redis+sentinel://messenger:s3cret@127.0.0.1:{}/room", sentinel.port);
    let variables = [
        ("MESSENGER_REDIS_URL", url.as_str()),
        ("MESSENGER_REDIS_REPLICAS", "1"),
        ("MESSENGER_RETENTION_BYTES", "8MiB"),
    ];

    // Without the password of the sentinels, the log gives the reason.
    let (mut server, _) = program::server(&variables).await;
    server.line("NOAUTH").await;
    drop(server);

    // With the password of the default user, and with a named user.
    for (round, login) in [
        &[("MESSENGER_REDIS_SENTINEL_PASSWORD", "0ther")][..],
        &[("MESSENGER_REDIS_SENTINEL_PASSWORD", "s3cret"), ("MESSENGER_REDIS_SENTINEL_USER", "messenger")],
    ]
    .into_iter()
    .enumerate()
    {
        let (server, address) = program::server(&[&variables, login].concat()).await;
        let mut grpc = grpc(address).await;
        let mut times = vec![send(&mut grpc, &format!("{round} first")).await];
        let response = soon("the headers", grpc.read_messages(())).await.expect("a stream");
        let header = |name: &str| response.metadata().get(name).expect(name).clone();
        let (epoch, begin) = (header(EPOCH), header(POSITION));
        let mut live = Reader { stream: response.into_inner() };
        // More than the retention of the server.
        for number in 0..10 {
            times.push(send(&mut grpc, &format!("{round} {number} {}", "x".repeat(1_000_000))).await);
        }
        let mut request = Request::new(());
        request.metadata_mut().insert(EPOCH, epoch);
        request.metadata_mut().insert(RESUME_AFTER, begin);
        let response = soon("the headers", grpc.read_messages(request)).await.expect("a stream");
        assert_eq!(response.metadata().get(RESUMED).unwrap(), "true");
        let mut resumed = Reader { stream: response.into_inner() };
        for reader in [&mut live, &mut resumed] {
            let got: Vec<String> = reader.take(10).await.into_iter().map(|message| message.time).collect();
            assert_eq!(got, times[1..]);
        }
        drop(server);
    }
    let login = [("MESSENGER_REDIS_SENTINEL_PASSWORD", "0ther")];
    let (_server, address) = program::server(&[&variables[..], &login].concat()).await;
    let mut grpc = grpc(address).await;
    let mut live = reader(&mut grpc).await;
    let denied: redis::Value = master.run(&["ACL", "LOG"]);
    assert!(matches!(&denied, redis::Value::Array(denied) if denied.is_empty()), "{denied:?}");
    // Each right is needed. Some commands run only after 5 s.
    let used: String = master.run(&["INFO", "commandstats"]);
    for right in acl("~{messenger}:*").iter().filter_map(|word| word.strip_prefix('+')).filter(|right| *right != "ping")
    {
        assert!(used.contains(&format!("cmdstat_{right}:")), "{right} is not used: {used}");
    }
    master.kill();
    let time = send(&mut grpc, "after it").await;
    assert_eq!(live.next().await.time, time);
}
