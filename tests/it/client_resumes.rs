//! A client resumes a stream that was cut, so its users miss nothing. Where it cannot, it reports a
//! gap.

use crate::support;
use crate::support::proxy::{Mode, proxy};
use crate::support::suite::tests_of_each_backend;
use crate::support::{Backend, client, http, listen, post, until};
use ::http::Method;
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests_of_each_backend![
        a_cut_connection_loses_nothing,
        a_client_that_was_cut_before_its_first_message_misses_nothing,
        a_new_room_is_one_gap_in_the_header_and_none_in_the_body,
        an_idempotency_key_works_over_http
    ]
}

async fn a_cut_connection_loses_nothing(backend: Backend) {
    let server = backend.server(&[]);
    let proxy = proxy(server.address);
    let client = client(proxy.address, &[]);
    client.ready().await;
    client.flush().await;
    let mut grpc = server.grpc().await;
    let mut order = Vec::new();
    for round in 0..10 {
        for number in 0..20 {
            order.push(post(&mut grpc, "alice", &format!("{round}/{number}")).await);
            // Messages are sent before the cut, without a stream, and after it.
            if number == round {
                proxy.set(Mode::Cut);
            }
            if number == round + 5 {
                proxy.set(Mode::Pass);
            }
        }
    }
    let mut got = Vec::new();
    until("all messages", async || {
        let answer = http::post(client.address, "/getAndFlushMessages", "").await;
        assert!(!answer.headers.contains_key("messenger-gaps"), "{:?}", answer.headers);
        for message in answer.json().as_array().unwrap() {
            got.push(message["sendTime"].as_str().unwrap().to_owned());
        }
        (got.len() >= order.len()).then_some(())
    })
    .await;
    assert_eq!(got, order);
}

async fn a_client_that_was_cut_before_its_first_message_misses_nothing(backend: Backend) {
    let server = backend.server(&[]);
    let proxy = proxy(server.address);
    let client = client(proxy.address, &[]);
    // A refused send shows that the stream is open, and leaves no message.
    let refused = "x".repeat(5 * 1024 * 1024);
    assert_eq!(http::try_send(client.address, "alice", &refused).await.status, 413);
    proxy.set(Mode::Cut);
    let time = post(&mut server.grpc().await, "alice", "while nobody listens").await;
    proxy.set(Mode::Pass);
    assert_eq!(client.collect(1).await[0].time, time);
}

async fn a_new_room_is_one_gap_in_the_header_and_none_in_the_body(backend: Backend) {
    let port = support::fixed_port();
    let first = backend.server_on(listen(port), &[]);
    let client = client(first.address, &["--send-deadline", "10s"]);
    client.ready().await;
    client.flush().await;
    first.stop().await;
    let second = backend.server_on(listen(port), &[]);
    // Accepted before the client finds the new server.
    let early = post(&mut second.grpc().await, "alice", "early").await;
    let late = client.send("alice", "late").await;
    let mut gaps = 0;
    let mut got = Vec::new();
    until("both messages", async || {
        let answer = http::post(client.address, "/getAndFlushMessages", "").await;
        gaps += answer.headers.get("messenger-gaps").map_or(0, |gaps| gaps.to_str().unwrap().parse().unwrap());
        got.extend(
            answer.json().as_array().unwrap().iter().map(|message| message["sendTime"].as_str().unwrap().to_owned()),
        );
        (got.len() >= 2).then_some(())
    })
    .await;
    assert_eq!((got, gaps), (vec![early, late], 1));
}

async fn an_idempotency_key_works_over_http(backend: Backend) {
    let server = backend.server(&[]);
    let (one, other) = (client(server.address, &[]), client(server.address, &[]));
    let send = async |client: &support::Running, text: &str, key: &str| {
        let body = serde_json::json!({"author": "alice", "text": text}).to_string();
        http::call(client.address, Method::POST, "/sendMessage", &[("idempotency-key", key)], body).await
    };
    let time = send(&one, "hey", "k").await.json()["sendTime"].clone();
    assert_eq!(send(&other, "hey", "k").await.json()["sendTime"], time);
    let taken = send(&one, "ho", "k").await;
    assert_eq!(taken.status, 409);
    assert!(taken.problem().contains("idempotency key"), "{}", taken.problem());
    for key in ["", "two words", &"k".repeat(129)] {
        let bad = send(&one, "hey", key).await;
        assert_eq!(bad.status, 400, "{key:?}");
        assert!(bad.problem().contains("Idempotency-Key"), "{}", bad.problem());
    }
    one.send("alice", "the end").await;
    let texts: Vec<_> = one.collect(2).await.into_iter().map(|message| message.text).collect();
    assert_eq!(texts, ["hey", "the end"]);
}
