//! A reader resumes after a position, or begins when it began to wait. It gets everything since
//! then, once and in order, or is told of a gap.

use std::time::{Duration, Instant};

use crate::support::suite::{tests, tests_of_each_backend};
use crate::support::{Backend, Grpc, Message, Reader, assert_increasing, post, server, soon};
use libtest_mimic::Trial;
use messenger::proto::{EPOCH, POSITION, RESUME_AFTER, RESUMED, WAITING};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

pub fn tests() -> Vec<Trial> {
    let mut tests = tests_of_each_backend![
        every_position_resumes_with_exactly_the_rest,
        a_time_between_two_messages_is_a_position,
        a_position_of_another_epoch_is_a_gap,
        a_waiting_client_receives_messages_since_it_started,
        malformed_positions_are_refused,
        readers_that_are_cut_repeatedly_miss_nothing
    ];
    tests.extend(tests![a_position_that_is_no_longer_kept_is_a_gap]);
    tests
}

/// The response headers of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Headers {
    epoch: String,
    position: String,
    resumed: Option<String>,
}

impl From<&MetadataMap> for Headers {
    fn from(metadata: &MetadataMap) -> Self {
        let get = |name| metadata.get(name).map(|value| value.to_str().unwrap().to_owned());
        Self {
            epoch: get(EPOCH).expect("an epoch"),
            position: get(POSITION).expect("a position"),
            resumed: get(RESUMED),
        }
    }
}

async fn open(grpc: &mut Grpc, metadata: &[(&'static str, &str)]) -> Result<(Reader, Headers), Status> {
    let mut request = Request::new(());
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let response = soon("the headers", grpc.read_messages(request)).await?;
    let headers = response.metadata().into();
    Ok((Reader { stream: response.into_inner() }, headers))
}

async fn resume(grpc: &mut Grpc, epoch: &str, after: &str) -> (Reader, Headers) {
    open(grpc, &[(RESUME_AFTER, after), (EPOCH, epoch)]).await.expect("a stream")
}

async fn every_position_resumes_with_exactly_the_rest(backend: Backend) {
    let server = backend.server(&[]);
    let mut grpc = server.grpc().await;
    let (mut reader, Headers { epoch, position, resumed }) = open(&mut grpc, &[]).await.unwrap();
    assert_eq!(resumed, None, "without a position there is no answer to it");
    // Sizes that make segments end within and between messages, and some larger than a segment.
    let mut order = Vec::new();
    for number in 0..300 {
        let size = if number % 40 == 39 { 70_000 } else { number * 13 };
        post(&mut grpc, "alice", &format!("{number} {}", "x".repeat(size))).await;
        order.push(reader.next().await);
    }
    let mut positions = vec![position];
    positions.extend(order.iter().map(|message| message.time.clone()));
    for (had, after) in positions.iter().enumerate() {
        let (mut reader, headers) = resume(&mut grpc, &epoch, after).await;
        let expected = Headers { epoch: epoch.clone(), position: after.clone(), resumed: Some("true".to_owned()) };
        assert_eq!(headers, expected);
        assert_eq!(reader.take(order.len() - had).await, order[had..], "after {had} messages");
        if had == order.len() {
            let time = post(&mut grpc, "alice", "after the last").await;
            assert_eq!(reader.next().await.time, time);
        }
    }
}

async fn a_time_between_two_messages_is_a_position(backend: Backend) {
    let server = backend.server(&[]);
    let mut grpc = server.grpc().await;
    let (_, Headers { epoch, .. }) = open(&mut grpc, &[]).await.unwrap();
    let first = post(&mut grpc, "alice", "one").await;
    let second = post(&mut grpc, "alice", "two").await;
    let nanos: u32 = first[20..29].parse().unwrap();
    let (mut reader, headers) = resume(&mut grpc, &epoch, &format!("{}{:09}Z", &first[..20], nanos + 1)).await;
    assert_eq!(headers.resumed.as_deref(), Some("true"));
    assert_eq!(reader.next().await.time, second);
}

async fn a_position_that_is_no_longer_kept_is_a_gap() {
    let server = server(&["--retention-bytes", "8MiB"]);
    let mut grpc = server.grpc().await;
    let (mut reader, Headers { epoch, position, .. }) = open(&mut grpc, &[]).await.unwrap();
    let mut order = Vec::new();
    for number in 0..200 {
        post(&mut grpc, "alice", &"x".repeat(100_000 + number)).await;
        order.push(reader.next().await);
    }
    let long_ago: &[(&'static str, &str)] = &[(WAITING, "999999999999")];
    for metadata in [
        &[(RESUME_AFTER, &*position), (EPOCH, &*epoch)],
        &[(RESUME_AFTER, &*order[0].time), (EPOCH, &*epoch)],
        long_ago,
    ] {
        let (mut reader, headers) = open(&mut grpc, metadata).await.expect("a stream");
        assert_eq!(headers.resumed.as_deref(), Some("false"));
        let oldest = reader.next().await;
        let index = order.iter().position(|message| *message == oldest).expect("one of them");
        assert!(index > 100, "most messages are gone, {index}");
        assert_eq!(headers.position, order[index - 1].time, "everything after this time");
        assert_eq!(reader.take(order.len() - index - 1).await, order[index + 1..]);
        // After that position nothing is missing.
        let (mut reader, headers) = resume(&mut grpc, &epoch, &order[index - 1].time).await;
        assert_eq!((headers.resumed.as_deref(), reader.next().await), (Some("true"), oldest));
    }
}

async fn a_position_of_another_epoch_is_a_gap(backend: Backend) {
    let server = backend.server(&[]);
    let mut grpc = server.grpc().await;
    let time = post(&mut grpc, "alice", "hey").await;
    let (mut reader, headers) = resume(&mut grpc, "0123456789abcdef", "2125-09-20T10:58:42.665193557Z").await;
    assert_eq!(headers.resumed.as_deref(), Some("false"));
    assert_ne!(headers.epoch, "0123456789abcdef");
    assert!(headers.position < time);
    assert_eq!(reader.next().await.time, time, "everything in the room");
}

async fn a_waiting_client_receives_messages_since_it_started(backend: Backend) {
    let server = backend.server(&[]);
    let mut grpc = server.grpc().await;
    let (_, Headers { epoch, position, .. }) = open(&mut grpc, &[]).await.unwrap();
    let before = post(&mut grpc, "alice", "before").await;
    // More than the rounding of the waiting time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    let first = post(&mut grpc, "alice", "first").await;
    // The first call tells how long the client has been waiting.
    let mut late = server.grpc().await;
    let waited = (begun.elapsed().as_millis() + 1).to_string();
    let (mut reader, headers) = open(&mut late, &[(WAITING, &waited)]).await.unwrap();
    assert_eq!((headers.resumed.as_deref(), &headers.epoch), (Some("true"), &epoch));
    assert!(before <= headers.position && headers.position < first, "{headers:?}");
    assert_eq!(reader.next().await.time, first);
    let last = post(&mut grpc, "alice", "last").await;
    assert_eq!(reader.next().await.time, last);
    // Longer than the epoch: everything from its beginning.
    let (mut reader, headers) = open(&mut grpc, &[(WAITING, "999999999999")]).await.unwrap();
    assert_eq!((headers.resumed.as_deref(), headers.position), (Some("true"), position));
    let times: Vec<_> = reader.take(3).await.into_iter().map(|message| message.time).collect();
    assert_eq!(times, [before, first, last.clone()]);
    // No waiting time: nothing from before.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let (mut reader, headers) = open(&mut grpc, &[(WAITING, "0")]).await.unwrap();
    assert_eq!((headers.resumed.as_deref(), headers.position), (Some("true"), last));
    let next = post(&mut grpc, "alice", "next").await;
    assert_eq!(reader.next().await.time, next);
}

async fn malformed_positions_are_refused(backend: Backend) {
    let server = backend.server(&[]);
    let mut grpc = server.grpc().await;
    let (_, Headers { epoch, position, .. }) = open(&mut grpc, &[]).await.unwrap();
    let cases: [(&[(&'static str, &str)], &str); 12] = [
        (&[(RESUME_AFTER, &position)], "messenger-resume-after needs messenger-epoch"),
        (&[(RESUME_AFTER, "yesterday"), (EPOCH, &epoch)], "messenger-resume-after is \"yesterday\""),
        (&[(RESUME_AFTER, ""), (EPOCH, &epoch)], "messenger-resume-after is \"\""),
        (&[(RESUME_AFTER, &position), (EPOCH, "one")], "messenger-epoch is \"one\""),
        (&[(EPOCH, "one")], "messenger-epoch is \"one\""),
        (&[(WAITING, "")], "messenger-waiting-ms must be milliseconds in decimal digits, at most 999999999999"),
        (&[(WAITING, "soon")], "messenger-waiting-ms must be"),
        (&[(WAITING, "-1")], "messenger-waiting-ms must be"),
        (&[(WAITING, "+1")], "messenger-waiting-ms must be"),
        (&[(WAITING, "1000000000000")], "messenger-waiting-ms must be"),
        (&[(WAITING, "1"), (RESUME_AFTER, &position), (EPOCH, &epoch)], "both say where the stream begins"),
        (&[(RESUME_AFTER, "2125-09-20T10:58:42.665193557Z"), (EPOCH, &epoch)], "no message with that time yet"),
    ];
    for (metadata, message) in cases {
        let status = open(&mut grpc, metadata).await.expect_err(message);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(message), "{status}");
    }
}

async fn readers_that_are_cut_repeatedly_miss_nothing(backend: Backend) {
    const MESSAGES: usize = 3_000;
    let server = backend.server(&[]);
    let mut watch = server.reader().await;
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..6 {
        let mut grpc = server.grpc().await;
        let mut random = fastrand::Rng::with_seed(reader);
        let (mut stream, Headers { epoch, mut position, .. }) = open(&mut grpc, &[]).await.unwrap();
        readers.spawn(async move {
            let mut got: Vec<Message> = Vec::new();
            while got.len() < MESSAGES {
                // Often zero.
                let count = random.usize(..12).min(MESSAGES - got.len());
                for message in stream.take(count).await {
                    position.clone_from(&message.time);
                    got.push(message);
                }
                let headers;
                (stream, headers) = resume(&mut grpc, &epoch, &position).await;
                assert_eq!(headers.resumed.as_deref(), Some("true"));
            }
            got
        });
    }
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..3 {
        let mut grpc = server.grpc().await;
        senders.spawn(async move {
            for number in 0..MESSAGES / 3 {
                post(&mut grpc, &sender.to_string(), &number.to_string()).await;
            }
        });
    }
    senders.join_all().await;
    let order = watch.take(MESSAGES).await;
    assert_increasing(&order);
    for got in readers.join_all().await {
        assert_eq!(got, order);
    }
}
