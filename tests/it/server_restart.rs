//! The client survives a shutdown or a kill of its server at any moment: it keeps its buffer, and
//! finds the next server.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use crate::support;
use crate::support::program::{self, server_at};
use crate::support::suite::tests;
use crate::support::{assert_increasing, client, http, post};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests![a_client_survives_restarts_at_random_moments, the_client_program_survives_a_restart]
}

async fn a_client_survives_restarts_at_random_moments() {
    let address = (Ipv4Addr::LOCALHOST, support::fixed_port()).into();
    let mut server = server_at(address).await;
    let client = client(address, &["--send-deadline", "10s"]);
    client.ready().await;
    let mut kept = Vec::new();
    for round in 0..12 {
        let before = client.send("alice", &format!("before {round}")).await;
        // Under load, so that the server ends in the middle of calls and of the stream.
        let http = client.address;
        let load = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0..200 {
                let answer = http::try_send(http, "load", &format!("{round}/{number}")).await;
                match answer.status.as_u16() {
                    200 => acknowledged.push(answer.json()["sendTime"].as_str().unwrap().to_owned()),
                    503 => assert!(answer.problem().contains("may or may not"), "{}", answer.problem()),
                    other => panic!("{other}: {:?}", answer.body),
                }
            }
            acknowledged
        });
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..80_000))).await;
        server.signal(if round % 2 == 0 { "KILL" } else { "TERM" });
        server.exit().await;
        let gone = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
        server = server_at(address).await;
        let acknowledged = load.await.unwrap();
        let after = client.send("alice", &format!("after {round}")).await;

        let mut got = Vec::new();
        support::until("the last message", async || {
            got.extend(client.flush().await);
            got.iter().any(|message: &support::Message| message.time == after).then_some(())
        })
        .await;
        assert_increasing(&got);
        // A server that shuts down has delivered what it acknowledged; a killed one may lose its
        // last messages.
        if round % 2 == 1 {
            assert_eq!(got[0].time, before, "the buffer survived the server");
        }
        assert!(got[0].time >= before);
        let mut texts: Vec<_> = got.iter().map(|message| &message.text).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), got.len(), "none twice");
        // The client sends to the next server only once its stream there is open, so nothing is
        // missing.
        for time in acknowledged.iter().filter(|time| **time > gone) {
            assert!(
                got.iter().any(|message| message.time == *time),
                "{time} is lost, the first server was gone at {gone}"
            );
        }
        kept.extend(got);
    }
    assert_increasing(&kept);
}

async fn the_client_program_survives_a_restart() {
    let address = (Ipv4Addr::LOCALHOST, support::fixed_port()).into();
    let mut server = server_at(address).await;
    let server_addr = address.to_string();
    let mut client =
        program::start(program::CLIENT, &[("MESSENGER_SERVER_ADDR", &server_addr), ("MESSENGER_HTTP_PORT", "0")]);
    let http = client.address("client listening").await;
    client.line("stream open").await;
    post(&mut support::grpc(address).await, "alice", "kept").await;
    for signal in ["TERM", "KILL", "KILL"] {
        server.signal(signal);
        server.exit().await;
        let line = client.line("stream ended, reconnecting").await;
        assert!(line.contains(&server_addr), "names the server: {line}");
        server = server_at(address).await;
        client.line("stream open").await;
    }
    post(&mut support::grpc(address).await, "alice", "new").await;
    let mut texts = Vec::new();
    support::until("both messages", async || {
        texts.extend(http::flush(http).await.into_iter().map(|message| message.text));
        (texts.len() >= 2).then_some(())
    })
    .await;
    assert_eq!(texts, ["kept", "new"]);
}
