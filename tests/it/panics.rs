//! A panic in a call or a connection ends only that, and is logged and counted. A panic in a task
//! that the program needs, or under the lock of the room, ends the program with status 1 and one
//! line.
//!
//! Programs that are built with debug assertions panic on request (`src/process/test_panic.rs`).
use std::net::SocketAddr;

use crate::support;
use crate::support::certificates::directory;
use crate::support::program::{self, CHAT, CLIENT, Program, SERVER};
use crate::support::redis::Engine;
use crate::support::suite::{self, tests};
use crate::support::{grpc, http as web, post, reader, soon, until};
use http::{Method, StatusCode};
use libtest_mimic::Trial;
use messenger::net::{Connection, http2_error};
use messenger::proto::SendMessageRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;

pub fn tests() -> Vec<Trial> {
    tests![
        a_panic_in_a_call_ends_that_call,
        a_panic_in_a_reader_ends_its_stream,
        a_panic_in_a_connection_ends_that_connection,
        a_panic_in_a_reload_keeps_the_loaded_files,
        a_panic_in_a_handler_is_a_500,
        a_panic_in_the_dispatcher_ends_the_program,
        a_panic_under_the_lock_of_the_room_ends_the_program,
        a_panic_in_the_stream_or_buffer_of_the_client_ends_the_program,
        a_panic_in_the_connection_of_the_client_is_survived,
        a_closed_socket_retires_its_connection,
        a_panic_in_the_signal_handler_ends_the_program,
        a_panic_in_the_redis_tasks_ends_the_program,
        released_programs_cannot_be_asked_to_panic
    ]
}

const INTERNAL: Option<h2::Reason> = Some(h2::Reason::INTERNAL_ERROR);

async fn start(program: &str, place: &str, more: &[(&str, &str)]) -> (Program, SocketAddr, SocketAddr) {
    let variables = [
        ("MESSENGER_SERVER_PORT", "0"),
        ("MESSENGER_HTTP_PORT", "0"),
        ("MESSENGER_METRICS_PORT", "0"),
        ("MESSENGER_TEST_PANIC", place),
    ];
    let mut program = program::start(program, &[&variables, more].concat());
    let address = program.address("listening").await;
    let metrics = program.address("metrics listening").await;
    (program, address, metrics)
}

async fn start_client(server: SocketAddr, place: &str) -> (Program, SocketAddr, SocketAddr) {
    start(CLIENT, place, &[("MESSENGER_SERVER_ADDR", &server.to_string())]).await
}

fn hey() -> SendMessageRequest {
    SendMessageRequest { author: "alice".to_owned(), text: "hey".to_owned() }
}

/// A message so large that a few of them fill half of the window of a stream.
fn large() -> SendMessageRequest {
    SendMessageRequest { author: "alice".to_owned(), text: "x".repeat(900_000) }
}

fn reason(status: &Status) -> Option<h2::Reason> {
    http2_error(status).and_then(h2::Error::reason)
}

/// Checks that the program has logged and counted the panic, and shuts down.
async fn goes_on(mut program: Program, metrics: SocketAddr, place: &str) {
    program.line("panicked").await;
    let line = program.log.last().unwrap();
    assert!(line.contains(" ERROR ") && line.contains("place=src/") && line.contains(place), "{line}");
    let answer = web::call(metrics, Method::GET, "/metrics", &[], "").await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains("\nmessenger_panics_total 1\n"), "{text}");
    program.signal("TERM");
    assert_eq!(program.exit().await.code(), Some(0));
}

/// Checks that the program ends by itself, with the reason in its last line.
async fn ends(mut program: Program, name: &str, reason: &str) {
    assert_eq!(program.exit().await.code(), Some(1));
    let log = program.whole_log().await;
    assert!(log.iter().any(|line| line.contains(" ERROR ") && line.contains("panicked place=src/")), "{log:#?}");
    let last = log.last().unwrap();
    assert!(last.starts_with(&format!("{name}: ")) && last.contains(reason), "{log:#?}");
}

/// Programs that were built without debug assertions have no code that panics on request.
fn only_when_it_can_panic() {
    if !cfg!(debug_assertions) {
        suite::ignore("these programs cannot be asked to panic");
    }
}

async fn a_panic_in_a_call_ends_that_call() {
    only_when_it_can_panic();
    let (server, address, metrics) = start(SERVER, "call:2", &[]).await;
    let mut connection = grpc(address).await;
    let mut reader = reader(&mut connection).await;
    let status = soon("an answer", connection.send_message(hey())).await.expect_err("a panic");
    assert_eq!(reason(&status), INTERNAL, "{status:?}");
    let time = post(&mut connection, "alice", "hey").await;
    assert_eq!(reader.next().await.time, time);
    goes_on(server, metrics, "call").await;
}

async fn a_panic_in_a_reader_ends_its_stream() {
    only_when_it_can_panic();
    let (server, address, metrics) = start(SERVER, "reader", &[]).await;
    let mut connection = grpc(address).await;
    let status = match soon("headers", connection.read_messages(())).await {
        Ok(stream) => soon("the end", stream.into_inner().message()).await.expect_err("a panic"),
        Err(status) => status,
    };
    assert_eq!(reason(&status), INTERNAL, "{status:?}");
    let mut reader = reader(&mut connection).await;
    let time = post(&mut connection, "alice", "hey").await;
    assert_eq!(reader.next().await.time, time);
    goes_on(server, metrics, "reader").await;
}

async fn a_panic_in_a_connection_ends_that_connection() {
    only_when_it_can_panic();
    let (server, address, metrics) = start(SERVER, "connection:2", &[]).await;
    let mut reader = reader(&mut grpc(address).await).await;
    soon("an answer", grpc(address).await.send_message(hey())).await.expect_err("a panic");
    let time = post(&mut grpc(address).await, "alice", "hey").await;
    assert_eq!(reader.next().await.time, time);
    goes_on(server, metrics, "connection").await;
}

async fn a_panic_in_a_reload_keeps_the_loaded_files() {
    only_when_it_can_panic();
    let directory = directory();
    let file = directory.write("token", "one");
    let (mut server, _, metrics) = start(SERVER, "reload", &[("MESSENGER_TOKEN_FILE", &file)]).await;
    server.signal("HUP");
    server.line("panicked").await;
    server.signal("HUP");
    server.line("files reloaded").await;
    // No further line.
    server.log.clear();
    let answer = web::call(metrics, Method::GET, "/metrics", &[], "").await;
    assert!(String::from_utf8(answer.body.to_vec()).unwrap().contains("\nmessenger_panics_total 1\n"));
    server.signal("TERM");
    assert_eq!(server.exit().await.code(), Some(0));
}

async fn a_panic_in_a_handler_is_a_500() {
    only_when_it_can_panic();
    let server = support::server(&[]);
    let (client, address, metrics) = start_client(server.address, "handler").await;
    let message = r#"{"author": "alice", "text": "hey"}"#;
    let answer = web::post(address, "/sendMessage", message).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.problem().contains("a mistake in the program"));
    assert_eq!(web::post(address, "/sendMessage", message).await.status, StatusCode::OK);
    assert_eq!(web::flush(address).await.len(), 1);
    goes_on(client, metrics, "handler").await;
    server.stop().await;
}

async fn a_panic_in_the_dispatcher_ends_the_program() {
    only_when_it_can_panic();
    for (program, name) in [(SERVER, "messenger-server"), (CHAT, "messenger")] {
        let (program, address, _) = start(program, "dispatcher", &[]).await;
        // The message is accepted, with or without an answer.
        let _ = grpc(address).await.send_message(hey()).await;
        ends(program, name, "panicked: asked to at dispatcher").await;
    }
}

async fn a_panic_under_the_lock_of_the_room_ends_the_program() {
    only_when_it_can_panic();
    let (server, address, _) = start(SERVER, "room", &[]).await;
    soon("an answer", grpc(address).await.send_message(hey())).await.expect_err("a panic");
    ends(server, "messenger-server", "half changed").await;
}

async fn a_panic_in_the_stream_or_buffer_of_the_client_ends_the_program() {
    only_when_it_can_panic();
    let server = support::server(&[]);
    for place in ["link", "postbox"] {
        let (client, address, _) = start_client(server.address, place).await;
        until("the client's stream", async || {
            (web::call(address, Method::GET, "/ready", &[], "").await.status == StatusCode::OK).then_some(())
        })
        .await;
        server.grpc().await.send_message(hey()).await.unwrap();
        ends(client, "messenger-client", &format!("panicked: asked to at {place}")).await;
    }
    server.stop().await;
}

async fn a_panic_in_the_connection_of_the_client_is_survived() {
    only_when_it_can_panic();
    let server = support::server(&[]);
    // The first writes open the connection and the stream, later ones happen while it is open.
    let writes = (1..=8).map(|write| format!("client socket:{write}"));
    for place in writes.chain(["client connection".to_owned()]) {
        let (server_address, more) = (server.address.to_string(), ("MESSENGER_HTTP_PORT", "0"));
        let variables = [("MESSENGER_SERVER_ADDR", &*server_address), more, ("MESSENGER_TEST_PANIC", &place)];
        let mut client = program::start(CLIENT, &variables);
        let address = client.address("listening").await;
        until("the client's stream or its end", async || {
            if client.try_exit().is_some() {
                return Some(());
            }
            // In a task, because the client may end meanwhile.
            let ready = tokio::spawn(async move { web::call(address, Method::GET, "/ready", &[], "").await.status });
            (ready.await.ok() == Some(StatusCode::OK)).then_some(())
        })
        .await;
        // So much that the client writes a WINDOW_UPDATE, and nothing else.
        for _ in 0..4 {
            server.grpc().await.send_message(large()).await.expect("an answer");
        }
        post(&mut server.grpc().await, "alice", "last").await;
        let ended = until("the last message or the client's end", async || {
            if let Some(status) = client.try_exit() {
                return Some(Some(status));
            }
            let flushed = tokio::spawn(web::flush(address)).await.unwrap_or_default();
            flushed.iter().any(|message| message.text == "last").then_some(None)
        })
        .await;
        if let Some(status) = ended {
            assert_eq!(status.code(), Some(1), "{place}");
            let log = client.whole_log().await;
            assert!(log.last().unwrap().starts_with("messenger-client: panicked: "), "{place}: {log:#?}");
        }
    }
    server.stop().await;
}

async fn a_closed_socket_retires_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string().parse().unwrap();
    let (connection, peer) = tokio::join!(Connection::open(&server), async {
        let (mut peer, _) = listener.accept().await.unwrap();
        // An empty SETTINGS frame.
        peer.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        peer
    });
    let connection = connection.unwrap();
    drop(peer);
    soon("the end of the connection", connection.retired()).await;
}

async fn a_panic_in_the_signal_handler_ends_the_program() {
    only_when_it_can_panic();
    let server = support::server(&[]);
    let variables = [("MESSENGER_SERVER_ADDR", &*server.address.to_string()), ("MESSENGER_HTTP_DRAIN_DEADLINE", "1h")];
    let (client, address, _) = start(CLIENT, "signals", &variables).await;
    // An incomplete request keeps the client draining.
    let mut request = TcpStream::connect(address).await.unwrap();
    let head = b"POST /sendMessage HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    request.write_all(head).await.unwrap();
    // Then the handler reads the body.
    soon("100 Continue", request.read_u8()).await.unwrap();
    client.signal("TERM");
    ends(client, "messenger-client", "second signal").await;
    server.stop().await;
}

async fn a_panic_in_the_redis_tasks_ends_the_program() {
    only_when_it_can_panic();
    let engine = Engine::start(&[]);
    for place in ["tail", "append"] {
        let (server, address, _) = start(SERVER, place, &[("MESSENGER_REDIS_URL", &engine.url())]).await;
        if place == "append" {
            let _ = soon("an answer", grpc(address).await.send_message(hey())).await;
        }
        ends(server, "messenger-server", &format!("panicked: asked to at {place}")).await;
    }
}

async fn released_programs_cannot_be_asked_to_panic() {
    if cfg!(debug_assertions) {
        suite::ignore("these programs can be asked to panic");
    }
    for program in [SERVER, CLIENT, CHAT] {
        let bytes = std::fs::read(program).unwrap();
        let name = b"MESSENGER_TEST_PANIC";
        assert!(!bytes.windows(name.len()).any(|window| window == name), "{program}");
    }
}
