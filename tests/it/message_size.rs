//! A message that the gRPC library of a reader would refuse (more than 4 MiB encoded) is refused.
//! The largest accepted message reaches every reader.

use crate::support::suite::tests_of_each_backend;
use crate::support::{Backend, client, http, post};
use libtest_mimic::Trial;
use messenger::proto::SendMessageRequest;
use tonic::Code;

pub fn tests() -> Vec<Trial> {
    tests_of_each_backend![
        the_largest_message_reaches_readers_with_default_limits,
        all_sizes_above_the_limit_get_one_status,
        over_http_the_status_is_413_and_names_the_limit
    ]
}

const LIMIT: usize = 4 * 1024 * 1024;

async fn the_largest_message_reaches_readers_with_default_limits(backend: Backend) {
    let server = backend.server(&[]);
    let mut grpc = server.grpc().await;
    // With the usual limit of 4 MiB, which is the default of tonic too.
    let mut reader = server.reader().await;
    let client = client(server.address, &[]);
    client.ready().await;
    reader.next().await;

    // Bisect for the last accepted length and the first refused one.
    let (mut accepted, mut refused) = (LIMIT - 100, LIMIT);
    while refused - accepted > 1 {
        let middle = accepted.midpoint(refused);
        let request = SendMessageRequest { author: "alice".to_owned(), text: "x".repeat(middle) };
        match grpc.send_message(request).await {
            Ok(_) => {
                accepted = middle;
                assert_eq!(reader.next().await.text.len(), middle);
            }
            Err(status) => {
                refused = middle;
                assert_eq!(status.code(), Code::ResourceExhausted);
                assert!(status.message().contains("author and text are too long"), "{status}");
                assert!(status.message().contains("4194304"), "{status}");
            }
        }
    }
    assert!(accepted > LIMIT - 50, "little is lost: {accepted}");
    client.flush().await;
    post(&mut grpc, "alice", "still here").await;
    assert_eq!(reader.next().await.text, "still here", "refused messages changed nothing");
}

async fn all_sizes_above_the_limit_get_one_status(backend: Backend) {
    let server = backend.server(&[]);
    let mut grpc = server.grpc().await;
    for size in [LIMIT, LIMIT + 1, 2 * LIMIT, 20 * LIMIT] {
        let request = SendMessageRequest { author: String::new(), text: "x".repeat(size) };
        let status = grpc.send_message(request).await.expect_err("too large");
        assert_eq!(status.code(), Code::ResourceExhausted, "{size}: {status}");
        assert!(status.message().contains("author and text are too long"), "{status}");
    }
}

async fn over_http_the_status_is_413_and_names_the_limit(backend: Backend) {
    let server = backend.server(&["--max-message-bytes", "1MiB"]);
    let client = client(server.address, &[]);
    client.ready().await;
    let answer = http::try_send(client.address, "alice", &"x".repeat(LIMIT / 4)).await;
    assert_eq!(answer.status, 413);
    assert!(answer.problem().contains("the limit is 1048576"), "{}", answer.problem());
    let answer = http::try_send(client.address, "alice", &"x".repeat(3 * LIMIT)).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.problem(), "the body is larger than 8388608 bytes");
    assert!(client.flush().await.is_empty(), "nothing was sent");
}
