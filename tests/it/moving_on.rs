//! A client with several servers of a room moves to another when its own is gone, without a gap or
//! a repeat. It tries every address of a name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support;
use crate::support::program::{self, CLIENT, Program, SERVER};
use crate::support::redis::Engine;
use crate::support::space::{Hosts, Space};
use crate::support::suite::tests;
use crate::support::{assert_increasing, http, server, until};
use libtest_mimic::Trial;
use messenger::net;
use tokio::io::AsyncWriteExt;

pub fn tests() -> Vec<Trial> {
    tests![
        clients_move_to_the_next_server_without_a_gap_or_a_repeat,
        unreachable_servers_are_skipped_at_once,
        every_address_of_a_name_is_tried,
        a_hanging_resolver_does_not_delay_the_second_server
    ]
}

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

async fn clients_move_to_the_next_server_without_a_gap_or_a_repeat() {
    const KILLS: usize = 6;
    let engine = Engine::start(&[]);
    let ports = [support::fixed_port(), support::fixed_port(), support::fixed_port()];
    let mut servers = Vec::new();
    for port in ports {
        servers.push(server_of(&engine, port).await);
    }
    let mut clients = Vec::new();
    for first in 0..ports.len() {
        // Each client begins with another server.
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

async fn unreachable_servers_are_skipped_at_once() {
    let server = server(&[]);
    let (mut client, address) =
        client_of(&format!("127.0.0.1:1,no-such-host.invalid:2,{},127.0.0.1:3", server.address)).await;
    client.line("stream open").await;
    let time = http::send(address, "alice", "hey").await;
    let got = until("the message", async || http::flush(address).await.into_iter().next()).await;
    assert_eq!(got.time, time);
    assert_increasing(&[got]);
}

/// A listener that is no server, at one address of a name.
#[derive(Debug, Clone, Copy)]
enum Bad {
    Closes,
    AnswersHttp1,
    Hangs,
}

fn listen_badly(address: SocketAddr, bad: Bad) {
    let listener = net::listen(address).expect("a port");
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            match bad {
                Bad::Closes => {}
                Bad::AnswersHttp1 => {
                    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
                }
                Bad::Hangs => held.push(stream),
            }
        }
    });
}

async fn every_address_of_a_name_is_tried() {
    // In one of the two cases the bad address is the first.
    let hosts = Hosts::new("127.0.0.1 two\n127.0.0.2 two\n");
    for bad in [Bad::Closes, Bad::AnswersHttp1, Bad::Hangs] {
        for (bad_at, good_at) in [([127, 0, 0, 1], [127, 0, 0, 2]), ([127, 0, 0, 2], [127, 0, 0, 1])] {
            let port = support::fixed_port();
            listen_badly((bad_at, port).into(), bad);
            let _server = support::server_on(net::listen((good_at, port).into()).expect("a port"), &[]);
            let name = format!("two:{port}");
            let variables = [("MESSENGER_SERVER_ADDR", name.as_str()), ("MESSENGER_HTTP_PORT", "0")];
            let mut client = hosts.start(CLIENT, &variables);
            let address = client.address("client listening").await;
            let answer = http::try_send(address, "alice", "hey").await;
            assert_eq!(answer.status, 200, "{bad:?} at {bad_at:?}: {:?}\n{}", answer.body, client.last_lines(5));
        }
    }
}

async fn a_hanging_resolver_does_not_delay_the_second_server() {
    let space = Space::new();
    space.resolver_hangs();
    let mut server = space.start(SERVER, &[("MESSENGER_SERVER_PORT", "1000")]);
    server.line("server listening").await;
    let servers = "nowhere.example:1000,127.0.0.1:1000";
    let variables = [("MESSENGER_SERVER_ADDR", servers), ("MESSENGER_HTTP_PORT", "1001")];
    let mut client = space.start(CLIENT, &variables);
    client.line("client listening").await;
    let start = Instant::now();
    client.line("stream open").await;
    // The resolver of glibc gives up after ten seconds.
    assert!(start.elapsed() < Duration::from_secs(5), "after {:?}", start.elapsed());
    assert!(client.log.iter().any(|line| line.contains("the resolver gives no answer")), "{:#?}", client.log);
}
