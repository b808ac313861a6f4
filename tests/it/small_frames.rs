//! 30,000 texts of two bytes reach a reader that lags behind. HTTP/2 libraries end connections with
//! too many small DATA frames, so the server must not send them, and the client must not end its
//! own stream for them.

use std::time::Duration;

use crate::support;
use crate::support::program;
use crate::support::suite::tests_of_each_backend;
use crate::support::{Backend, client, post};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests_of_each_backend![a_lagging_reader_and_a_stopped_client_receive_everything]
}

const MESSAGES: usize = 30_000;

async fn a_lagging_reader_and_a_stopped_client_receive_everything(backend: Backend) {
    let server = backend.server(&[]);
    let mut lagging = server.reader().await;
    let near = client(server.address, &[]);
    near.ready().await;
    // A client process that is stopped by signals falls behind with the frames in its socket.
    let server_addr = server.address.to_string();
    let mut stopped =
        program::start(program::CLIENT, &[("MESSENGER_SERVER_ADDR", &server_addr), ("MESSENGER_HTTP_PORT", "0")]);
    let http = stopped.address("client listening").await;
    stopped.line("stream open").await;
    let first = lagging.next().await;
    assert_eq!(first.text, "are you there?");

    let mut sends = tokio::task::JoinSet::new();
    for sender in 0..4 {
        let mut grpc = server.grpc().await;
        sends.spawn(async move {
            for number in 0..MESSAGES / 4 {
                post(&mut grpc, &sender.to_string(), &format!("{:02}", number % 100)).await;
            }
        });
    }
    // Stop and continue it while the messages arrive.
    let mut stop = true;
    while !sends.is_empty() {
        stopped.signal(if stop { "STOP" } else { "CONT" });
        stop = !stop;
        let pause = tokio::time::sleep(Duration::from_millis(if stop { 20 } else { 300 }));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                done = sends.join_next() => if done.is_none() { break },
            }
        }
    }
    stopped.signal("CONT");

    let order = lagging.take(MESSAGES).await;
    support::assert_increasing(&order);
    assert_eq!(near.collect(MESSAGES).await, order, "the client that was never stopped");
    let mut got = Vec::new();
    support::until("all messages", async || {
        got.extend(support::http::flush(http).await);
        (got.len() >= MESSAGES).then_some(())
    })
    .await;
    assert_eq!(got, order, "the client that was stopped");
}
