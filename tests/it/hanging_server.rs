//! A server that hangs or refuses everything does not harm its client: each send is answered at its
//! deadline with what is known, and neither memory nor processor time grows.
#![allow(clippy::pedantic, clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support;
use crate::support::program::{self, Program};
use crate::support::raw_http2::{END_HEADERS, HEADERS, INITIAL_WINDOW, PING, frame, header, settings, window_update};
use crate::support::siege::MIB;
use crate::support::suite::tests;
use crate::support::{free_port, http as web, until};
use bytes::Bytes;
use futures_util::future::join_all;
use h2::Reason;
use h2::server::{Builder, Connection, SendResponse};
use http::{HeaderMap, Method, Request, Response};
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub fn tests() -> Vec<Trial> {
    tests![
        a_frozen_server_costs_no_resources_and_deadlines_hold,
        a_server_that_allows_one_call_leaves_none_for_sends,
        a_server_that_allows_no_calls_is_reported,
        a_server_that_ends_none_of_its_hundred_calls_times_out,
        a_server_that_resets_each_call_costs_no_resources,
        a_server_that_closes_each_connection_costs_no_resources,
        a_server_that_reads_nothing_costs_no_resources,
        a_client_leaves_a_frozen_server_for_the_next,
        a_stream_resumes_without_a_gap_when_a_frozen_server_continues,
        a_server_that_falls_silent_at_any_step_of_opening_is_left,
        a_server_that_answers_pings_but_no_calls_is_left,
        a_foreign_server_is_pinged_after_a_call_without_an_answer,
        a_foreign_server_that_answers_pings_is_kept,
        servers_that_end_each_stream_are_retried_with_a_pause,
        a_server_that_hangs_before_the_headers_is_not_ready
    ]
}

const SENDS: usize = 200;
/// The deadline of each send, and the bound of its answer on a busy machine.
const DEADLINE: Duration = Duration::from_millis(1500);
const LATE: Duration = Duration::from_secs(4);
/// The bounds of two waves of sends. Without bounds in the client they took gigabytes and a whole
/// processor.
const MEMORY: usize = 32 * MIB;
const PROCESSOR: Duration = Duration::from_secs(4);

const NO_ANSWER: &str = "the server gave no answer in time: the message may or may not be in the chat";

/// The client program, and its memory and processor time when it was ready.
struct Client {
    program: Program,
    address: SocketAddr,
}

impl Client {
    fn start(servers: &str) -> Program {
        let deadline = format!("{}ms", DEADLINE.as_millis());
        let variables = [
            ("MESSENGER_SERVER_ADDR", servers),
            ("MESSENGER_HTTP_PORT", "0"),
            ("MESSENGER_METRICS_PORT", "0"),
            ("MESSENGER_SEND_DEADLINE", &deadline),
        ];
        program::start(program::CLIENT, &variables)
    }

    /// Starts a client of this server, and waits for a line of its log.
    async fn of(server: SocketAddr, line: &str) -> Self {
        let mut program = Self::start(&server.to_string());
        let address = program.address("client listening").await;
        program.line(line).await;
        Self { program, address }
    }

    /// Sends many messages at once, and counts the answers by status and detail.
    async fn wave(&self, text: &str) -> BTreeMap<(u16, String), usize> {
        let sends = join_all((0..SENDS).map(async |_| {
            let began = Instant::now();
            let answer = web::try_send(self.address, "alice", text).await;
            let took = began.elapsed();
            assert!(took < LATE, "the deadline is {DEADLINE:?}, it took {took:?}");
            (answer.status.as_u16(), answer.problem())
        }));
        let mut counts = BTreeMap::new();
        for answer in sends.await {
            *counts.entry(answer).or_default() += 1;
        }
        counts
    }

    /// Sends two waves, checks their cost, and returns the answers of the second.
    async fn waves(&self, text: &str) -> BTreeMap<(u16, String), usize> {
        let (memory, processor) = (self.program.resident(), self.program.processor());
        self.wave(text).await;
        let answers = self.wave(text).await;
        let grown = self.program.peak().saturating_sub(memory);
        let used = self.program.processor() - processor;
        // The concurrent requests and their copies.
        let texts = 5 * text.len() * SENDS;
        assert!(grown < MEMORY + texts, "grew by {} KiB", grown / 1024);
        assert!(used < PROCESSOR, "used the processor for {used:?}");
        answers
    }

    async fn ready(&self) -> (u16, String) {
        let answer = web::call(self.address, Method::GET, "/ready", &[], "").await;
        let detail = if answer.status == 200 { String::new() } else { answer.problem() };
        (answer.status.as_u16(), detail)
    }

    /// Waits until the client is not ready for this reason.
    async fn unready(&self, why: &str) {
        let said = until("a client that is not ready", async || {
            let (status, detail) = self.ready().await;
            (status == 503).then_some(detail)
        });
        let said = said.await;
        assert!(said.contains(why), "{said}");
    }
}

/// A wave in which all answers are the same.
fn all(status: u16, detail: &str) -> BTreeMap<(u16, String), usize> {
    BTreeMap::from([((status, detail.to_owned()), SENDS)])
}

async fn a_frozen_server_costs_no_resources_and_deadlines_hold() {
    let (server, address) = program::server(&[]).await;
    let client = Client::of(address, "stream open").await;
    server.signal("STOP");
    assert_eq!(client.waves("hey").await, all(504, NO_ANSWER));
    server.signal("CONT");
}

async fn a_server_that_allows_one_call_leaves_none_for_sends() {
    let (_server, address) = program::server(&[("MESSENGER_MAX_STREAMS", "1")]).await;
    let client = Client::of(address, "no message can be sent over this connection").await;
    let why = "the server takes one call at once, which is the message stream";
    assert_eq!(client.ready().await, (503, format!("{why}: messages wait here")));
    assert_eq!(client.waves("hey").await, all(503, &format!("{why}: the message was not sent")));
}

/// How a test server handles a `SendMessage`.
type Treat = fn(&mut SendResponse<Bytes>, &mut Connection<TcpStream, Bytes>);

/// Starts a server that opens each stream, and sends nothing over it.
fn server(streams: u32, treat: Treat) -> SocketAddr {
    let listener = free_port();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut builder = Builder::new();
                // h2 ends a connection with too many unread frames.
                builder.max_concurrent_streams(streams).data_frame_budget(usize::MAX);
                let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else { return };
                // The streams stay open until the connection ends.
                let mut kept = Vec::new();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    if is_stream(&request) {
                        let head = Response::builder().header("content-type", "application/grpc");
                        let head = head.header("messenger-epoch", "e").body(()).unwrap();
                        kept.push(respond.send_response(head, false).unwrap());
                        std::mem::forget(request);
                    } else {
                        treat(&mut respond, &mut connection);
                        // Dropping the call would reset it.
                        std::mem::forget((request, respond));
                    }
                }
            });
        }
    });
    address
}

fn is_stream<T>(request: &Request<T>) -> bool {
    request.uri().path().ends_with("/ReadMessages")
}

async fn a_server_that_allows_no_calls_is_reported() {
    let client = Client::of(server(0, |_, _| {}), "calls to the server are waiting").await;
    let why = "the server takes no calls on this connection";
    client.unready(why).await;
    assert_eq!(client.waves("hey").await, all(503, &format!("{why}: the message was not sent")));
}

async fn a_server_that_ends_none_of_its_hundred_calls_times_out() {
    let client = Client::of(server(100, |_, _| {}), "stream open").await;
    let answers = client.waves("hey").await;
    let not_sent = "the server takes 100 calls at once, and none has ended: the message was not sent";
    let of = |status: u16, detail: &str| answers.get(&(status, detail.to_owned())).copied().unwrap_or_default();
    let (unknown, refused) = (of(504, NO_ANSWER), of(503, not_sent));
    // A waiting send takes the slot of an earlier one, if its deadline is later.
    assert!(unknown >= 95 && unknown + refused == SENDS, "{answers:?}");
}

async fn a_server_that_resets_each_call_costs_no_resources() {
    let client = Client::of(server(1000, |call, _| call.send_reset(Reason::INTERNAL_ERROR)), "stream open").await;
    // The send is repeated until the deadline: this server may still know the key.
    for ((status, detail), _) in client.waves("hey").await {
        let known = detail.contains("may or may not be in the chat");
        assert!([503, 504].contains(&status) && known, "{status}: {detail}");
    }
}

async fn a_server_that_closes_each_connection_costs_no_resources() {
    let treat: Treat = |_, connection| connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let client = Client::of(server(1000, treat), "stream open").await;
    for ((status, detail), _) in client.waves("hey").await {
        let known = detail.contains("may or may not be in the chat") || detail.contains("was not sent");
        assert!([503, 504].contains(&status) && known, "{status}: {detail}");
    }
}

/// Starts a server that opens the stream, keeps sending pings, and reads nothing more.
fn server_that_reads_nothing() -> SocketAddr {
    let listener = free_port();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = [
                    // `:status: 200`
                    vec![0x88],
                    header("content-type", "application/grpc"),
                    header("messenger-epoch", "e"),
                ];
                let hello = settings(&[(INITIAL_WINDOW, 64 * 1024 * 1024)]);
                let window = window_update(0, 1 << 30);
                socket.write_all(&[hello, window].concat()).await.unwrap();
                // The settings and the call of the client are small.
                let mut read = 0;
                while read < 200 {
                    read += socket.read(&mut [0; 1024]).await.unwrap();
                }
                socket.write_all(&frame(HEADERS, END_HEADERS, 1, &head.concat())).await.unwrap();
                while socket.write_all(&frame(PING, 0, 0, &[7; 8])).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            });
        }
    });
    address
}

async fn a_server_that_reads_nothing_costs_no_resources() {
    let mut client = Client::of(server_that_reads_nothing(), "stream open").await;
    let answers = client.waves(&"x".repeat(100_000)).await;
    let not_sent = "the server does not read what is sent to it: the message was not sent";
    assert!(answers[&(503, not_sent.to_owned())] > SENDS / 2, "{answers:?}");
    client.unready("the server does not read what is sent to it").await;
    client.program.line("the server reads nothing of what the client sends").await;
}

/// The bound of 12 s after which a hanging server is left, with a margin for a busy machine.
const NOTICED: Duration = Duration::from_secs(16);

/// Sends until a message is accepted, and returns how long that took.
async fn sent_again(address: SocketAddr) -> Duration {
    let began = Instant::now();
    until("a send that is accepted", async || {
        let answer = web::try_send(address, "alice", "hey").await;
        assert!([200, 503, 504].contains(&answer.status.as_u16()), "{:?}", answer.body);
        (answer.status == 200).then_some(())
    })
    .await;
    began.elapsed()
}

async fn metrics(program: &mut Program) -> String {
    let address = program.log.iter().find(|line| line.contains("metrics listening")).expect("a line");
    let port = address.rsplit(':').next().unwrap().split(' ').next().unwrap();
    let answer = web::call(format!("127.0.0.1:{port}").parse().unwrap(), Method::GET, "/metrics", &[], "").await;
    String::from_utf8(answer.body.to_vec()).unwrap()
}

async fn a_client_leaves_a_frozen_server_for_the_next() {
    let (first, a) = program::server(&[]).await;
    let (_second, b) = program::server(&[]).await;
    let mut program = Client::start(&format!("{a},{b}"));
    let address = program.address("client listening").await;
    program.line("stream open").await;
    web::send(address, "alice", "hey").await;
    first.signal("STOP");
    let began = Instant::now();
    // Nothing is sent until then: an unanswered call would be another reason to leave.
    program.line("the server is silent").await;
    sent_again(address).await;
    let took = began.elapsed();
    assert!(took < NOTICED, "the first server froze, and a send took {took:?}");
    let metrics = metrics(&mut program).await;
    assert!(metrics.contains("messenger_client_streams_ended_total{reason=\"server silent\"} 1"), "{metrics}");
    first.signal("CONT");
}

async fn a_stream_resumes_without_a_gap_when_a_frozen_server_continues() {
    let (server, address) = program::server(&[]).await;
    let mut client = Client::of(address, "stream open").await;
    web::send(client.address, "alice", "before").await;
    let mut other = support::grpc(address).await;
    server.signal("STOP");
    let began = Instant::now();
    client.unready("the server is away").await;
    assert!(began.elapsed() < NOTICED, "not ready after {:?}", began.elapsed());
    // A message of another sender waits for the client.
    let during = tokio::spawn(async move { support::post(&mut other, "bob", "during").await });
    server.signal("CONT");
    during.await.unwrap();
    client.program.line("stream open, nothing is missing").await;
    web::send(client.address, "alice", "after").await;
    let mut texts = Vec::new();
    until("the last message", async || {
        let answer = web::post(client.address, "/getAndFlushMessages", "").await;
        assert!(!answer.headers.contains_key("messenger-gaps"));
        let messages = answer.json();
        texts.extend(messages.as_array().unwrap().iter().map(|message| message["text"].as_str().unwrap().to_owned()));
        (texts.last()? == "after").then_some(())
    })
    .await;
    assert_eq!(texts, ["before", "during", "after"]);
}

/// The step after which a server falls silent.
#[derive(Clone, Copy, PartialEq)]
enum Silent {
    Accepted,
    Greeted,
    Opened,
    /// The server ends each stream at once.
    Ending,
    /// The server still answers pings.
    ToCallsOnly,
}

/// Starts a foreign server that accepts connections and then hangs.
fn silent_server(silent: Silent) -> SocketAddr {
    counting_server(silent, Arc::default())
}

fn counting_server(silent: Silent, connections: Arc<AtomicUsize>) -> SocketAddr {
    let listener = free_port();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                if silent == Silent::Accepted {
                    return until_closed(&mut socket).await;
                }
                let Ok(mut connection) = Builder::new().handshake::<_, Bytes>(socket).await else { return };
                if silent == Silent::Greeted {
                    std::future::pending().await
                }
                let mut calls = Vec::new();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    if is_stream(&request) {
                        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                        let mut stream = respond.send_response(head, false).unwrap();
                        if silent == Silent::Ending {
                            let unavailable = ("grpc-status".parse().unwrap(), "14".parse().unwrap());
                            stream.send_trailers(HeaderMap::from_iter([unavailable])).unwrap();
                            continue;
                        }
                        std::mem::forget(stream);
                    } else if silent == Silent::Opened {
                        std::future::pending().await
                    }
                    calls.push((request, respond));
                }
            });
        }
    });
    address
}

async fn until_closed(socket: &mut TcpStream) {
    while socket.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
}

async fn a_server_that_falls_silent_at_any_step_of_opening_is_left() {
    let (_server, healthy) = program::server(&[]).await;
    let steps = [Silent::Accepted, Silent::Greeted].map(|silent| async move {
        let mut program = Client::start(&format!("{},{healthy}", silent_server(silent)));
        let took = sent_again(program.address("client listening").await).await;
        assert!(took < NOTICED, "{took:?}");
    });
    join_all(steps).await;
}

async fn a_server_that_answers_pings_but_no_calls_is_left() {
    // A proxy in front of a hanging server does so.
    let first = server(1000, |_, _| {});
    let (_second, b) = program::server(&[]).await;
    let mut program = Client::start(&format!("{first},{b}"));
    let address = program.address("client listening").await;
    program.line("stream open").await;
    let took = sent_again(address).await;
    assert!(took < NOTICED, "a send took {took:?}");
    program.line("the server answers no calls").await;
}

async fn a_foreign_server_is_pinged_after_a_call_without_an_answer() {
    let mut client = Client::of(silent_server(Silent::Opened), "stream open").await;
    let answer = web::try_send(client.address, "alice", "hey").await;
    assert_eq!(answer.status, 504);
    let began = Instant::now();
    client.program.line("the server is silent").await;
    assert!(began.elapsed() < NOTICED, "{:?}", began.elapsed());
}

async fn a_foreign_server_that_answers_pings_is_kept() {
    let mut client = Client::of(silent_server(Silent::ToCallsOnly), "stream open").await;
    for _ in 0..5 {
        let answer = web::try_send(client.address, "alice", "hey").await;
        assert_eq!(answer.status, 504);
    }
    let log = client.program.last_lines(100);
    assert!(!log.contains("stream ended"), "{log}");
    assert_eq!(client.ready().await.0, 200);
}

async fn servers_that_end_each_stream_are_retried_with_a_pause() {
    let connections = Arc::<AtomicUsize>::default();
    let servers = [(), ()].map(|()| counting_server(Silent::Ending, Arc::clone(&connections)).to_string());
    let mut program = Client::start(&servers.join(","));
    program.address("client listening").await;
    program.line("stream ended").await;
    let (before, began) = (connections.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let made = connections.load(Ordering::Relaxed) - before;
    // Two connections for each pause of at least 100 ms.
    let most = 2 * (began.elapsed().as_millis() as usize / 100 + 1);
    assert!(made <= most, "{made} connections");
}

async fn a_server_that_hangs_before_the_headers_is_not_ready() {
    let mut client = Client::of(silent_server(Silent::Greeted), "the server is silent").await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        assert_eq!(client.ready().await.0, 503);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.program.line("the server is silent").await;
}
