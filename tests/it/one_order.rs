//! All readers of all clients get all messages in one order, with any number of concurrent senders.

use std::collections::HashMap;

use crate::support;
use crate::support::suite::tests_of_each_backend;
use crate::support::{Backend, Message, assert_increasing, client, post};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests_of_each_backend![concurrent_senders_make_one_order]
}

const SENDERS: usize = 8;
const EACH: usize = 150;
const ROUNDS: usize = 4;

async fn concurrent_senders_make_one_order(backend: Backend) {
    let server = backend.server(&[]);
    let clients = [client(server.address, &[]), client(server.address, &[])];
    for client in &clients {
        client.ready().await;
    }
    for round in 0..ROUNDS {
        for client in &clients {
            client.flush().await;
        }
        let mut streams = [server.reader().await, server.reader().await];
        let mut senders = tokio::task::JoinSet::new();
        for sender in 0..SENDERS {
            let (http, mut grpc) = (clients[sender % 2].address, server.grpc().await);
            senders.spawn(async move {
                let mut sent = Vec::new();
                for number in 0..EACH {
                    let (author, text) = (format!("sender {sender}"), format!("{round}/{number}"));
                    // Half of the senders use HTTP through one of the clients, the others gRPC.
                    let time = if sender % 4 < 2 {
                        support::http::send(http, &author, &text).await
                    } else {
                        post(&mut grpc, &author, &text).await
                    };
                    sent.push(Message { author, text, time });
                }
                sent
            });
        }
        let sent: Vec<Vec<Message>> = senders.join_all().await;

        let order = streams[0].take(SENDERS * EACH).await;
        assert_increasing(&order);
        assert_eq!(streams[1].take(SENDERS * EACH).await, order, "the other stream");
        for client in &clients {
            assert_eq!(client.collect(SENDERS * EACH).await, order, "a client");
        }
        // Every message once, with the time of its answer, and the messages of each sender in their
        // order.
        let place: HashMap<&Message, usize> =
            order.iter().enumerate().map(|(place, message)| (message, place)).collect();
        assert_eq!(place.len(), SENDERS * EACH);
        for mine in sent {
            let places: Vec<usize> = mine.iter().map(|message| place[message]).collect();
            assert!(places.is_sorted(), "the order of each sender");
        }
    }
}
