//! Server and clients may start in any order, and the first message sent through a client is in that client's own buffer within
//! 0.1 s of the answer.

mod support;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use support::{client, http, server, server_on};

/// The bound of the contract. It is about what the client waits for, not about speed: without the wait a message is missed for good.
const OWN_BUFFER: Duration = Duration::from_millis(100);

async fn first_send_comes_back(client: &support::Running, what: &str) {
    let time = client.send("alice", what).await;
    let answered = Instant::now();
    let mut seen = Vec::new();
    while seen.is_empty() {
        assert!(answered.elapsed() < OWN_BUFFER, "{what}: not in the buffer after {OWN_BUFFER:?}");
        seen = client.flush().await;
    }
    assert_eq!(seen[0].time, time, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_first() {
    for round in 0..20 {
        let server = server(&[]);
        let client = client(server.address, &[]);
        first_send_comes_back(&client, &format!("server first, {round}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_first_with_a_send_already_waiting() {
    for round in 0..5 {
        let address = (Ipv4Addr::LOCALHOST, support::fixed_port()).into();
        let client = client(address, &[]);
        assert!(client.flush().await.is_empty(), "HTTP answers before the server is there");
        let send = tokio::spawn(async move { http::send(client.address, "alice", "waits").await });
        // From at once to after several tries.
        tokio::time::sleep(Duration::from_millis(60 * round)).await;
        let _server = server_on(support::listen(address.port()), &[]);
        let time = send.await.unwrap();
        let answered = Instant::now();
        let mut seen = Vec::new();
        while seen.is_empty() {
            assert!(answered.elapsed() < OWN_BUFFER, "round {round}: not in the buffer after {OWN_BUFFER:?}");
            seen = http::flush(client.address).await;
        }
        assert_eq!(seen[0].time, time);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once() {
    let server = server(&[]);
    let mut starts = tokio::task::JoinSet::new();
    for number in 0..20 {
        let client = client(server.address, &[]);
        starts.spawn(async move {
            let time = client.send("alice", &number.to_string()).await;
            let mut seen = Vec::new();
            while !seen.iter().any(|message: &support::Message| message.time == time) {
                seen.extend(client.flush().await);
            }
        });
    }
    support::soon("every client's own message", starts.join_all()).await;
}
