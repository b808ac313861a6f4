//! While Redis hangs, a bounded number of bytes waits for it. Further messages are refused at once
//! as not accepted.

use std::time::Duration;

use crate::support::redis::Engine;
use crate::support::suite::tests;
use crate::support::{post, server, soon, until};
use libtest_mimic::Trial;
use messenger::proto::{IDEMPOTENCY_KEY, NOT_ACCEPTED, SendMessageRequest};
use messenger::send_time::rfc3339;
use tonic::{Code, Request};

pub fn tests() -> Vec<Trial> {
    tests![waiting_messages_are_bounded_and_accepted_once, a_deadline_ends_the_wait_and_reports_the_outcome]
}

async fn waiting_messages_are_bounded_and_accepted_once() {
    /// Messages of a megabyte, of which 64 may wait.
    const SENDS: usize = 100;
    let engine = Engine::start(&[]);
    let server = server(&["--redis-url", &engine.url()]);
    let grpc = server.grpc().await;
    post(&mut grpc.clone(), "alice", "it is there").await;
    engine.signal("STOP");
    let mut sends = tokio::task::JoinSet::new();
    for number in 0..SENDS {
        let mut grpc = grpc.clone();
        let request = SendMessageRequest { author: number.to_string(), text: "x".repeat(1 << 20) };
        sends.spawn(async move { grpc.send_message(request).await.expect_err("the engine hangs") });
    }
    let mut refused = 0;
    while refused < SENDS - 64 {
        let status = soon("a refusal", sends.join_next()).await.expect("another").expect("no panic");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        // Too many messages wait for Redis, or are still on their way to the server.
        if status.message().contains("too many") {
            assert!(status.metadata().contains_key(NOT_ACCEPTED), "{status}");
            refused += 1;
        }
    }
    let unknown =
        sends.join_all().await.into_iter().filter(|status| !status.metadata().contains_key(NOT_ACCEPTED)).count();
    engine.signal("CONT");
    let mut grpc = grpc;
    let last = SendMessageRequest { author: "alice".to_owned(), text: "last".to_owned() };
    until("the engine", async || grpc.send_message(last.clone()).await.ok()).await;
    // No refused message is there. Messages that Redis already had may be.
    let length = engine.run::<usize>(&["XLEN", "{messenger}:stream"]);
    assert!((2..=2 + unknown).contains(&length), "{length} with {unknown} of unknown fate");
}

async fn a_deadline_ends_the_wait_and_reports_the_outcome() {
    let engine = Engine::start(&[]);
    let server = server(&["--redis-url", &engine.url()]);
    let mut grpc = server.grpc().await;
    let mut reader = server.reader().await;
    post(&mut grpc, "alice", "it is there").await;
    assert_eq!(reader.next().await.text, "it is there");
    engine.signal("STOP");
    // Shorter than the time after which the server itself reports `UNAVAILABLE`.
    let deadline = Duration::from_millis(300);
    let message = |text: &str| SendMessageRequest { author: "alice".to_owned(), text: text.to_owned() };
    let keyed = |deadline: Option<Duration>| {
        let mut request = Request::new(message("once"));
        request.metadata_mut().insert(IDEMPOTENCY_KEY, "a-key".parse().unwrap());
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        request
    };
    let status = soon("a status", grpc.send_message(keyed(Some(deadline)))).await.expect_err("the engine hangs");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("unknown") && !status.metadata().contains_key(NOT_ACCEPTED), "{status}");
    let mut open = Request::new(());
    open.set_timeout(deadline);
    let status = soon("a status", grpc.read_messages(open)).await.expect_err("the engine hangs");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");

    engine.signal("CONT");
    // Repeated with its key, the message is in the room once.
    let time = until("the engine", async || grpc.send_message(keyed(None)).await.ok()).await.into_inner().send_time;
    until("the engine", async || grpc.send_message(message("last")).await.ok()).await;
    let once = reader.next().await;
    assert_eq!((once.text.as_str(), Some(once.time)), ("once", time.map(|time| rfc3339(&time).to_string())));
    assert_eq!(reader.next().await.text, "last");
}
