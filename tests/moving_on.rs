//! A client that knows several servers of a room moves on to another when its own is gone: its users miss nothing, and nothing is there
//! twice.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::program::{self, CLIENT, Program, SERVER};
use support::redis::Engine;
use support::{assert_increasing, http, server, until};

async fn server_of(engine: &Engine, port: u16) -> Program {
    let (url, port) = (engine.url(), port.to_string());
    let mut server = program::start(SERVER, &[("MESSENGER_REDIS_URL", &url), ("MESSENGER_SERVER_PORT", &port)]);
    server.line("server listening").await;
    server
}

async fn client_of(servers: &str) -> (Program, SocketAddr) {
    let mut client = program::start(CLIENT, &[("MESSENGER_SERVER_ADDR", servers), ("MESSENGER_HTTP_PORT", "0")]);
    let address = client.address("client listening").await;
    (client, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_killed_in_turn_and_the_chat_goes_on() {
    const KILLS: usize = 6;
    let Some(engine) = Engine::start(&[]) else { return };
    let ports = [support::fixed_port(), support::fixed_port(), support::fixed_port()];
    let mut servers = Vec::new();
    for port in ports {
        servers.push(server_of(&engine, port).await);
    }
    let mut clients = Vec::new();
    for first in 0..ports.len() {
        // Each begins with another one.
        let order: Vec<String> = (0..ports.len()).map(|i| format!("127.0.0.1:{}", ports[(first + i) % 3])).collect();
        clients.push(client_of(&order.join(",")).await);
    }
    for (client, _) in &mut clients {
        client.line("stream open").await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = tokio::task::JoinSet::new();
    for (sender, (_, address)) in clients.iter().enumerate() {
        let (address, stop) = (*address, Arc::clone(&stop));
        senders.spawn(async move {
            let mut sent = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                sent.push(http::send(address, &sender.to_string(), &sent.len().to_string()).await);
            }
            sent
        });
    }
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let victim = kill % ports.len();
        servers[victim].signal("KILL");
        servers[victim].exit().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        servers[victim] = server_of(&engine, ports[victim]).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut sent: Vec<String> = senders.join_all().await.into_iter().flatten().collect();
    sent.sort();
    for (_, address) in &clients {
        let mut got = Vec::new();
        until("all messages", async || {
            let answer = http::post(*address, "/getAndFlushMessages", "").await;
            assert!(!answer.headers.contains_key("messenger-gaps"), "{:?}", answer.headers);
            for message in answer.json().as_array().unwrap() {
                got.push(message["sendTime"].as_str().unwrap().to_owned());
            }
            (got.len() >= sent.len()).then_some(())
        })
        .await;
        assert!(got.is_sorted());
        assert_eq!(got, sent, "no gap and no repeat");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_one_is_found_at_once_among_those_that_are_not_there() {
    let server = server(&[]);
    let (mut client, address) =
        client_of(&format!("127.0.0.1:1,no-such-host.invalid:2,{},127.0.0.1:3", server.address)).await;
    client.line("stream open").await;
    let time = http::send(address, "alice", "hey").await;
    let got = until("the message", async || http::flush(address).await.into_iter().next()).await;
    assert_eq!(got.time, time);
    assert_increasing(&[got]);
}
