//! The OpenAPI document matches the client: it lists every route, and each operation gives exactly
//! the listed answers with their types, headers and bodies. schemathesis, which generates requests
//! from the document, finds no mismatch.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::support;
use crate::support::http::{call, post};
use crate::support::suite::{self, tests};
use crate::support::{client, free_port, program, server, server_on, until};
use http::Method;
use libtest_mimic::Trial;
use messenger::send_time::SendTime;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

pub fn tests() -> Vec<Trial> {
    tests![
        references_and_components_match,
        every_route_is_documented_with_every_method,
        every_documented_answer_is_given,
        schemathesis_finds_nothing,
        schemathesis_finds_nothing_while_the_server_is_away
    ]
}

const DOCUMENT: &str = include_str!("../../src/client/http/openapi.json");
const ROUTES: &str = include_str!("../../src/client/http/routes.rs");

/// The largest body in these tests. There is room for 16 of them.
const MAX_BODY: usize = 32 * 1024;
/// Longer than a body may take (40 s).
const PATIENCE: Duration = Duration::from_mins(2);
const MESSAGE: &str = r#"{"author": "alice", "text": "hey"}"#;

/// The document, which answers are checked against.
struct Document {
    root: Value,
    /// The operations and statuses that were seen.
    seen: BTreeSet<(String, u16)>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Document {
    fn read() -> Self {
        Self { root: serde_json::from_str(DOCUMENT).expect("JSON"), seen: BTreeSet::new() }
    }

    /// The method and path of each operation.
    fn operations(&self) -> Vec<(Method, String)> {
        let mut all = Vec::new();
        for (path, methods) in self.root["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                all.push((method.to_uppercase().parse().unwrap(), path.clone()));
            }
        }
        all
    }

    /// The target of a `$ref`, or the value itself.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value.get("$ref") else { return value };
        let reference = reference.as_str().expect("text");
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} is elsewhere"));
        self.root.pointer(pointer).unwrap_or_else(|| panic!("{reference} is not there"))
    }

    /// Fails unless the document lists this answer with its headers and its body.
    fn check(&mut self, method: &Method, path: &str, answer: &Answer) {
        let what = format!("{method} {path}: {}", answer.status);
        let operation = &self.root["paths"][path][method.as_str().to_lowercase()];
        let response = self.resolve(&operation["responses"][answer.status.to_string()]);
        assert!(response["description"].is_string(), "{what} is not in the document");
        let none = serde_json::Map::new();
        let headers = response["headers"].as_object().unwrap_or(&none);
        for (name, header) in headers {
            let header = self.resolve(header);
            match answer.header(name) {
                Some(value) => {
                    let value = serde_json::from_str(value).ok().filter(Value::is_i64).unwrap_or(json!(value));
                    self.check_value(&format!("{what}: {name}"), &header["schema"], &value);
                }
                None => assert!(header.get("required").is_none(), "{what}: no header {name}"),
            }
        }
        for (name, _) in &answer.headers {
            let of_http = ["content-type", "content-length", "date", "connection", "transfer-encoding"];
            let known = headers.keys().any(|known| known.eq_ignore_ascii_case(name));
            assert!(known || of_http.contains(&name.as_str()), "{what}: the header {name} is not in the document");
        }
        let Some(content) = response.get("content") else {
            assert!(answer.body.is_empty() && answer.header("content-type").is_none(), "{what}: {answer:?}");
            self.seen.insert((format!("{method} {path}"), answer.status));
            return;
        };
        let content_type = answer.header("content-type").unwrap_or_default();
        let schema = &content[content_type]["schema"];
        assert!(schema.is_object(), "{what}: {content_type} is not in the document");
        let body = if content_type.ends_with("json") {
            serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{what}: {error}"))
        } else {
            json!(std::str::from_utf8(&answer.body).unwrap())
        };
        self.check_value(&what, schema, &body);
        self.seen.insert((format!("{method} {path}"), answer.status));
    }

    /// Checks the parts of JSON Schema that the document uses. schemathesis checks all of it, with
    /// patterns.
    fn check_value(&self, what: &str, schema: &Value, value: &Value) {
        let schema = self.resolve(schema);
        for (keyword, rule) in schema.as_object().expect("a schema") {
            let good = match keyword.as_str() {
                "type" => match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64(),
                    other => panic!("{other}?"),
                },
                "const" => value == rule,
                "required" => rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
                "properties" => {
                    for (name, rule) in rule.as_object().unwrap() {
                        self.check_value(&format!("{what}: {name}"), rule, &value[name]);
                    }
                    true
                }
                "additionalProperties" => {
                    assert_eq!(rule, false);
                    value.as_object().unwrap().keys().all(|name| schema["properties"].get(name).is_some())
                }
                "items" => {
                    value.as_array().unwrap().iter().for_each(|item| self.check_value(what, rule, item));
                    true
                }
                "allOf" => {
                    rule.as_array().unwrap().iter().for_each(|rule| self.check_value(what, rule, value));
                    true
                }
                "minimum" => value.as_i64() >= rule.as_i64(),
                "maximum" => value.as_i64() <= rule.as_i64(),
                "minLength" => value.as_str().unwrap().chars().count() as u64 >= rule.as_u64().unwrap(),
                "format" => {
                    assert_eq!(rule, "date-time");
                    value.as_str().unwrap().parse::<SendTime>().is_ok()
                }
                "pattern" | "description" => true,
                other => panic!("{what}: this test does not know {other}"),
            };
            assert!(good, "{what}: {value} is against {keyword}: {rule}");
        }
    }
}

/// A request whose body may be shorter than announced.
async fn begin(
    address: SocketAddr,
    method: &Method,
    path: &str,
    headers: &str,
    length: usize,
    body: &[u8],
) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let host = if headers.starts_with("host: ") { String::new() } else { format!("host: {address}\r\n") };
    let head =
        format!("{method} {path} HTTP/1.1\r\n{host}connection: close\r\n{headers}content-length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    socket
}

/// The answer, or the beginning of an endless one.
async fn answer(mut socket: TcpStream) -> Answer {
    let read = async {
        let mut bytes = Vec::new();
        let head = loop {
            assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0, "{}", String::from_utf8_lossy(&bytes));
            if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let mut body = bytes.split_off(head);
        let head = String::from_utf8(bytes).unwrap();
        let mut lines = head.trim_end().lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers: Vec<_> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        if headers.iter().any(|(name, _)| name == "transfer-encoding") {
            while !body.windows(2).any(|end| end == b"\n\n") {
                assert_ne!(socket.read_buf(&mut body).await.unwrap(), 0, "events");
            }
        } else {
            socket.read_to_end(&mut body).await.unwrap();
        }
        Answer { status, headers, body }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("an answer")
}

async fn ask(address: SocketAddr, method: &Method, path: &str, headers: &str, body: &str) -> Answer {
    answer(begin(address, method, path, headers, body.len(), body.as_bytes()).await).await
}

async fn references_and_components_match() {
    fn references<'a>(value: &'a Value, all: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(map) => {
                all.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, all));
            }
            Value::Array(array) => array.iter().for_each(|value| references(value, all)),
            _ => {}
        }
    }
    let document = Document::read();
    let mut all = BTreeSet::new();
    references(&document.root, &mut all);
    let mut components = BTreeSet::new();
    // Security schemes are referred to by name.
    let kinds = document.root["components"].as_object().unwrap().iter().filter(|(kind, _)| *kind != "securitySchemes");
    for (kind, named) in kinds {
        components.extend(named.as_object().unwrap().keys().map(|name| format!("#/components/{kind}/{name}")));
    }
    assert_eq!(all, components.iter().map(String::as_str).collect());
}

async fn every_route_is_documented_with_every_method() {
    let document = Document::read();
    let routes = ROUTES.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    let paths = document.root["paths"].as_object().unwrap().keys().cloned();
    assert_eq!(routes.collect::<BTreeSet<_>>(), paths.collect());

    let client = client((Ipv4Addr::LOCALHOST, support::fixed_port()).into(), &[]);
    let served = call(client.address, Method::GET, "/openapi.json", &[], "").await.json();
    assert_eq!(served["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(served["paths"], document.root["paths"]);
    for (method, path) in document.operations() {
        let allowed = if method == "GET" { vec![Method::GET, Method::HEAD] } else { vec![method] };
        for wrong in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"] {
            let wrong: Method = wrong.parse().unwrap();
            if !allowed.contains(&wrong) {
                let answer = ask(client.address, &wrong, &path, "", "").await;
                assert_eq!(answer.status, 405, "{wrong} {path}");
                let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
                assert_eq!(answer.header("allow"), Some(&*names.join(",")), "{wrong} {path}");
            }
        }
    }
}

async fn every_documented_answer_is_given() {
    let mut document = Document::read();
    let operations = document.operations();
    let first = server_on(support::listen(support::fixed_port()), &[]);
    let server_address = first.address;
    let chat = client(server_address, &["--max-body-bytes", &MAX_BODY.to_string()]);
    let address = chat.address;
    chat.ready().await;

    // Good requests, with messages in the buffer.
    for (method, path) in &operations {
        chat.send("alice", "hey").await;
        let good = ask(address, method, path, "", if path == "/sendMessage" { MESSAGE } else { "" }).await;
        assert_eq!(good.status, 200, "{method} {path}");
        document.check(method, path, &good);
        if method == Method::GET {
            let head = ask(address, &Method::HEAD, path, "", "").await;
            let headers = |answer: &Answer| {
                answer
                    .headers
                    .iter()
                    .filter(|(name, _)| !["date", "transfer-encoding"].contains(&&**name))
                    .cloned()
                    .collect::<BTreeSet<_>>()
            };
            assert_eq!((head.status, headers(&head)), (200, headers(&good)), "HEAD {path}");
        }
        if let Some(tag) = good.header("etag") {
            document.check(method, path, &ask(address, method, path, &format!("if-none-match: {tag}\r\n"), "").await);
        }
    }
    // A flush with messages.
    first.stop().await;
    let _second = server_on(support::listen_again(server_address.port()).await, &[]);
    let flush = until("the gap", async || {
        let flush = ask(address, &Method::POST, "/getAndFlushMessages", "", "").await;
        flush.header("messenger-gaps").is_some().then_some(flush)
    })
    .await;
    document.check(&Method::POST, "/getAndFlushMessages", &flush);

    // Errors of any request: cut, too large, or from another site.
    for (method, path) in &operations {
        let mut cut = begin(address, method, path, "", 5, b"ab").await;
        cut.shutdown().await.unwrap();
        document.check(method, path, &answer(cut).await);
        document.check(method, path, &ask(address, method, path, "", &"x".repeat(MAX_BODY + 1)).await);
        if method == Method::POST {
            document.check(method, path, &ask(address, method, path, "sec-fetch-site: cross-site\r\n", MESSAGE).await);
        }
    }
    // Errors of a message.
    let send = async |headers: &str, body: &str| ask(address, &Method::POST, "/sendMessage", headers, body).await;
    for body in ["", "hey", "[]", "{}", r#"{"author": 5, "text": ""}"#] {
        document.check(&Method::POST, "/sendMessage", &send("", body).await);
    }
    document.check(&Method::POST, "/sendMessage", &send("idempotency-key: a b\r\n", MESSAGE).await);
    assert_eq!(send("idempotency-key: once\r\n", MESSAGE).await.status, 200);
    document.check(
        &Method::POST,
        "/sendMessage",
        &send("idempotency-key: once\r\n", r#"{"author": "", "text": ""}"#).await,
    );
    without_token(&mut document, server_address).await;
    rebound(&mut document, address).await;
    document.check(&Method::POST, "/sendMessage", &send("content-encoding: gzip\r\n", MESSAGE).await);
    panics(&mut document, server_address).await;
    // Errors of the server.
    for (server, status) in [(silent(), 504), (failing(), 502)] {
        let client = client(server, &["--send-deadline", "1500ms"]);
        let answer = ask(client.address, &Method::POST, "/sendMessage", "", MESSAGE).await;
        assert_eq!(answer.status, status);
        document.check(&Method::POST, "/sendMessage", &answer);
    }

    // Incomplete bodies fill the room: others are refused, and these time out.
    let mut hanging = JoinSet::new();
    for (number, (method, path)) in operations.iter().cycle().take(16 + operations.len()).cloned().enumerate() {
        // The last bodies are small, and find room.
        hanging.spawn(hang(address, method, path, if number < 16 { MAX_BODY } else { 100 }));
    }
    let large = format!("{MESSAGE}{}", " ".repeat(20 * 1024));
    for (method, path) in &operations {
        let full = until("a refusal", async || {
            let answer = ask(address, method, path, "", &large).await;
            if answer.status == 200 {
                // An incomplete body was refused beside this one, so another one takes its room.
                hanging.spawn(hang(address, method.clone(), path.clone(), MAX_BODY));
            }
            (answer.status != 200).then_some(answer)
        })
        .await;
        document.check(method, path, &full);
    }
    while let Some(answered) = hanging.join_next().await {
        let (method, path, answer) = answered.unwrap();
        document.check(&method, &path, &answer);
    }

    let mut listed = BTreeSet::new();
    for (method, path) in &operations {
        let operation = &document.root["paths"][path][method.as_str().to_lowercase()];
        let statuses = operation["responses"].as_object().unwrap().keys();
        listed.extend(statuses.map(|status| (format!("{method} {path}"), status.parse().unwrap())));
    }
    let missing: Vec<_> =
        listed.difference(&document.seen).filter(|(_, status)| can_panic() || *status != 500).collect();
    assert!(missing.is_empty(), "listed, and never given: {missing:?}");
}

/// Calls each operation without the token.
async fn without_token(document: &mut Document, server_address: SocketAddr) {
    let file = std::env::temp_dir().join(format!("messenger-token-{}", std::process::id()));
    std::fs::write(&file, "s3cret").unwrap();
    let locked = support::client(server_address, &["--http-token-file", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    for (method, path) in document.operations() {
        let answer = ask(locked.address, &method, &path, "", "").await;
        let secured = !document.root["paths"][&path][method.as_str().to_lowercase()]["security"].is_null();
        assert_eq!(answer.status == 401, secured, "{method} {path}");
        document.check(&method, &path, &answer);
    }
}

/// Calls each operation as a browser under a foreign host name.
async fn rebound(document: &mut Document, address: SocketAddr) {
    for (method, path) in document.operations() {
        let answer = ask(address, &method, &path, "host: evil.example\r\nsec-fetch-site: same-origin\r\n", "").await;
        let listed = document.root["paths"][&path][method.as_str().to_lowercase()]["responses"].get("403").is_some();
        assert_eq!(answer.status == 403, listed, "{method} {path}");
        document.check(&method, &path, &answer);
    }
}

/// Whether the programs can be asked to panic.
fn can_panic() -> bool {
    cfg!(debug_assertions)
}

/// Calls each operation in a client that panics in its first handler.
async fn panics(document: &mut Document, server: SocketAddr) {
    if !can_panic() {
        return;
    }
    for (method, path) in document.operations() {
        let variables = [
            ("MESSENGER_HTTP_PORT", "0"),
            ("MESSENGER_SERVER_ADDR", &server.to_string()),
            ("MESSENGER_TEST_PANIC", "handler"),
        ];
        let mut program = program::start(program::CLIENT, &variables);
        let address = program.address("client listening").await;
        let answer = ask(address, &method, &path, "", "").await;
        assert_eq!(answer.status, 500, "{method} {path}");
        document.check(&method, &path, &answer);
    }
}

/// Sends a request with an incomplete body, and returns the answer.
async fn hang(address: SocketAddr, method: Method, path: String, length: usize) -> (Method, String, Answer) {
    let part = vec![b' '; length - 1];
    let socket = begin(address, &method, &path, "", length, &part).await;
    let answer = answer(socket).await;
    (method, path, answer)
}

/// Starts a server that opens the stream and never answers a message.
fn silent() -> SocketAddr {
    other_server(false)
}

/// Starts a server that opens the stream and ends all other calls with `INTERNAL`.
fn failing() -> SocketAddr {
    other_server(true)
}

fn other_server(answers: bool) -> SocketAddr {
    let listener = free_port();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                let (mut streams, mut unanswered) = (Vec::new(), Vec::new());
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let response = http::Response::builder().header("content-type", "application/grpc");
                    if request.uri().path().ends_with("/ReadMessages") {
                        streams.push(respond.send_response(response.body(()).unwrap(), false).unwrap());
                    } else if answers {
                        let response = response.header("grpc-status", "13").body(()).unwrap();
                        respond.send_response(response, true).unwrap();
                    } else {
                        unanswered.push(respond);
                    }
                }
            });
        }
    });
    address
}

fn require_schemathesis() {
    let version = std::process::Command::new("schemathesis").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        suite::missing("schemathesis (PyPI: schemathesis)");
    }
}

/// Runs schemathesis against the client at `address`, and returns its output.
async fn schemathesis(address: SocketAddr, arguments: &[&str]) -> String {
    let folder = std::env::temp_dir().join(format!("messenger-openapi-{}-{}", std::process::id(), address.port()));
    std::fs::create_dir_all(&folder).unwrap();
    // From a file: the operation that serves a fetched document is not tested.
    let document = call(address, Method::GET, "/openapi.json", &[], "").await.body;
    std::fs::write(folder.join("openapi.json"), document).unwrap();
    let mut command = tokio::process::Command::new("schemathesis");
    command.args(["run", "openapi.json", "--url", &format!("http://{address}"), "--no-color"]);
    // The same requests every time. The endless event stream is left out.
    command.args(["--seed", "7", "--generation-database", "none", "--exclude-path", "/messages", "--checks", "all"]);
    command.args([
        "--phases",
        "examples,coverage,fuzzing",
        "--suppress-health-check",
        "all",
        "--request-timeout",
        "30",
    ]);
    command.args(arguments).current_dir(&folder).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_mins(5), command.output()).await.expect("its end").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let operations = Document::read().operations().len();
    assert!(said.contains(&format!("Tested: {}", operations - 1)), "{said}");
    said
}

async fn schemathesis_finds_nothing() {
    require_schemathesis();
    let server = server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    schemathesis(client.address, &["--max-examples", "200"]).await;
    assert!(!client.flush().await.is_empty(), "it has sent messages");
}

/// Sends fail with the documented answer, and everything else works.
async fn schemathesis_finds_nothing_while_the_server_is_away() {
    require_schemathesis();
    let gone = (Ipv4Addr::LOCALHOST, support::fixed_port()).into();
    let client = client(gone, &["--send-deadline", "10ms"]);
    assert_eq!(post(client.address, "/sendMessage", MESSAGE).await.status, 503);
    schemathesis(client.address, &["--max-examples", "50", "--exclude-checks", "not_a_server_error"]).await;
}
