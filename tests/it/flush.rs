//! Each message is in exactly one answer of `POST /getAndFlushMessages`, in chat order, with any
//! number of concurrent flushes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support;
use crate::support::suite::tests_of_each_backend;
use crate::support::{Backend, assert_increasing, client, post};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests_of_each_backend![an_empty_buffer_is_an_empty_array, each_message_is_in_exactly_one_of_many_concurrent_flushes]
}

async fn an_empty_buffer_is_an_empty_array(backend: Backend) {
    let server = backend.server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    let answer = support::http::post(client.address, "/getAndFlushMessages", "").await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"[]"[..]));
    assert_eq!(answer.headers["content-type"], "application/json");
    // A body is ignored.
    let answer = support::http::post(client.address, "/getAndFlushMessages", "{\"anything").await;
    assert_eq!(&answer.body[..], b"[]");
}

async fn each_message_is_in_exactly_one_of_many_concurrent_flushes(backend: Backend) {
    const MESSAGES: usize = 1_000;
    let server = backend.server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    let done = Arc::new(AtomicBool::new(false));
    let mut flushes = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (address, done) = (client.address, Arc::clone(&done));
        flushes.spawn(async move {
            let mut answers = Vec::new();
            while !done.load(Ordering::Relaxed) {
                answers.push(support::http::flush(address).await);
            }
            answers
        });
    }
    let mut watch = server.reader().await;
    let mut grpc = server.grpc().await;
    for number in 0..MESSAGES {
        post(&mut grpc, "alice", &number.to_string()).await;
    }
    let sent = watch.take(MESSAGES).await;
    // When the last message is in an answer or in the postbox, the client has received all of them.
    let last = client.send("alice", "last").await;
    let mut rest = Vec::new();
    done.store(true, Ordering::Relaxed);
    let answers: Vec<Vec<_>> = flushes.join_all().await.into_iter().flatten().collect();
    let seen = answers.iter().flatten().any(|message| message.time == last);
    support::until("the last message", async || {
        rest.extend(client.flush().await);
        (seen || rest.last().is_some_and(|message: &support::Message| message.time == last)).then_some(())
    })
    .await;

    for answer in answers.iter().chain([&rest]) {
        assert_increasing(answer);
    }
    let all: Vec<_> = answers.into_iter().flatten().chain(rest).collect();
    let distinct: HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "no message twice");
    assert_eq!(all.len(), MESSAGES + 1, "no message lost");
    assert!(sent.iter().all(|message| distinct.contains(message)));
}
