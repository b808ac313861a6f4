//! The network between servers and Redis is partitioned and healed. Packets vanish without an
//! error.
//!
//! Needs root, `ip` and redis-server.

use std::time::{Duration, Instant};

use crate::support::netns::Lab;
use crate::support::suite::tests;
use crate::support::{Grpc, Message, PATIENCE, Reader, assert_increasing, soon, until};
use libtest_mimic::Trial;
use messenger::proto::{EPOCH, IDEMPOTENCY_KEY, NOT_ACCEPTED, RESUME_AFTER, RESUMED, SendMessageRequest};
use messenger::send_time::rfc3339;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

pub fn tests() -> Vec<Trial> {
    tests![
        a_server_that_is_cut_off_keeps_its_streams_and_catches_up,
        a_master_that_was_cut_off_loses_no_acknowledged_message,
        a_master_without_replicas_refuses_messages
    ]
}

/// The bound of a failing send at a server that is cut off.
const BOUND: Duration = Duration::from_secs(8);
const STREAM: &str = "{messenger}:stream";

/// Sends with the text as the key.
async fn send(grpc: &mut Grpc, text: &str) -> Result<String, Status> {
    let mut request = Request::new(SendMessageRequest { author: "alice".to_owned(), text: text.to_owned() });
    request.metadata_mut().insert(IDEMPOTENCY_KEY, text.parse().unwrap());
    let answer = soon("an answer", grpc.send_message(request)).await?.into_inner();
    Ok(rfc3339(&answer.send_time.expect("a time")).to_string())
}

async fn send_at_last(grpc: &mut Grpc, text: &str) -> String {
    let start = Instant::now();
    loop {
        match send(grpc, text).await {
            Ok(time) => return time,
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for the engine");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends a message that must fail within the bound.
async fn refused(grpc: &mut Grpc, text: &str) -> Status {
    let start = Instant::now();
    let status = send(grpc, text).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(start.elapsed() <= BOUND, "{:?}", start.elapsed());
    status
}

async fn open(grpc: &mut Grpc, after: Option<(&str, &str)>) -> (Reader, MetadataMap) {
    until("a stream", async || {
        let mut request = Request::new(());
        if let Some((epoch, time)) = after {
            request.metadata_mut().insert(EPOCH, epoch.parse().unwrap());
            request.metadata_mut().insert(RESUME_AFTER, time.parse().unwrap());
        }
        let response = grpc.read_messages(request).await.ok()?;
        let headers = response.metadata().clone();
        Some((Reader { stream: response.into_inner() }, headers))
    })
    .await
}

async fn up_to(reader: &mut Reader, last: &str) -> Vec<Message> {
    let mut all = vec![reader.next().await];
    while all.last().unwrap().time != last {
        all.push(reader.next().await);
    }
    all
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.text.as_str()).collect()
}

async fn a_server_that_is_cut_off_keeps_its_streams_and_catches_up() {
    let mut lab = Lab::new(&["engine", "far", "near"]);
    lab.engine("engine", 6379, &[]).await;
    let url = format!("redis://{}:6379", lab.data("engine"));
    let variables = [("MESSENGER_REDIS_URL", url.as_str())];
    let (mut far, mut near) = (lab.server("far", &variables).await, lab.server("near", &variables).await);
    let mut readers = [open(&mut far, None).await.0, open(&mut near, None).await.0];
    send_at_last(&mut far, "before-far").await;
    let before = send_at_last(&mut near, "before-near").await;
    let seen = up_to(&mut readers[0], &before).await;
    assert_eq!(seen, up_to(&mut readers[1], &before).await);

    lab.cut("far");
    refused(&mut far, "cut-first").await;
    for number in 0..20 {
        soon("an answer", send(&mut near, &format!("near-{number}"))).await.expect("the room goes on");
        if number < 5 {
            refused(&mut far, &format!("cut-{number}")).await;
        }
    }
    let quiet = tokio::time::timeout(Duration::from_millis(100), readers[0].stream.message()).await;
    assert!(quiet.is_err(), "the stream stays open, and has nothing: {quiet:?}");

    lab.heal("far");
    send_at_last(&mut far, "cut-first").await;
    let last = send_at_last(&mut far, "healed").await;
    let [at_far, at_near] = &mut readers;
    let (at_far, at_near) = (up_to(at_far, &last).await, up_to(at_near, &last).await);
    assert_eq!(at_far, at_near, "one order");
    assert_increasing(&at_far);
    for text in (0..20).map(|number| format!("near-{number}")).chain(["cut-first".to_owned(), "healed".to_owned()]) {
        assert_eq!(at_far.iter().filter(|message| message.text == text).count(), 1, "{text}");
    }
}

async fn a_master_that_was_cut_off_loses_no_acknowledged_message() {
    let mut lab = Lab::new(&["left", "right"]);
    let master = lab.data("left").to_string();
    lab.engine("left", 6379, &[]).await;
    for port in [6379, 6380] {
        // Two replicas share the folder.
        let file = format!("right-{port}");
        lab.engine("right", port, &["--replicaof", &master, "6379", "--dbfilename", &file]).await;
    }
    for (name, port) in [("left", 26379), ("right", 26379), ("right", 26380)] {
        lab.sentinel(name, port, "left").await;
    }
    until("the sentinels", async || {
        [("left", 26379), ("right", 26379), ("right", 26380)]
            .iter()
            .all(|(name, port)| {
                let known: Option<Vec<std::collections::HashMap<String, String>>> =
                    lab.try_run(name, *port, &["SENTINEL", "MASTERS"]);
                known.is_some_and(|known| known[0]["num-slaves"] == "2" && known[0]["num-other-sentinels"] == "2")
            })
            .then_some(())
    })
    .await;
    let (left, right) = (lab.data("left"), lab.data("right"));
    let urls = [
        format!("redis+sentinel://{left}:26379,{right}:26379/room"),
        format!("redis+sentinel://{right}:26379,{right}:26380/room"),
    ];
    let [far_url, near_url] = &urls;
    let replicas = ("MESSENGER_REDIS_REPLICAS", "1");
    let mut far = lab.server("left", &[("MESSENGER_REDIS_URL", far_url), replicas]).await;
    let mut near = lab.server("right", &[("MESSENGER_REDIS_URL", near_url), replicas]).await;
    let (mut at_far, headers) = open(&mut far, None).await;
    let epoch = headers.get(EPOCH).unwrap().to_str().unwrap().to_owned();
    let mut acknowledged =
        vec![send_at_last(&mut far, "before-far").await, send_at_last(&mut near, "before-near").await];
    up_to(&mut at_far, &acknowledged[1]).await;

    lab.cut("left");
    for text in ["lost", "twin"] {
        let status = refused(&mut far, text).await;
        assert!(status.message().contains("0 of 1 replicas"), "{status}");
        assert!(!status.metadata().contains_key(NOT_ACCEPTED), "{status}");
    }
    let shown = at_far.take(2).await;
    assert_eq!(texts(&shown), ["lost", "twin"], "shown, and not acknowledged");
    let twin = send_at_last(&mut near, "twin").await;
    acknowledged.push(twin.clone());
    for number in 0..20 {
        acknowledged.push(send_at_last(&mut near, &format!("near-{number}")).await);
        if number < 3 {
            refused(&mut far, &format!("cut-{number}")).await;
        }
    }

    lab.heal("left");
    let (_, end) = at_far.rest().await;
    let end = end.expect("a status");
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    assert!(end.message().contains("a new epoch"), "{end}");
    until("the old master's new role", async || {
        let role: String = lab.try_run("left", 6379, &["INFO", "replication"])?;
        (role.contains("role:slave") && role.contains("master_link_status:up")).then_some(())
    })
    .await;
    let (mut at_far, headers) = open(&mut far, Some((&epoch, &shown[1].time))).await;
    assert_eq!(headers.get(RESUMED).unwrap(), "false", "it is told of what is lost");
    drop(at_far);
    (at_far, _) = open(&mut far, None).await;
    let mut at_near = open(&mut near, None).await.0;

    assert_eq!(send_at_last(&mut far, "twin").await, twin, "it was in the room already");
    acknowledged.push(send_at_last(&mut far, "lost").await);
    acknowledged.push(send_at_last(&mut near, "healed-near").await);
    let last = send_at_last(&mut far, "healed-far").await;
    acknowledged.push(last.clone());
    let (at_far, at_near) = (up_to(&mut at_far, &last).await, up_to(&mut at_near, &last).await);
    assert_eq!(at_far, at_near, "one order");
    assert_eq!(texts(&at_far), ["lost", "healed-near", "healed-far"]);
    for (number, time) in acknowledged[3..23].iter().enumerate() {
        assert_eq!(send_at_last(&mut far, &format!("near-{number}")).await, *time, "it is known by its key");
    }
    // The old master has the data of the new one.
    until("all that was acknowledged, each once", async || {
        let kept: usize = lab.try_run("left", 6379, &["XLEN", STREAM])?;
        assert!(kept <= acknowledged.len(), "{kept} and not {}", acknowledged.len());
        (kept == acknowledged.len()).then_some(())
    })
    .await;
}

async fn a_master_without_replicas_refuses_messages() {
    let mut lab = Lab::new(&["left", "right"]);
    let limits = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"];
    let master = lab.data("left").to_string();
    lab.engine("left", 6379, &limits).await;
    lab.engine("right", 6379, &[&limits[..], &["--replicaof", &master, "6379"]].concat()).await;
    let url = format!("redis://{master}:6379");
    let variables = [("MESSENGER_REDIS_URL", url.as_str()), ("MESSENGER_REDIS_REPLICAS", "1")];
    let mut far = lab.server("left", &variables).await;
    let mut reader = open(&mut far, None).await.0;
    let before = send_at_last(&mut far, "before").await;
    up_to(&mut reader, &before).await;

    lab.cut("left");
    let start = Instant::now();
    let mut number = 0;
    loop {
        let status = refused(&mut far, &format!("cut-{number}")).await;
        number += 1;
        if status.metadata().contains_key(NOT_ACCEPTED) {
            break;
        }
        assert!(start.elapsed() < BOUND, "it still takes messages: {status}");
    }
    for after in 0..5 {
        let status = refused(&mut far, &format!("after-{after}")).await;
        assert!(status.metadata().contains_key(NOT_ACCEPTED), "{status}");
    }

    lab.heal("left");
    let last = send_at_last(&mut far, "healed").await;
    let seen = up_to(&mut reader, &last).await;
    assert!(seen.iter().all(|message| !message.text.starts_with("after")), "{seen:?}");
    assert!(seen.len() <= number + 1, "{seen:?}");
}
