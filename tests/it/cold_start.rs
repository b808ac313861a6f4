//! Server and clients may start in any order. The first message that is sent through a client is in
//! the buffer of every client that answered before, within 0.1 s of the answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::support;
use crate::support::suite::tests_of_each_backend;
use crate::support::{Backend, client, http, program, until};
use futures_util::StreamExt;
use futures_util::future::join_all;
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests_of_each_backend![
        a_client_that_starts_second_has_its_first_message,
        a_client_that_starts_first_has_its_first_message,
        many_clients_that_start_at_once_have_their_first_messages,
        every_client_has_the_first_message_in_any_order_of_starting
    ]
}

/// How soon after its answer a message is in the buffers. Clients that did not wait for their
/// stream would miss it for good, so single times may be longer on a busy machine.
const BOUND: Duration = Duration::from_millis(100);

/// Flushes until a message is there, which must have this time, and returns how long that took.
async fn own_message(client: SocketAddr, time: &str) -> Duration {
    let answered = Instant::now();
    let first = until("the client's own message", async || http::flush(client).await.into_iter().next()).await;
    assert_eq!(first.time, time);
    answered.elapsed()
}

fn assert_mostly_within_bound(mut times: Vec<Duration>) {
    times.sort();
    assert!(times[times.len() / 2] < BOUND, "{times:?}");
}

async fn a_client_that_starts_second_has_its_first_message(backend: Backend) {
    let mut times = Vec::new();
    for round in 0..20 {
        let server = backend.server(&[]);
        let client = client(server.address, &[]);
        let time = client.send("alice", &round.to_string()).await;
        times.push(own_message(client.address, &time).await);
    }
    assert_mostly_within_bound(times);
}

async fn a_client_that_starts_first_has_its_first_message(backend: Backend) {
    let mut times = Vec::new();
    for round in 0..5 {
        let address = (Ipv4Addr::LOCALHOST, support::fixed_port()).into();
        let client = client(address, &[]);
        assert!(client.flush().await.is_empty(), "HTTP answers before the server is there");
        let send = tokio::spawn(async move { http::send(client.address, "alice", "waits").await });
        // From no retry to several.
        tokio::time::sleep(Duration::from_millis(60 * round)).await;
        let _server = backend.server_on(support::listen(address.port()), &[]);
        let time = send.await.unwrap();
        times.push(own_message(client.address, &time).await);
    }
    assert_mostly_within_bound(times);
}

async fn many_clients_that_start_at_once_have_their_first_messages(backend: Backend) {
    let server = backend.server(&[]);
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

/// The delays before the programs of a try start, in seconds.
const DELAYS: [f64; 8] = [0.0, 0.05, 0.3, 0.7, 1.3, 2.9, 5.0, 10.0];
/// The number of concurrent tries, which mostly wait.
const AT_ONCE: usize = 25;
/// A message that is not in a buffer after this time is lost.
const LOST: Duration = Duration::from_secs(10);

/// The number of tries; more with `MESSENGER_COLD_STARTS`.
fn tries() -> usize {
    std::env::var("MESSENGER_COLD_STARTS").map_or(50, |tries| tries.parse().expect("a number"))
}

/// Starts a server and clients after random delays. As soon as all of them answer, sends a message
/// through the first client, and checks that every client has it.
async fn cold_start(backend: Backend, mut random: fastrand::Rng, clients: usize) -> Result<(), String> {
    let mut delay = || DELAYS[random.usize(..DELAYS.len())];
    let delays: Vec<f64> = (0..=clients).map(|_| delay()).collect();
    let port = support::fixed_port();
    let server = async {
        tokio::time::sleep(Duration::from_secs_f64(delays[0])).await;
        let server = backend.program_at((Ipv4Addr::LOCALHOST, port).into()).await;
        support::until("TCP", async || tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()).await;
        server
    };
    let clients = delays[1..].iter().map(|delay| async move {
        tokio::time::sleep(Duration::from_secs_f64(*delay)).await;
        let server = format!("127.0.0.1:{port}");
        let variables = [("MESSENGER_SERVER_ADDR", server.as_str()), ("MESSENGER_HTTP_PORT", "0")];
        let mut client = program::start(program::CLIENT, &variables);
        let address = client.address("client listening").await;
        assert_eq!(http::call(address, ::http::Method::GET, "/", &[], "").await.status, 200);
        (client, address)
    });
    let (_server, clients) = tokio::join!(server, join_all(clients));
    let flush = async || join_all(clients.iter().map(|(_, address)| http::flush(*address))).await;
    flush().await;
    let time = http::send(clients[0].1, "alice", "hey").await;
    for (index, (_, address)) in clients.iter().enumerate() {
        // The buffer of a client that has missed the message stays empty.
        let flush = async {
            loop {
                if let Some(message) = http::flush(*address).await.into_iter().next() {
                    return message.time;
                }
            }
        };
        let got = tokio::time::timeout(LOST, flush).await.ok();
        if got.as_ref() != Some(&time) {
            return Err(format!(
                "started after {delays:?} s (the server first), client {index} has {got:?}, not {time}"
            ));
        }
    }
    Ok(())
}

async fn every_client_has_the_first_message_in_any_order_of_starting(backend: Backend) {
    let seed = fastrand::u64(..);
    let all = (0..tries() as u64).map(|number| {
        let random = fastrand::Rng::with_seed(seed.wrapping_add(number));
        cold_start(backend, random, if number % 2 == 0 { 2 } else { 5 })
    });
    let results: Vec<_> = futures_util::stream::iter(all).buffer_unordered(AT_ONCE).collect().await;
    let wrong: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "seed {seed}, {} of {} tries: {wrong:#?}", wrong.len(), tries());
}
