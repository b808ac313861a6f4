//! A message is never in the room twice. If a connection breaks between the acceptance and its
//! answer, the client repeats the send with the same key in the same epoch. Where it cannot, it
//! reports an unknown outcome.

use crate::support;
use crate::support::proxy::{Mode, proxy};
use crate::support::suite::tests_of_each_backend;
use crate::support::{Backend, client, http, post};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests_of_each_backend![
        a_send_whose_answer_is_lost_is_accepted_once,
        a_send_is_not_repeated_to_a_new_room,
        a_send_without_a_connection_waits_and_is_accepted_once
    ]
}

async fn a_send_whose_answer_is_lost_is_accepted_once(backend: Backend) {
    let server = backend.server(&[]);
    let proxy = proxy(server.address);
    let client = client(proxy.address, &["--send-deadline", "10s"]);
    client.ready().await;
    let mut room = server.reader().await;
    let mut direct = server.grpc().await;
    for round in 0..10 {
        proxy.set(Mode::SwallowAnswers);
        let (address, text) = (client.address, format!("round {round}"));
        let send = tokio::spawn(async move { http::try_send(address, "alice", &text).await });
        let message = room.next().await;
        assert_eq!(message.text, format!("round {round}"), "the server has it");
        proxy.cut().await;
        let answer = send.await.unwrap();
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert_eq!(answer.json()["sendTime"], message.time, "the time that it got at first");

        // The next message of the room is the next one that is sent.
        let time = client.send("alice", "after").await;
        assert_eq!(room.next().await.time, time);
        post(&mut direct, "test", "mark").await;
        assert_eq!(room.next().await.text, "mark");
        // The stream of the client was cut too, and has resumed.
        let got = client.collect(3).await;
        assert_eq!(
            got.iter().map(|message| message.text.as_str()).collect::<Vec<_>>(),
            [&message.text, "after", "mark"]
        );
    }
}

async fn a_send_is_not_repeated_to_a_new_room(backend: Backend) {
    let port = support::fixed_port();
    let first = backend.server_on(support::listen(port), &[]);
    let proxy = proxy(first.address);
    let client = client(proxy.address, &["--send-deadline", "10s"]);
    client.ready().await;
    let mut room = first.reader().await;
    proxy.set(Mode::SwallowAnswers);
    let address = client.address;
    let send = tokio::spawn(async move { http::try_send(address, "alice", "hey").await });
    assert_eq!(room.next().await.text, "hey", "the first server has it");
    proxy.set(Mode::Cut);
    first.stop().await;
    let second = backend.server_on(support::listen(port), &[]);
    let mut room = second.reader().await;
    proxy.set(Mode::Pass);
    let answer = send.await.unwrap();
    assert_eq!(answer.status, 503, "{:?}", answer.body);
    assert!(answer.problem().contains("may or may not be in the chat"), "{}", answer.problem());
    let time = client.send("alice", "after").await;
    assert_eq!(room.next().await.time, time, "the first message of the second server");
}

async fn a_send_without_a_connection_waits_and_is_accepted_once(backend: Backend) {
    let server = backend.server(&[]);
    let proxy = proxy(server.address);
    let client = client(proxy.address, &["--send-deadline", "10s"]);
    client.ready().await;
    let mut room = server.reader().await;
    for round in 0..5 {
        proxy.set(Mode::Cut);
        let (address, text) = (client.address, format!("round {round}"));
        let sends: Vec<_> = (0..5)
            .map(|_| {
                let text = text.clone();
                tokio::spawn(async move { http::try_send(address, "alice", &text).await })
            })
            .collect();
        proxy.set(Mode::Pass);
        let mut accepted = 0;
        for send in sends {
            let answer = send.await.unwrap();
            match answer.status.as_u16() {
                200 => accepted += 1,
                // The send met the cut.
                503 => assert!(answer.problem().contains("may or may not"), "{}", answer.problem()),
                other => panic!("{other}: {:?}", answer.body),
            }
        }
        post(&mut server.grpc().await, "test", "mark").await;
        let mut got = 0;
        while room.next().await.text != "mark" {
            got += 1;
        }
        assert!(got >= accepted && got <= 5, "{accepted} acknowledged, {got} in the room");
    }
}
