//! With a thousand readers and four senders at full speed, every reader gets every message once and
//! in one order.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::support;
use crate::support::suite::tests_of_each_backend;
use crate::support::{Backend, Message, post, reader};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests_of_each_backend![a_thousand_readers_receive_every_message]
}

const READERS: usize = 1_000;
/// Half of the readers share connections with this many streams, more than HTTP/2 libraries allow
/// by default.
const PER_CONNECTION: usize = 250;
const SENDERS: usize = 4;
const EACH: usize = 100;

async fn a_thousand_readers_receive_every_message(backend: Backend) {
    messenger::process::raise_file_limit();
    let server = backend.server(&[]);
    let mut streams = Vec::new();
    for _ in 0..READERS / 2 {
        streams.push(server.reader().await);
    }
    for _ in 0..READERS / 2 / PER_CONNECTION {
        let mut grpc = server.grpc().await;
        for _ in 0..PER_CONNECTION {
            streams.push(reader(&mut grpc).await);
        }
    }
    let mut readers = tokio::task::JoinSet::new();
    for mut stream in streams {
        readers.spawn(async move {
            // A hash instead of all messages saves memory.
            let mut seen = DefaultHasher::new();
            let mut last = String::new();
            for _ in 0..SENDERS * EACH {
                let message = stream.next().await;
                assert!(message.time > last);
                message.hash(&mut seen);
                last = message.time;
            }
            seen.finish()
        });
    }
    let mut watch = server.reader().await;
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        // As many calls at once as a connection takes.
        let grpc = server.grpc().await;
        for number in 0..EACH {
            let mut grpc = grpc.clone();
            senders.spawn(async move { post(&mut grpc, &format!("sender {sender}"), &number.to_string()).await });
        }
    }
    senders.join_all().await;
    let order: Vec<Message> = watch.take(SENDERS * EACH).await;
    support::assert_increasing(&order);
    let mut expected = DefaultHasher::new();
    for message in &order {
        message.hash(&mut expected);
    }
    let seen = readers.join_all().await;
    assert_eq!(seen.len(), READERS);
    assert!(seen.iter().all(|seen| *seen == expected.finish()), "all readers got the same messages");
}
