//! Other implementations of the interface work with both halves: a Python server with our client,
//! Python clients with our server.
//!
//! `MESSENGER_TEST_PYTHON` names a Python other than `python3`.
#![allow(clippy::pedantic, clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::suite::{self, tests};
use crate::support::{
    Message, PATIENCE, assert_increasing, certificates, client, free_port, http as web, post, program, server, soon,
    until,
};
use http::StatusCode;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;

pub fn tests() -> Vec<Trial> {
    tests![
        server_first_message_after_a_cold_start,
        server_that_starts_after_the_client,
        server_gives_two_clients_one_order,
        server_passes_any_text,
        server_that_ends_the_stream_gets_another,
        server_restarts_and_the_buffer_survives,
        server_that_is_frozen_is_a_504_at_the_deadline,
        server_statuses_become_http_statuses,
        server_times_print_with_nine_digits,
        client_opens_many_streams_at_once_on_one_connection,
        client_readers_and_senders_share_one_order,
        client_bad_calls_get_their_statuses,
        client_stream_ends_at_its_deadline,
        client_that_falls_behind_gets_resource_exhausted,
        client_connects_over_tls_with_a_token,
        client_sees_a_shutdown,
        client_checks_health
    ]
}

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/messenger/proto");

/// Finds a Python with gRPC.
fn python() -> &'static str {
    static FOUND: LazyLock<Result<String, String>> = LazyLock::new(|| {
        let python = std::env::var("MESSENGER_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        match std::process::Command::new(&python).args(["-c", "import grpc, grpc_tools"]).output() {
            Ok(output) if output.status.success() => Ok(python),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    });
    let missing = |problem| suite::missing(&format!("Python with grpcio and grpcio-tools: {problem}"));
    FOUND.as_deref().unwrap_or_else(missing)
}

/// A running Python program.
struct Python {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Python {
    fn start(python: &str, script: &str, arguments: &[&str]) -> Self {
        Self::start_with(python, script, arguments, &[])
    }

    fn start_with(python: &str, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let script = format!("{}/tests/it/foreign/{script}", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(python);
        // Without bytecode in the source folder.
        command.envs(variables.iter().copied());
        command.arg("-B").arg(script).arg(PROTO).args(arguments).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Self { child, lines }
    }

    /// Starts a foreign client of our server.
    fn client(python: &str, server: SocketAddr, scenario: &[&str]) -> Self {
        Self::start(python, "client.py", &[&[server.to_string().as_str()], scenario].concat())
    }

    /// The next line that it prints.
    async fn line(&mut self) -> String {
        soon("a line of the Python program", self.lines.next_line()).await.expect("text").expect("it goes on")
    }

    async fn json(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Writes a line to its standard input.
    async fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("it listens");
    }

    fn signal(&self, name: &str) {
        program::signal(self.child.id().expect("still running"), name);
    }

    async fn reader_opened(&mut self) {
        assert_eq!(self.line().await, "reader opened");
    }

    async fn kill(mut self) {
        self.child.kill().await.expect("it was running");
    }
}

/// Starts the foreign server.
async fn foreign_server(python: &str, port: u16) -> (Python, SocketAddr) {
    let mut server = Python::start(python, "server.py", &[&port.to_string()]);
    let line = server.line().await;
    let port = line.strip_prefix("listening ").and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    (server, (Ipv4Addr::LOCALHOST, port).into())
}

/// Flushes until `count` messages are there, without those of the test itself.
async fn collect(client: &support::Running, count: usize) -> Vec<Message> {
    let mut all = Vec::new();
    until("all messages", async || {
        all.extend(client.flush().await.into_iter().filter(|message| message.author != "test"));
        (all.len() >= count).then_some(())
    })
    .await;
    assert_eq!(all.len(), count, "{all:?}");
    all
}

/// grpcio sends the response headers with the first message. A client that waits for them without a
/// bound never sends that message.
async fn server_first_message_after_a_cold_start() {
    let python = python();
    let (mut server, address) = foreign_server(python, 0).await;
    for round in 0..2 {
        let client = client(address, &[]);
        let start = Instant::now();
        let time = client.send("alice", &format!("first, {round}")).await;
        assert!(start.elapsed() < Duration::from_secs(4), "answered after {:?}", start.elapsed());
        assert_eq!(collect(&client, 1).await[0].time, time);
        server.reader_opened().await;
        client.stop().await;
    }
}

async fn server_that_starts_after_the_client() {
    let python = python();
    let port = free_port().local_addr().unwrap().port();
    let client = client((Ipv4Addr::LOCALHOST, port).into(), &["--send-deadline", "30s"]);
    let address = client.address;
    let send = tokio::spawn(async move { web::send(address, "alice", "sent before the server was there").await });
    assert_eq!(client.flush().await, []);
    let _server = foreign_server(python, port).await;
    let time = send.await.unwrap();
    assert_eq!(collect(&client, 1).await[0].time, time);
}

async fn server_gives_two_clients_one_order() {
    const SENDERS: usize = 8;
    const EACH: usize = 40;
    let python = python();
    let (_server, address) = foreign_server(python, 0).await;
    let clients = [client(address, &[]), client(address, &[])];
    for client in &clients {
        client.ready().await;
    }
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let client = clients[sender % 2].address;
        senders.spawn(async move {
            for number in 0..EACH {
                web::send(client, &format!("sender {sender}"), &number.to_string()).await;
            }
        });
    }
    soon("all sends", senders.join_all()).await;
    let order = collect(&clients[0], SENDERS * EACH).await;
    assert_increasing(&order);
    assert_eq!(collect(&clients[1], SENDERS * EACH).await, order);
}

async fn server_passes_any_text() {
    let python = python();
    let (_server, address) = foreign_server(python, 0).await;
    let client = client(address, &[]);
    client.ready().await;
    let long = "я".repeat(500_000);
    for text in ["", "Привет", "👋🏽👨‍👩‍👧", "\0\u{1}\t\r\n\u{7f}\u{2028}\u{feff}", "\"quotes\" and \\", &long]
    {
        let time = client.send(text, text).await;
        let expected = Message { author: text.to_owned(), text: text.to_owned(), time };
        assert_eq!(collect(&client, 1).await, [expected]);
    }
}

async fn server_that_ends_the_stream_gets_another() {
    let python = python();
    let (mut server, address) = foreign_server(python, 0).await;
    let client = client(address, &[]);
    client.send("alice", "before").await;
    server.reader_opened().await;
    for round in ["first", "second"] {
        client.send("!end", "").await;
        server.reader_opened().await;
        client.send("alice", round).await;
    }
    let texts = collect(&client, 3).await.into_iter().map(|message| message.text);
    assert_eq!(texts.collect::<Vec<_>>(), ["before", "first", "second"]);
}

async fn server_restarts_and_the_buffer_survives() {
    let python = python();
    let (mut server, address) = foreign_server(python, 0).await;
    let client = client(address, &[]);
    client.send("alice", "before").await;
    server.reader_opened().await;
    // The client opens a new stream after it has read the old one, so the message is in the buffer.
    client.send("!end", "").await;
    server.reader_opened().await;
    server.kill().await;

    let (mut server, same) = foreign_server(python, address.port()).await;
    assert_eq!(same, address);
    server.reader_opened().await;
    client.send("alice", "after").await;
    let texts = collect(&client, 2).await.into_iter().map(|message| message.text);
    assert_eq!(texts.collect::<Vec<_>>(), ["before", "after"]);
}

async fn server_that_is_frozen_is_a_504_at_the_deadline() {
    const DEADLINE: Duration = Duration::from_millis(2500);
    let python = python();
    let (server, address) = foreign_server(python, 0).await;
    let with_stream = client(address, &["--send-deadline", "2500ms"]);
    with_stream.ready().await;
    server.signal("STOP");
    // This client gets a connection without an answer, so it cannot have sent anything.
    let without_stream = client(address, &["--send-deadline", "2500ms"]);
    let (timeout, away) = (StatusCode::GATEWAY_TIMEOUT, StatusCode::SERVICE_UNAVAILABLE);
    for (client, text, status, says) in [
        (&with_stream, "unknown", timeout, "no answer in time"),
        (&without_stream, "not sent", away, "the message was not sent"),
    ] {
        let start = Instant::now();
        let answer = web::try_send(client.address, "alice", text).await;
        assert_eq!(answer.status, status, "{:?}", answer.body);
        assert!(answer.problem().contains(says), "{}", answer.problem());
        let took = start.elapsed();
        assert!(took >= DEADLINE && took < DEADLINE * 2, "answered after {took:?}");
        assert_eq!(client.flush().await, [], "a flush is answered");
    }
    server.signal("CONT");
    let time = with_stream.send("alice", "warm again").await;
    let mut seen = Vec::new();
    until("the message", async || {
        seen.extend(with_stream.flush().await);
        seen.iter().any(|message| message.time == time).then_some(())
    })
    .await;
    let count = |text| seen.iter().filter(|message| message.text == text).count();
    assert!(count("unknown") <= 1, "a message of unknown outcome is there at most once: {seen:?}");
    assert_eq!(count("not sent"), 0, "{seen:?}");
}

async fn server_statuses_become_http_statuses() {
    let python = python();
    let (mut server, address) = foreign_server(python, 0).await;
    let client = client(address, &[]);
    client.ready().await;
    server.reader_opened().await;
    for (status, expected) in [
        ("INVALID_ARGUMENT", 400),
        ("RESOURCE_EXHAUSTED", 413),
        ("UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
        ("PERMISSION_DENIED", 502),
        ("UNIMPLEMENTED", 502),
        ("INTERNAL", 502),
        ("CANCELLED", 502),
        ("raise", 502),
    ] {
        let answer = web::try_send(client.address, "!status", status).await;
        assert_eq!(answer.status.as_u16(), expected, "{status}: {:?}", answer.body);
        let detail = answer.problem();
        // The words of the server, or what they mean for the message.
        assert!(detail.contains("as asked") || expected == 504, "{status}: {detail}");
        // A message that may have been accepted is never reported as refused.
        let refused =
            ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNIMPLEMENTED"].contains(&status);
        assert_ne!(refused, detail.contains("may or may not"), "{status}: {detail}");
        assert_eq!(server.line().await, format!("asked for {status}"));
    }
    // None of them was tried again, so the next line is of this message.
    web::try_send(client.address, "!status", "UNKNOWN").await;
    assert_eq!(server.line().await, "asked for UNKNOWN");
    assert_eq!(client.flush().await, []);
}

async fn server_times_print_with_nine_digits() {
    let python = python();
    let (_server, address) = foreign_server(python, 0).await;
    let client = client(address, &[]);
    client.ready().await;
    for (sent, printed) in [
        ("1758365922 0", "2025-09-20T10:58:42.000000000Z"),
        ("1758365922 665000000", "2025-09-20T10:58:42.665000000Z"),
        ("1758365922 665193000", "2025-09-20T10:58:42.665193000Z"),
        ("1758365922 665193557", "2025-09-20T10:58:42.665193557Z"),
        ("", "1970-01-01T00:00:00.000000000Z"),
    ] {
        assert_eq!(client.send("!time", sent).await, printed, "the answer to {sent:?}");
        assert_eq!(collect(&client, 1).await[0].time, printed, "the message with {sent:?}");
    }
}

async fn client_opens_many_streams_at_once_on_one_connection() {
    let python = python();
    let server = server(&[]);
    let mut client = Python::client(python, server.address, &["streams", "120"]);
    // The client prints this when all streams have their headers, without a message.
    assert_eq!(client.json().await, "open");
    assert_eq!(client.json().await, 120);
}

async fn client_readers_and_senders_share_one_order() {
    const SENDERS: usize = 4;
    const EACH: usize = 100;
    let python = python();
    let server = server(&[]);
    let mut reader = server.reader().await;
    // The test sends as many at the same time.
    let total = 2 * SENDERS * EACH;
    let numbers = [total, SENDERS, EACH].map(|number| number.to_string());
    let mut client = Python::client(python, server.address, &["order", &numbers[0], &numbers[1], &numbers[2]]);
    assert_eq!(client.json().await, "open");
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let mut grpc = server.grpc().await;
        senders.spawn(async move {
            for number in 0..EACH {
                post(&mut grpc, &format!("rust {sender}"), &number.to_string()).await;
            }
        });
    }
    let result = client.json().await;
    senders.join_all().await;
    let order = reader.take(total).await;
    assert_increasing(&order);
    // Python prints the same times.
    let expected =
        json!(order.iter().map(|message| [&message.author, &message.text, &message.time]).collect::<Vec<_>>());
    assert_eq!(result["seen"], json!([expected, expected]));
    let place: HashMap<&Value, usize> =
        expected.as_array().unwrap().iter().enumerate().map(|(place, message)| (message, place)).collect();
    assert_eq!(place.len(), total);
    for mine in result["sent"].as_array().unwrap() {
        let places: Vec<usize> = mine.as_array().unwrap().iter().map(|message| place[message]).collect();
        assert!(places.len() == EACH && places.is_sorted(), "the order of each sender");
    }
}

async fn client_bad_calls_get_their_statuses() {
    let python = python();
    let server = server(&[]);
    let mut reader = server.reader().await;
    let mut client = Python::client(python, server.address, &["statuses"]);
    assert_eq!(
        client.json().await,
        json!({
            "too large": "RESOURCE_EXHAUSTED",
            "far too large": "RESOURCE_EXHAUSTED",
            "no protobuf": "INVALID_ARGUMENT",
            "no UTF-8": "INVALID_ARGUMENT",
            "no such method": "UNIMPLEMENTED",
            "no such service": "UNIMPLEMENTED",
            "as it should be": "OK",
        })
    );
    assert_eq!(reader.next().await.text.len(), (4 << 20) - 64, "only the accepted message is in the room");
}

async fn client_stream_ends_at_its_deadline() {
    let python = python();
    let server = server(&[]);
    let mut client = Python::client(python, server.address, &["deadline", "1.5"]);
    assert_eq!(client.json().await, true, "a message before the deadline");
    let ended = client.json().await;
    assert_eq!(ended[0], "DEADLINE_EXCEEDED");
    assert!((1.4..PATIENCE.as_secs_f64()).contains(&ended[1].as_f64().unwrap()), "{ended}");
}

async fn client_that_falls_behind_gets_resource_exhausted() {
    const SENT: u64 = 40;
    let python = python();
    let server = server(&["--retention-bytes", "8MiB"]);
    let mut client = Python::client(python, server.address, &["slow"]);
    assert_eq!(client.json().await, "open");
    let (mut sender, mut watch) = (server.grpc().await, server.reader().await);
    for _ in 0..SENT {
        post(&mut sender, "rust", &"x".repeat(1 << 20)).await;
        watch.next().await;
    }
    client.say("read").await;
    let ended = client.json().await;
    assert!(ended[0].as_u64().unwrap() < SENT, "{ended}");
    assert_eq!(ended[1], "RESOURCE_EXHAUSTED");
}

async fn client_connects_over_tls_with_a_token() {
    const SENDERS: usize = 4;
    const EACH: usize = 100;
    let python = python();
    let (directory, ca) = (certificates::directory(), certificates::ca("the CA"));
    let ca_file = directory.write("ca.pem", &ca.certificate);
    let identity = directory.identity("server", &ca.sign(&["localhost"]));
    let token = directory.write("token", "the-secret-token");
    let server = server(&["--tls-cert", &identity.0, "--tls-key", &identity.1, "--token-file", &token]);
    let address = format!("localhost:{}", server.address.port());
    let start = |scenario: &[&str], token| {
        let variables = [("MESSENGER_TEST_CA", ca_file.as_str()), ("MESSENGER_TEST_TOKEN", token)];
        Python::start_with(python, "client.py", &[&[address.as_str()], scenario].concat(), &variables)
    };
    let mut client = start(&["streams", "50"], "the-secret-token");
    assert_eq!(client.json().await, "open");
    assert_eq!(client.json().await, 50);
    let numbers = [SENDERS * EACH, SENDERS, EACH].map(|number| number.to_string());
    let mut client = start(&["order", &numbers[0], &numbers[1], &numbers[2]], "the-secret-token");
    assert_eq!(client.json().await, "open");
    let result = client.json().await;
    assert_eq!(result["seen"][0], result["seen"][1]);
    assert_eq!(result["seen"][0].as_array().unwrap().len(), SENDERS * EACH);
    let mut client = start(&["statuses"], "another-token");
    let statuses = client.json().await;
    assert!(statuses.as_object().unwrap().values().all(|status| status == "UNAUTHENTICATED"), "{statuses}");
    let mut client = start(&["health", "", "mes_grpc.MessengerServer"], "another-token");
    let health = client.json().await;
    assert_eq!(health["bytes "], json!(SERVING), "{health}");
}

/// SERVING and NOT_SERVING in the encoding of a health answer.
const SERVING: [u8; 2] = [8, 1];
const NOT_SERVING: [u8; 2] = [8, 2];

async fn client_sees_a_shutdown() {
    let python = python();
    let (mut server, address) = program::server(&[]).await;
    let mut client = Python::client(python, address, &["end"]);
    assert_eq!(client.json().await, json!(SERVING));
    let time = post(&mut support::grpc(address).await, "rust", "the last").await;
    server.signal("TERM");
    let end = client.json().await;
    assert_eq!(end, json!({"seen": [["rust", "the last", time]], "ended": "UNAVAILABLE", "health": NOT_SERVING}));
    assert_eq!(client.json().await, "UNAVAILABLE", "a send to nobody");
    assert!(server.exit().await.success());
}

async fn client_checks_health() {
    let python = python();
    let server = server(&[]);
    let mut client = Python::client(python, server.address, &["health", "", messenger::proto::SERVICE, "nobody"]);
    let answers = client.json().await;
    for name in ["", messenger::proto::SERVICE] {
        assert_eq!(answers[format!("bytes {name}")], json!(SERVING), "{answers}");
    }
    assert_eq!(answers["nobody"], "NOT_FOUND", "{answers}");
}
