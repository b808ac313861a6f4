//! A reader gets every message that is accepted after its headers, and none from before. The
//! headers come at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::suite::tests_of_each_backend;
use crate::support::{Backend, assert_increasing, post};
use libtest_mimic::Trial;
use tokio::sync::watch;

pub fn tests() -> Vec<Trial> {
    tests_of_each_backend![headers_arrive_before_any_message, late_readers_receive_an_unbroken_tail_of_the_order]
}

async fn headers_arrive_before_any_message(backend: Backend) {
    let server = backend.server(&[]);
    let mut grpc = server.grpc().await;
    post(&mut grpc, "alice", "before").await;
    // This returns with the headers, although no message is sent.
    let mut reader = server.reader().await;
    let time = post(&mut grpc, "alice", "after").await;
    let message = reader.next().await;
    assert_eq!((message.text.as_str(), &message.time), ("after", &time));
}

async fn late_readers_receive_an_unbroken_tail_of_the_order(backend: Backend) {
    const READERS: usize = 100;
    let server = backend.server(&[]);
    let mut first = server.reader().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (acknowledged, latest) = watch::channel(String::new());
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..4 {
        let (mut grpc, stop, acknowledged) = (server.grpc().await, Arc::clone(&stop), acknowledged.clone());
        senders.spawn(async move {
            let author = format!("sender {sender}");
            while !stop.load(Ordering::Relaxed) {
                let time = post(&mut grpc, &author, "hey").await;
                acknowledged.send_modify(|latest| *latest = time.max(latest.clone()));
            }
        });
    }

    let mut own = server.grpc().await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let older = latest.borrow().clone();
        let mut reader = server.reader().await;
        // Sent after the headers, so the reader must get it.
        let mark = post(&mut own, "test", "mark").await;
        let next = reader.next().await;
        assert!(next.time > older, "got {next:?}, acknowledged before the call was made");
        assert!(next.time <= mark, "got {next:?}, and missed what was sent at {mark} after the headers had come");
        readers.push((reader, next));
    }
    stop.store(true, Ordering::Relaxed);
    senders.join_all().await;
    let last = post(&mut server.grpc().await, "test", "last").await;

    let mut order = vec![first.next().await];
    while order.last().unwrap().time != last {
        order.push(first.next().await);
    }
    assert_increasing(&order);
    for (mut reader, next) in readers {
        let mut got = vec![next];
        while got.last().unwrap().time != last {
            got.push(reader.next().await);
        }
        assert_eq!(got, order[order.len() - got.len()..], "an end of the order, without a gap");
    }
}
