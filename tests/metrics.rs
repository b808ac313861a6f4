//! What the programs count is what happened, it is read on a port of its own, and nothing that a peer makes up becomes a name there.

#![allow(clippy::float_cmp, reason = "they are counts")]

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;

use http::Method;
use messenger::proto::SendMessageRequest;
use support::program::{self, CHAT, CLIENT, Program, SERVER};
use support::redis::Engine;
use support::{grpc, http as web, http2, post, reader, until};

const MIB: usize = 1024 * 1024;

/// All samples, by their names with their labels.
async fn numbers(metrics: SocketAddr) -> HashMap<String, f64> {
    let answer = web::call(metrics, Method::GET, "/metrics", &[], "").await;
    assert_eq!(answer.status, 200);
    let content_type = answer.headers["content-type"].to_str().unwrap();
    assert!(content_type.starts_with("application/openmetrics-text"), "{content_type}");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.ends_with("# EOF\n"));
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Waits until a sample has this value: some things are counted after who did them has heard of it.
async fn shows(metrics: SocketAddr, sample: &str, value: f64) {
    let mut last = None;
    let look = async || {
        last = numbers(metrics).await.get(sample).copied();
        (last == Some(value)).then_some(())
    };
    tokio::time::timeout(support::PATIENCE, until(sample, look)).await.ok();
    assert_eq!(last, Some(value), "{sample}");
}

async fn start(program: &str, variables: &[(&str, &str)], line: &str) -> (Program, SocketAddr, SocketAddr) {
    let mut program = program::start(program, &[&[("MESSENGER_METRICS_PORT", "0")], variables].concat());
    let address = program.address(line).await;
    let metrics = program.address("metrics listening").await;
    (program, address, metrics)
}

fn handled(kind: &str, method: &str, code: &str) -> String {
    format!(
        "grpc_server_handled_total{{grpc_type=\"{kind}\",grpc_service=\"mes_grpc.MessengerServer\",grpc_method=\"{method}\",grpc_code=\"{code}\"}}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_server() {
    let variables = [("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_RETENTION_BYTES", "8MiB")];
    let (_server, address, metrics) = start(SERVER, &variables, "server listening").await;
    let mut sender = grpc(address).await;
    let mut one = reader(&mut grpc(address).await).await;
    let other = reader(&mut grpc(address).await).await;
    for _ in 0..10 {
        post(&mut sender, "alice", "hey").await;
    }
    let frame = one.take(10).await.len();
    assert_eq!(frame, 10);
    let too_long = SendMessageRequest { author: String::new(), text: "x".repeat(4 * MIB) };
    sender.send_message(too_long).await.expect_err("too long");
    shows(metrics, &handled("unary", "SendMessage", "OK"), 10.0).await;
    shows(metrics, &handled("unary", "SendMessage", "ResourceExhausted"), 1.0).await;
    shows(metrics, "messenger_messages_total", 10.0).await;
    shows(metrics, "messenger_readers", 2.0).await;
    shows(metrics, "messenger_server_connections", 3.0).await;
    let now = numbers(metrics).await;
    assert!(now["messenger_message_bytes_total"] > 10.0 * 8.0);
    assert_eq!(now["messenger_delivered_bytes_total"], 2.0 * now["messenger_room_bytes"], "two readers had all");
    assert!(now["messenger_fan_out_lag_seconds_count"] >= 1.0);
    assert!(now["process_resident_memory_bytes"] > 1e6 && now["process_start_time_seconds"] > 1.7e9);
    assert!(now.keys().any(|name| name.starts_with("messenger_build_info{version=")));

    // One leaves, the other stops, and falls behind.
    drop(one);
    shows(metrics, &handled("server_stream", "ReadMessages", "Canceled"), 1.0).await;
    for _ in 0..40 {
        post(&mut sender, "alice", &"x".repeat(MIB)).await;
    }
    shows(metrics, &handled("server_stream", "ReadMessages", "ResourceExhausted"), 1.0).await;
    shows(metrics, "messenger_readers", 0.0).await;
    drop(other);

    // Names that are made up are one name.
    let before = numbers(metrics).await.len();
    let mut requests = http2::open(address).await;
    for number in 0..50 {
        let (answer, _stream) = http2::begin(&mut requests, &format!("No{number}"));
        assert_eq!(http2::status(answer).await, "12");
    }
    let after = numbers(metrics).await;
    assert!(after.len() <= before + 2, "{} and then {}", before, after.len());
    let unknown = "grpc_server_started_total{grpc_type=\"unknown\",grpc_service=\"unknown\",grpc_method=\"unknown\"}";
    assert_eq!(after[unknown], 50.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_client() {
    let port = support::fixed_port();
    let server = support::server_on(support::listen(port), &[]);
    let server_addr = server.address.to_string();
    let variables = [("MESSENGER_HTTP_PORT", "0"), ("MESSENGER_SERVER_ADDR", &server_addr)];
    let (_client, address, metrics) = start(CLIENT, &variables, "client listening").await;
    shows(metrics, "messenger_client_link_open", 1.0).await;
    for _ in 0..3 {
        web::send(address, "alice", "hey").await;
    }
    shows(metrics, "messenger_client_messages_total", 3.0).await;
    shows(metrics, "messenger_client_sends_total{outcome=\"sent\"}", 3.0).await;
    shows(metrics, "http_requests_total{method=\"POST\",path=\"/sendMessage\",status=\"200\"}", 3.0).await;
    let waiting = numbers(metrics).await["messenger_client_postbox_bytes"];
    assert_eq!(web::flush(address).await.len(), 3);
    assert!(waiting > 3.0 * 40.0, "{waiting}");
    shows(metrics, "messenger_client_postbox_bytes", 0.0).await;

    let before = numbers(metrics).await.len();
    for number in 0..20 {
        let method = Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
        web::call(address, method, &format!("/made/up/{number}"), &[], "").await;
    }
    let after = numbers(metrics).await;
    assert_eq!(after["http_requests_total{method=\"other\",path=\"other\",status=\"404\"}"], 20.0);
    // The counter, and a histogram of the one path.
    assert!(after.len() <= before + 1 + 12, "{} and then {}", before, after.len());

    server.stop().await;
    shows(metrics, "messenger_client_link_open", 0.0).await;
    let answer = web::call(address, Method::GET, "/ready", &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.problem().contains("server is away")), (503, true));
    let server = support::server_on(support::listen_again(port).await, &[]);
    shows(metrics, "messenger_client_gaps_total", 1.0).await;
    shows(metrics, "messenger_client_link_open", 1.0).await;
    assert_eq!(web::call(address, Method::GET, "/ready", &[], "").await.status, 200);
    let ended: f64 = numbers(metrics)
        .await
        .iter()
        .filter(|(name, _)| name.starts_with("messenger_client_streams_ended_total"))
        .map(|(_, value)| value)
        .sum();
    assert!(ended >= 1.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_both_in_one() {
    let variables = [("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_HTTP_PORT", "0")];
    let (_chat, address, metrics) = start(CHAT, &variables, "client listening").await;
    shows(metrics, "messenger_client_link_open", 1.0).await;
    web::send(address, "alice", "hey").await;
    shows(metrics, "messenger_messages_total", 1.0).await;
    shows(metrics, "messenger_client_messages_total", 1.0).await;
    let answer = web::call(metrics, Method::GET, "/", &[], "").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_what_there_is() {
    const PREFIXES: [&str; 4] = ["messenger_", "grpc_", "http_", "process_"];
    let dashboard: serde_json::Value = serde_json::from_str(include_str!("../docs/grafana.json")).unwrap();
    let variables = [("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_HTTP_PORT", "0")];
    let (_chat, address, metrics) = start(CHAT, &variables, "client listening").await;
    web::send(address, "alice", "hey").await;
    let numbers = numbers(metrics).await;
    let names: Vec<_> = numbers.keys().map(|sample| sample.split('{').next().unwrap()).collect();
    let mut shown = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let words = query.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
            // The labels of gRPC are called so too.
            let labels = ["grpc_method", "grpc_code"];
            for name in
                words.filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)) && !labels.contains(word))
            {
                assert!(names.contains(&name), "{name} in {query}");
                shown += 1;
            }
        }
    }
    assert!(shown >= 15, "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_do_not_get_in() {
    let tokens = [("MESSENGER_TOKEN", "s3cret"), ("MESSENGER_HTTP_TOKEN", "other")];
    let variables = [&[("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_HTTP_PORT", "0")], &tokens[..]].concat();
    let (mut chat, address, metrics) = start(CHAT, &variables, "client listening").await;
    // On stdout, which may come before the log or after it.
    let line = chat.log.iter().find(|line| line.contains("gRPC  ")).cloned();
    let line = if let Some(line) = line { line } else { chat.line("gRPC  ").await };
    let server = line.split_once("gRPC  ").unwrap().1.parse().unwrap();
    for _ in 0..3 {
        grpc(server).await.send_message(SendMessageRequest::default()).await.expect_err("no token");
        assert_eq!(web::call(address, Method::POST, "/sendMessage", &[], "").await.status, 401);
    }
    shows(metrics, "messenger_server_token_refused_total", 3.0).await;
    shows(metrics, "messenger_client_token_refused_total", 3.0).await;
    shows(metrics, &handled("unary", "SendMessage", "Unauthenticated"), 3.0).await;
    shows(metrics, "http_requests_total{method=\"POST\",path=\"/sendMessage\",status=\"401\"}", 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_room_in_an_engine() {
    let Some(mut engine) = Engine::start(&[]) else { return };
    let url = engine.url();
    let variables = [("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_REDIS_URL", url.as_str())];
    let (_server, address, metrics) = start(SERVER, &variables, "server listening").await;
    shows(metrics, "messenger_engine_open", 1.0).await;
    shows(metrics, "messenger_engine_lost_total", 0.0).await;
    post(&mut grpc(address).await, "alice", "hey").await;
    engine.kill();
    shows(metrics, "messenger_engine_open", 0.0).await;
    // With nothing of what it had.
    engine.start_again();
    shows(metrics, "messenger_engine_begun_anew_total", 1.0).await;
    shows(metrics, "messenger_engine_open", 1.0).await;
    shows(metrics, "messenger_engine_lost_total", 1.0).await;
}
