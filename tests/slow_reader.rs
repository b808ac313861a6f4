//! A reader that stops reading slows nobody down, does not grow the server's memory, and is told what happened: it gets all, or its
//! stream ends with a status.

mod support;

use support::program;
use support::{Message, assert_increasing, grpc, post, reader};
use tonic::Code;

const MIB: usize = 1024 * 1024;
const RETENTION: usize = 8 * MIB;
const TEXT: usize = 4 * 1024;
/// Four times what is kept.
const MESSAGES: usize = 4 * RETENTION / TEXT;

#[tokio::test(flavor = "multi_thread")]
async fn one_of_ten_stops() {
    let (server, address) = program::server(&[("MESSENGER_RETENTION_BYTES", "8MiB")]).await;
    let stopped = reader(&mut grpc(address).await).await;
    let mut nine = tokio::task::JoinSet::new();
    for _ in 0..9 {
        let mut reader = reader(&mut grpc(address).await).await;
        nine.spawn(async move { reader.take(MESSAGES).await });
    }
    let before = server.resident();

    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..4 {
        let mut grpc = grpc(address).await;
        senders.spawn(async move {
            for number in 0..MESSAGES / 4 {
                let text = format!("{number:0>TEXT$}");
                post(&mut grpc, &format!("sender {sender}"), &text).await;
            }
        });
    }
    senders.join_all().await;
    let order: Vec<Vec<Message>> = nine.join_all().await;
    assert_increasing(&order[0]);
    assert!(order.iter().all(|other| *other == order[0]), "nine readers, one order");

    // The kept messages, and per reader what is under way to it. Far less than what was sent, or than a queue for the one.
    let grown = server.peak().saturating_sub(before);
    assert!(grown < RETENTION + 12 * MIB, "grew by {grown} bytes while {} were sent", MESSAGES * TEXT);

    // When it reads again it gets what was on its way (the start of the order, without a gap), and then the reason: a reset, because it
    // took nothing. `tests/foreign.rs` has what a gRPC library makes of it.
    let (got, status) = stopped.rest().await;
    let status = status.expect("not a clean end");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(got.len() < MESSAGES);
    assert_eq!(got, order[0][..got.len()], "a beginning of the order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_within_the_retention_gets_everything_late() {
    let (_server, address) = program::server(&[]).await;
    let mut late = reader(&mut grpc(address).await).await;
    let mut watch = reader(&mut grpc(address).await).await;
    let mut sender = grpc(address).await;
    // 16 MiB: more than any window, less than the 64 MiB that are kept.
    for number in 0..16 * MIB / TEXT {
        post(&mut sender, "alice", &format!("{number:0>TEXT$}")).await;
    }
    let order = watch.take(16 * MIB / TEXT).await;
    assert_eq!(late.take(order.len()).await, order);
}
