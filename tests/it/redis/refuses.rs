//! Redis answers with errors: senders get its words, the server retries after seconds and logs
//! once, and the room works again when the reason is gone. A refused message is in no stream, and a
//! repetition with its key is accepted once.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::program::{self, Program, SERVER};
use crate::support::redis::Engine;
use crate::support::suite::tests;
use crate::support::{Grpc, client, grpc, http as web, post, reader, soon, until};
use http::Method;
use libtest_mimic::Trial;
use messenger::proto::{IDEMPOTENCY_KEY, NOT_ACCEPTED, SendMessageRequest};
use messenger::send_time::rfc3339;
use tonic::{Code, Request, Status};

pub fn tests() -> Vec<Trial> {
    tests![
        a_key_of_the_wrong_type_is_reported,
        missing_rights_are_reported,
        a_full_memory_is_reported,
        a_foreign_entry_ahead_of_all_messages_is_reported,
        a_read_only_replica_is_reported,
        new_streams_and_clients_get_the_error,
        a_wrong_password_is_reported
    ]
}

const DOCS: &str = include_str!("../../../docs/redis.md");
const PASSWORD: &str = "s3cret";
const STREAM: &str = "{messenger}:stream";
/// How long Redis refuses: several pauses between retries.
const LONG: Duration = Duration::from_secs(4);

/// Starts a server that logs in as a user with all rights.
async fn start(engine: &Engine) -> (Program, SocketAddr, SocketAddr) {
    engine.run::<String>(&["ACL", "SETUSER", "app", "on", ">s3cret", "~*", "+@all"]);
    start_as(engine, PASSWORD).await
}

async fn start_as(engine: &Engine, password: &str) -> (Program, SocketAddr, SocketAddr) {
    let url = format!("redis://app:{password}@127.0.0.1:{}", engine.port);
    let variables =
        [("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_METRICS_PORT", "0"), ("MESSENGER_REDIS_URL", url.as_str())];
    let mut server = program::start(SERVER, &variables);
    let address = server.address("server listening").await;
    let metrics = server.address("metrics listening").await;
    (server, address, metrics)
}

async fn send(grpc: &mut Grpc, text: &str) -> Result<String, Status> {
    let mut request = Request::new(SendMessageRequest { author: "alice".to_owned(), text: text.to_owned() });
    request.metadata_mut().insert(IDEMPOTENCY_KEY, text.parse().unwrap());
    let answer = soon("an answer", grpc.send_message(request)).await?.into_inner();
    Ok(rfc3339(&answer.send_time.expect("a time")).to_string())
}

/// Checks that the sender gets the words of Redis, and that the message was not accepted.
fn assert_told(status: &Status, says: &str) {
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.metadata().contains_key(NOT_ACCEPTED), "{status}");
    assert!(status.message().contains(says) && !status.message().contains(PASSWORD), "{status}");
}

/// The number of refusals in the metrics.
async fn refused(metrics: SocketAddr, says: &str) -> u64 {
    let error = says.split(' ').next().unwrap_or_default();
    let answer = web::call(metrics, Method::GET, "/metrics", &[], "").await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let name = format!("messenger_engine_refused_total{{error=\"{error}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// The log lines about Redis from this one on.
fn about_engine(server: &mut Program, from: usize) -> Vec<String> {
    server.last_lines(0);
    server.log[from..].iter().filter(|line| line.contains(": redis ")).cloned().collect()
}

/// Makes Redis refuse with the commands in `spoil`, and accept again with those in `mend`.
async fn refuses(says: &str, spoil: &[&[&str]], mend: &[&[&str]]) {
    let engine = Engine::start(&[]);
    let (mut server, address, metrics) = start(&engine).await;
    let mut grpc = grpc(address).await;
    until("the engine", async || send(&mut grpc, "first").await.ok()).await;
    let mut reader = reader(&mut grpc).await;
    let client = client(address, &["--send-deadline", "1s"]);
    client.ready().await;
    assert_eq!(reader.next().await.text, "are you there?");
    assert_eq!(refused(metrics, says).await, 0);

    server.last_lines(0);
    let from = server.log.len();
    for command in spoil {
        engine.run::<redis::Value>(command);
    }
    let end = tokio::time::Instant::now() + LONG;
    let mut tries = 0;
    while tokio::time::Instant::now() < end {
        assert_told(&send(&mut grpc, "again").await.expect_err("refused"), says);
        tries += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = web::try_send(client.address, "alice", "over HTTP").await;
    assert_eq!(answer.status, 503);
    assert!(answer.problem().contains(says), "{}", answer.problem());
    let counted = refused(metrics, says).await;
    assert!((1..=40).contains(&counted) && tries > 40, "{counted} of {tries}");
    let lines = about_engine(&mut server, from);
    assert_eq!(lines.iter().filter(|line| line.contains(says)).count(), 1, "{lines:#?}");
    // A master that becomes a replica ends blocked reads with another error.
    assert!(lines.len() <= if says == "READONLY" { 3 } else { 1 }, "{lines:#?}");

    for command in mend {
        engine.run::<redis::Value>(command);
    }
    let mended = tokio::time::Instant::now();
    let time = until("the room", async || send(&mut grpc, "again").await.ok()).await;
    assert!(mended.elapsed() < Duration::from_secs(10), "{:?}", mended.elapsed());
    let next = reader.next().await;
    assert_eq!((next.text.as_str(), &next.time), ("again", &time));
    assert_eq!(send(&mut grpc, "again").await.expect("it is known"), time);
    let last = client.send("alice", "last").await;
    assert_eq!(reader.next().await.time, last, "nothing that was refused");
    until("a line", async || about_engine(&mut server, from).last().filter(|line| line.contains(" INFO ")).map(drop))
        .await;
    server.signal("TERM");
    let log = server.whole_log().await;
    assert!(!log.iter().any(|line| line.contains(PASSWORD)), "{log:#?}");
}

async fn a_key_of_the_wrong_type_is_reported() {
    let spoil: [&[&str]; 2] = [&["RENAME", STREAM, "{messenger}:saved"], &["SET", STREAM, "x"]];
    refuses("WRONGTYPE", &spoil, &[&["RENAME", "{messenger}:saved", STREAM]]).await;
}

async fn missing_rights_are_reported() {
    for command in ["xadd", "set", "hset", "evalsha"] {
        let (deny, allow) = (format!("-{command}"), format!("+{command}"));
        let [spoil, mend]: [&[&str]; 2] = [&["ACL", "SETUSER", "app", &deny], &["ACL", "SETUSER", "app", &allow]];
        refuses("NOPERM", &[spoil], &[mend]).await;
    }
}

async fn a_full_memory_is_reported() {
    refuses("OOM", &[&["CONFIG", "SET", "maxmemory", "1"]], &[&["CONFIG", "SET", "maxmemory", "0"]]).await;
}

async fn a_foreign_entry_ahead_of_all_messages_is_reported() {
    let (_, repair) = DOCS.split_once("EVAL \"").expect("the repair");
    let (script, keys) = repair.split_once("\" ").expect("the script");
    assert!(keys.starts_with("2 {messenger}:stream {messenger}:state\n"), "{keys}");
    let mend = ["EVAL", script, "2", STREAM, "{messenger}:state"];
    for id in ["18446744073709551615-0", "18446744073709551615-18446744073709551615", "9999999999999999-7"] {
        let says = format!("AHEAD of all messages is the id {id} in {STREAM}");
        refuses(&says, &[&["XADD", STREAM, id, "who", "knows"]], &[&mend]).await;
    }
}

async fn a_read_only_replica_is_reported() {
    refuses("READONLY", &[&["REPLICAOF", "127.0.0.1", "1"]], &[&["REPLICAOF", "NO", "ONE"]]).await;
}

async fn new_streams_and_clients_get_the_error() {
    let engine = Engine::start(&[]);
    engine.run::<String>(&["SET", STREAM, "x"]);
    let (mut server, address, metrics) = start(&engine).await;
    let client = client(address, &["--send-deadline", "1s"]);
    let mut grpc = grpc(address).await;
    server.line("WRONGTYPE").await;
    let status = soon("headers", grpc.read_messages(())).await.expect_err("no stream");
    assert!(status.code() == Code::Unavailable && status.message().contains("WRONGTYPE"), "{status}");
    until("what the client says", async || {
        let answer = web::call(client.address, Method::GET, "/ready", &[], "").await;
        assert_eq!(answer.status, 503);
        answer.problem().contains("WRONGTYPE").then_some(())
    })
    .await;
    let answer = web::try_send(client.address, "alice", "hey").await;
    assert!(answer.status == 503 && answer.problem().contains("WRONGTYPE"), "{}", answer.problem());
    assert!(refused(metrics, "WRONGTYPE").await >= 1);
    engine.run::<i64>(&["DEL", STREAM]);
    client.ready().await;
    let lines = about_engine(&mut server, 0);
    assert_eq!(lines.iter().filter(|line| line.contains("WRONGTYPE")).count(), 1, "{lines:#?}");
}

async fn a_wrong_password_is_reported() {
    let engine = Engine::start(&[]);
    engine.run::<String>(&["ACL", "SETUSER", "app", "on", ">other", "~*", "+@all"]);
    let (mut server, address, _) = start_as(&engine, PASSWORD).await;
    server.line("WRONGPASS").await;
    let mut grpc = grpc(address).await;
    let end = tokio::time::Instant::now() + LONG;
    while tokio::time::Instant::now() < end {
        assert_told(&send(&mut grpc, "hey").await.expect_err("refused"), "WRONGPASS");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let lines = about_engine(&mut server, 0);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    engine.run::<String>(&["ACL", "SETUSER", "app", ">s3cret"]);
    until("the room", async || send(&mut grpc, "hey").await.ok()).await;
    post(&mut grpc, "alice", "last").await;
    server.signal("TERM");
    let log = server.whole_log().await;
    assert!(!log.iter().any(|line| line.contains(PASSWORD)), "{log:#?}");
}
