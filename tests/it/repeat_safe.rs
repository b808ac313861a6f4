//! A send that is repeated with its idempotency key is in the room once, and every answer is the
//! same.

use crate::support::suite::{tests, tests_of_each_backend};
use crate::support::{Backend, Grpc, post, server};
use libtest_mimic::Trial;
use messenger::proto::{EPOCH, IDEMPOTENCY_KEY, NOT_ACCEPTED, SendMessageRequest};
use messenger::send_time::rfc3339;
use tonic::{Code, Request, Status};

pub fn tests() -> Vec<Trial> {
    let mut tests = tests_of_each_backend![
        a_repeated_send_is_accepted_once,
        concurrent_sends_with_one_key_are_accepted_once,
        a_key_with_another_text_is_refused,
        malformed_keys_are_refused,
        a_key_of_another_epoch_is_refused
    ];
    tests.extend(tests![a_full_table_refuses_new_keys]);
    tests
}

async fn send(grpc: &mut Grpc, text: &str, metadata: &[(&'static str, &str)]) -> Result<String, Status> {
    let mut request = Request::new(SendMessageRequest { author: "alice".to_owned(), text: text.to_owned() });
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let answer = grpc.send_message(request).await?.into_inner();
    Ok(rfc3339(&answer.send_time.expect("a time")).to_string())
}

async fn a_repeated_send_is_accepted_once(backend: Backend) {
    let server = backend.server(&[]);
    let (mut grpc, mut reader) = (server.grpc().await, server.reader().await);
    let time = send(&mut grpc, "hey", &[(IDEMPOTENCY_KEY, "k1")]).await.unwrap();
    for _ in 0..5 {
        assert_eq!(send(&mut server.grpc().await, "hey", &[(IDEMPOTENCY_KEY, "k1")]).await.unwrap(), time);
    }
    let other = send(&mut grpc, "hey", &[(IDEMPOTENCY_KEY, "k2")]).await.unwrap();
    let without = post(&mut grpc, "alice", "hey").await;
    assert_eq!(
        reader.take(3).await.into_iter().map(|message| message.time).collect::<Vec<_>>(),
        [time, other, without]
    );
}

async fn concurrent_sends_with_one_key_are_accepted_once(backend: Backend) {
    let server = backend.server(&[]);
    let mut reader = server.reader().await;
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(server.grpc().await);
    }
    for round in 0..200 {
        let key = format!("round-{round}");
        let mut sends = tokio::task::JoinSet::new();
        for mut grpc in connections.iter().cloned() {
            let key = key.clone();
            sends.spawn(async move { send(&mut grpc, &key, &[(IDEMPOTENCY_KEY, &key)]).await.unwrap() });
        }
        let times = sends.join_all().await;
        let message = reader.next().await;
        assert!(message.text == key && times.iter().all(|time| *time == message.time), "{message:?} {times:?}");
    }
}

async fn a_key_with_another_text_is_refused(backend: Backend) {
    let server = backend.server(&[]);
    let (mut grpc, mut reader) = (server.grpc().await, server.reader().await);
    let time = send(&mut grpc, "hey", &[(IDEMPOTENCY_KEY, "k")]).await.unwrap();
    let status = send(&mut grpc, "ho", &[(IDEMPOTENCY_KEY, "k")]).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status}");
    let last = post(&mut grpc, "alice", "the end").await;
    assert_eq!(reader.take(2).await.into_iter().map(|message| message.time).collect::<Vec<_>>(), [time, last]);
}

async fn malformed_keys_are_refused(backend: Backend) {
    let server = backend.server(&[]);
    let (mut grpc, mut reader) = (server.grpc().await, server.reader().await);
    let long = "k".repeat(129);
    for key in ["", "two words", &long] {
        let status = send(&mut grpc, "hey", &[(IDEMPOTENCY_KEY, key)]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains("idempotency-key must be 1 to 128"), "{status}");
    }
    let time = send(&mut grpc, "hey", &[(IDEMPOTENCY_KEY, &long[1..])]).await.unwrap();
    assert_eq!(reader.next().await.time, time, "the first message of the room");
}

async fn a_key_of_another_epoch_is_refused(backend: Backend) {
    let server = backend.server(&[]);
    let (mut grpc, mut reader) = (server.grpc().await, server.reader().await);
    let key = (IDEMPOTENCY_KEY, "k");
    let status = send(&mut grpc, "hey", &[key, (EPOCH, "0123456789abcdef")]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert_eq!(send(&mut grpc, "hey", &[key, (EPOCH, "x")]).await.unwrap_err().code(), Code::InvalidArgument);
    let headers = grpc.read_messages(()).await.unwrap();
    let epoch = headers.metadata().get(EPOCH).unwrap().to_str().unwrap();
    let time = send(&mut grpc, "hey", &[key, (EPOCH, epoch)]).await.unwrap();
    assert_eq!(reader.next().await.time, time, "the first message of the room");
}

async fn a_full_table_refuses_new_keys() {
    let server = server(&["--idempotency-keys", "1000"]);
    let mut grpc = server.grpc().await;
    let first = send(&mut grpc, "hey", &[(IDEMPOTENCY_KEY, "0")]).await.unwrap();
    for number in 1..1000 {
        send(&mut grpc, "hey", &[(IDEMPOTENCY_KEY, &number.to_string())]).await.unwrap();
    }
    let status = send(&mut grpc, "hey", &[(IDEMPOTENCY_KEY, "1000")]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.metadata().contains_key(NOT_ACCEPTED), "may be repeated");
    assert_eq!(send(&mut grpc, "hey", &[(IDEMPOTENCY_KEY, "0")]).await.unwrap(), first, "no key is forgotten");
    post(&mut grpc, "alice", "without a key").await;
}
