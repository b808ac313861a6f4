//! The network between the servers and the engines falls apart and comes together again. Packets vanish, and nobody is told.
//!
//! Needs root, `ip` and redis-server.

mod support;

use std::time::{Duration, Instant};

use messenger::proto::{EPOCH, IDEMPOTENCY_KEY, RESUME_AFTER, SendMessageRequest};
use messenger::send_time::rfc3339;
use support::netns::Lab;
use support::{Grpc, Message, PATIENCE, Reader, assert_increasing, soon, until};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

/// For the failure of a send at a server that is cut off.
const BOUND: Duration = Duration::from_secs(8);

/// Sends under a key, which is the text.
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

/// Sends what must fail, soon.
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

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_cut_off_says_so_to_senders_keeps_its_streams_and_catches_up() {
    let Some(mut lab) = Lab::new(&["engine", "far", "near"]) else { return };
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
