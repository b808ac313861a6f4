//! While an engine hangs, a bounded number of bytes waits for it: what comes then is refused, surely not in the room, and at once.
//!
//! Needs redis-server, as `many_servers.rs` does.

mod support;

use messenger::proto::{NOT_ACCEPTED, SendMessageRequest};
use support::redis::Engine;
use support::{post, server, soon, until};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_the_rest_is_in_the_room_once() {
    /// Of a megabyte each; 64 MiB may wait.
    const SENDS: usize = 100;
    let Some(engine) = Engine::start(&[]) else { return };
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
        if status.message().contains("too many messages wait") {
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
    // Nothing that was refused; and whatever was with the engine already, if it took it.
    let length = engine.run::<usize>(&["XLEN", "{messenger}:stream"]);
    assert!((2..=2 + unknown).contains(&length), "{length} with {unknown} of unknown fate");
}
