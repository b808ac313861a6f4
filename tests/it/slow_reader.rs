//! A reader that stops reading delays nobody and takes no memory. It gets all messages late, or its
//! stream ends with a status.

use crate::support::suite::tests_of_each_backend;
use crate::support::{Backend, Message, assert_increasing, grpc, post, reader};
use futures_util::future::join_all;
use libtest_mimic::Trial;
use tonic::Code;

pub fn tests() -> Vec<Trial> {
    tests_of_each_backend![
        a_stopped_reader_delays_nobody_and_is_told,
        a_slow_reader_within_the_retention_receives_everything
    ]
}

const MIB: usize = 1024 * 1024;
const RETENTION: usize = 8 * MIB;
const TEXT: usize = 4 * 1024;
/// Four times the retention.
const MESSAGES: usize = 4 * RETENTION / TEXT;
const ROUND: usize = 256;

async fn a_stopped_reader_delays_nobody_and_is_told(backend: Backend) {
    let (server, address) = backend.program(&[("MESSENGER_RETENTION_BYTES", "8MiB")]).await;
    let stopped = reader(&mut grpc(address).await).await;
    let (mut nine, mut senders) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        nine.push(reader(&mut grpc(address).await).await);
    }
    for _ in 0..4 {
        senders.push(grpc(address).await);
    }
    let before = server.resident();

    let mut order: Vec<Message> = Vec::new();
    // In rounds far below the retention, because readers may be slower than senders on a busy
    // machine.
    for round in 0..MESSAGES / ROUND {
        let sends = senders.iter_mut().enumerate().map(|(sender, grpc)| async move {
            for number in round * ROUND / 4..(round + 1) * ROUND / 4 {
                post(grpc, &format!("sender {sender}"), &format!("{number:0>TEXT$}")).await;
            }
        });
        join_all(sends).await;
        let orders = join_all(nine.iter_mut().map(|reader| reader.take(ROUND))).await;
        assert!(orders.iter().all(|other| *other == orders[0]), "nine readers, one order");
        order.extend_from_slice(&orders[0]);
    }
    assert_increasing(&order);

    // The retention, and the messages on their way to each reader. Far less than was sent.
    let grown = server.peak().saturating_sub(before);
    assert!(grown < RETENTION + 12 * MIB, "grew by {grown} bytes while {} were sent", MESSAGES * TEXT);

    // The stopped reader gets the messages on their way, without a gap, and then a reset.
    // `foreign.rs` tests how a gRPC library reports the reset.
    let (got, status) = stopped.rest().await;
    let status = status.expect("not a clean end");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(got.len() < MESSAGES);
    assert_eq!(got, order[..got.len()], "a beginning of the order");
}

async fn a_slow_reader_within_the_retention_receives_everything(backend: Backend) {
    let (_server, address) = backend.program(&[]).await;
    let mut late = reader(&mut grpc(address).await).await;
    let mut watch = reader(&mut grpc(address).await).await;
    let mut sender = grpc(address).await;
    // 16 MiB are more than any window, and less than the retention of 64 MiB.
    for number in 0..16 * MIB / TEXT {
        post(&mut sender, "alice", &format!("{number:0>TEXT$}")).await;
    }
    let order = watch.take(16 * MIB / TEXT).await;
    assert_eq!(late.take(order.len()).await, order);
}
