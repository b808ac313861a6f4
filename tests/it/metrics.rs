//! Metrics count what happened, on their own port, and peers cannot add names.

#![allow(clippy::float_cmp, reason = "they are counts")]

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::process::Stdio;

use crate::support;
use crate::support::program::{self, CHAT, CLIENT, Program, SERVER};
use crate::support::redis::Engine;
use crate::support::suite::{self, tests, tests_of_each_backend};
use crate::support::{Backend, grpc, http as web, http2, post, reader, soon, until};
use http::Method;
use libtest_mimic::Trial;
use messenger::proto::{IDEMPOTENCY_KEY, SendMessageRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Request;

pub fn tests() -> Vec<Trial> {
    let mut tests = tests![
        the_server_counts_its_calls,
        the_client_counts_its_requests,
        the_combined_program_has_the_metrics_of_both,
        the_dashboard_queries_only_existing_metrics,
        the_docs_list_every_metric,
        refused_tokens_are_counted,
        the_connection_to_redis_is_counted,
        a_scraper_without_openmetrics_gets_the_text_format,
        idle_connections_to_the_metrics_port_do_not_block_others
    ];
    tests.extend(tests_of_each_backend![repeated_messages_are_counted]);
    tests
}

const MIB: usize = 1024 * 1024;

/// All samples by name and labels.
async fn numbers(metrics: SocketAddr) -> HashMap<String, f64> {
    // The header of Prometheus.
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let (content_type, text) = read(metrics, &[("accept", accept)]).await;
    assert!(content_type.starts_with("application/openmetrics-text"), "{content_type}");
    assert!(text.ends_with("# EOF\n"));
    samples(&text).collect()
}

/// Reads the metrics with their content type.
async fn read(metrics: SocketAddr, headers: &[(&str, &str)]) -> (String, String) {
    let answer = web::call(metrics, Method::GET, "/metrics", headers, "").await;
    assert_eq!(answer.status, 200);
    let content_type = answer.headers["content-type"].to_str().unwrap();
    (content_type.to_owned(), String::from_utf8(answer.body.to_vec()).unwrap())
}

fn samples(text: &str) -> impl Iterator<Item = (String, f64)> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
}

/// Waits until a sample has this value. Some events are counted after their peer has its answer.
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

async fn the_server_counts_its_calls() {
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

    // One reader leaves, the other one stops and falls behind.
    drop(one);
    shows(metrics, &handled("server_stream", "ReadMessages", "Canceled"), 1.0).await;
    for _ in 0..40 {
        post(&mut sender, "alice", &"x".repeat(MIB)).await;
    }
    shows(metrics, &handled("server_stream", "ReadMessages", "ResourceExhausted"), 1.0).await;
    shows(metrics, "messenger_readers", 0.0).await;
    drop(other);

    // All unknown names share one label.
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

async fn the_client_counts_its_requests() {
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
    // The counter, and the histogram of the path.
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

async fn the_combined_program_has_the_metrics_of_both() {
    let variables = [("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_HTTP_PORT", "0")];
    let (_chat, address, metrics) = start(CHAT, &variables, "client listening").await;
    shows(metrics, "messenger_client_link_open", 1.0).await;
    web::send(address, "alice", "hey").await;
    shows(metrics, "messenger_messages_total", 1.0).await;
    shows(metrics, "messenger_client_messages_total", 1.0).await;
    let answer = web::call(metrics, Method::GET, "/", &[], "").await;
    assert_eq!(answer.status, 404);
}

async fn the_dashboard_queries_only_existing_metrics() {
    const PREFIXES: [&str; 4] = ["messenger_", "grpc_", "http_", "process_"];
    let dashboard: serde_json::Value = serde_json::from_str(include_str!("../../docs/grafana.json")).unwrap();
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
            // Labels of gRPC metrics begin like names.
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

async fn the_docs_list_every_metric() {
    let page = include_str!("../../docs/metrics.md");
    let redis = Engine::start(&[]);
    let url = redis.url();
    let variables = [
        ("MESSENGER_SERVER_PORT", "0"),
        ("MESSENGER_HTTP_PORT", "0"),
        ("MESSENGER_TOKEN", "s3cret"),
        ("MESSENGER_HTTP_TOKEN", "other"),
        ("MESSENGER_REDIS_URL", url.as_str()),
    ];
    let (_chat, _, metrics) = start(CHAT, &variables, "client listening").await;
    shows(metrics, "messenger_client_link_open", 1.0).await;
    for sample in numbers(metrics).await.into_keys() {
        let name = sample.split('{').next().unwrap();
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let named = page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}{{"));
        assert!(named, "docs/metrics.md does not have {name}");
    }
}

async fn refused_tokens_are_counted() {
    let tokens = [("MESSENGER_TOKEN", "s3cret"), ("MESSENGER_HTTP_TOKEN", "other")];
    let variables = [&[("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_HTTP_PORT", "0")], &tokens[..]].concat();
    let (mut chat, address, metrics) = start(CHAT, &variables, "client listening").await;
    // A line of stdout, which may come before or after the log.
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

async fn the_connection_to_redis_is_counted() {
    let mut engine = Engine::start(&[]);
    let url = engine.url();
    let variables = [("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_REDIS_URL", url.as_str())];
    let (_server, address, metrics) = start(SERVER, &variables, "server listening").await;
    shows(metrics, "messenger_engine_open", 1.0).await;
    shows(metrics, "messenger_engine_lost_total", 0.0).await;
    post(&mut grpc(address).await, "alice", "hey").await;
    engine.kill();
    shows(metrics, "messenger_engine_open", 0.0).await;
    // Without its data.
    engine.start_again();
    shows(metrics, "messenger_engine_begun_anew_total", 1.0).await;
    shows(metrics, "messenger_engine_open", 1.0).await;
    shows(metrics, "messenger_engine_lost_total", 1.0).await;
}

async fn repeated_messages_are_counted(backend: Backend) {
    let room = backend.variables();
    let room = room.iter().map(|(name, value)| (*name, value.as_str()));
    let variables: Vec<_> = [("MESSENGER_SERVER_PORT", "0")].into_iter().chain(room).collect();
    let (_server, address, metrics) = start(SERVER, &variables, "server listening").await;
    let mut grpc = grpc(address).await;
    let mut times = Vec::new();
    for _ in 0..3 {
        let request = || {
            let mut request = Request::new(SendMessageRequest { author: "alice".to_owned(), text: "hey".to_owned() });
            request.metadata_mut().insert(IDEMPOTENCY_KEY, "a-key".parse().unwrap());
            request
        };
        let answer = until("the room", async || grpc.send_message(request()).await.ok()).await;
        times.push(answer.into_inner().send_time);
    }
    assert!(times.iter().all(|time| *time == times[0]), "{times:?}");
    post(&mut grpc, "alice", "another").await;
    shows(metrics, "messenger_messages_total", 2.0).await;
    shows(metrics, "messenger_messages_repeated_total", 2.0).await;
}

/// Checks the metrics with promtool.
async fn promtool(text: &str) {
    suite::require("promtool", "prometheus");
    let command = tokio::process::Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn();
    let mut promtool = command.unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let status = soon("promtool", promtool.wait()).await.unwrap();
    assert!(status.success(), "{status}, see above what it says of\n{text}");
}

async fn a_scraper_without_openmetrics_gets_the_text_format() {
    let (_server, server, server_metrics) = start(SERVER, &[("MESSENGER_SERVER_PORT", "0")], "server listening").await;
    let addr = server.to_string();
    let variables = [("MESSENGER_HTTP_PORT", "0"), ("MESSENGER_SERVER_ADDR", addr.as_str())];
    let (_client, client, client_metrics) = start(CLIENT, &variables, "client listening").await;
    shows(client_metrics, "messenger_client_link_open", 1.0).await;
    // Give each metric with labels a value.
    web::send(client, "alice", "hey").await;
    web::call(client, Method::GET, "/nowhere", &[], "").await;
    grpc(server)
        .await
        .send_message(SendMessageRequest { author: "x".repeat(5 * MIB), ..Default::default() })
        .await
        .unwrap_err();
    shows(server_metrics, &handled("unary", "SendMessage", "ResourceExhausted"), 1.0).await;
    for metrics in [server_metrics, client_metrics] {
        for headers in [&[][..], &[("accept", "*/*")], &[("accept", "text/plain;version=0.0.4")]] {
            let (content_type, text) = read(metrics, headers).await;
            assert!(content_type.starts_with("text/plain; version=0.0.4"), "{headers:?}: {content_type}");
            let names: BTreeSet<_> = samples(&text).map(|(name, _)| name).collect();
            assert_eq!(names, numbers(metrics).await.into_keys().collect(), "the same names in both");
        }
        promtool(&read(metrics, &[]).await.1).await;
    }
}

/// Reads the metrics over this connection, and returns whether the connection stays open.
async fn read_over(connection: &mut TcpStream) -> bool {
    connection
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"# EOF\n") {
        assert_ne!(soon("an answer", connection.read_buf(&mut answer)).await.unwrap(), 0, "no answer");
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:.100}");
    assert_eq!(answer.contains("\r\nkeep-alive: timeout=90\r\n"), !answer.contains("\r\nconnection: close\r\n"));
    answer.contains("\r\nconnection: keep-alive\r\n")
}

async fn idle_connections_to_the_metrics_port_do_not_block_others() {
    const KEPT: usize = 16;
    let (_server, _, metrics) = start(SERVER, &[("MESSENGER_SERVER_PORT", "0")], "server listening").await;
    let mut connections = Vec::new();
    for number in 0..100 {
        let mut connection = TcpStream::connect(metrics).await.unwrap();
        let kept = read_over(&mut connection).await;
        assert_eq!(kept, number < KEPT, "{number}");
        if !kept {
            assert_eq!(soon("the close", connection.read(&mut [0])).await.unwrap(), 0);
        }
        connections.push(connection);
    }
    for connection in &mut connections[..KEPT] {
        assert!(read_over(connection).await);
    }
    // A bad host is refused here too.
    let mut connection = TcpStream::connect(metrics).await.unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon("an answer", connection.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Host is missing"), "{answer}");
}
