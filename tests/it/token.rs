//! With a token, every call over gRPC and HTTP needs it, except health checks. No log has the
//! token.

use std::net::SocketAddr;

use crate::support;
use crate::support::certificates::directory;
use crate::support::program::{self, CLIENT, Program, SERVER, output, start};
use crate::support::suite::tests;
use crate::support::{Grpc, http as web, post, soon, until};
use http::Method;
use libtest_mimic::Trial;
use messenger::net::{Connection, ServerAddr};
use messenger::proto::SendMessageRequest;
use messenger::proto::messenger_server_client::MessengerServerClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

pub fn tests() -> Vec<Trial> {
    tests![
        every_call_but_health_needs_the_token,
        a_missing_token_is_refused_before_anything_else,
        the_client_sends_the_token_and_logs_a_refusal,
        the_token_is_reloaded_while_running,
        the_http_port_needs_its_own_token,
        a_malformed_token_is_one_line_and_never_printed
    ]
}

const TOKEN: &str = "the-secret-token";

/// A request with this authorization.
fn with<T>(authorization: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(authorization) = authorization {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    request
}

fn hey() -> SendMessageRequest {
    SendMessageRequest { author: "alice".to_owned(), text: "hey".to_owned() }
}

async fn connect(address: SocketAddr) -> (Connection, http::Uri) {
    let address = ServerAddr::local(address);
    (Connection::open(&address).await.unwrap(), address.origin())
}

/// Opens a stream with the token.
async fn reader(grpc: &mut Grpc) -> support::Reader {
    let request = with(Some(&format!("Bearer {TOKEN}")), ());
    support::Reader { stream: soon("the headers", grpc.read_messages(request)).await.unwrap().into_inner() }
}

async fn client(server: SocketAddr, more: &[(&str, &str)]) -> (Program, SocketAddr) {
    let server = server.to_string();
    let variables = [("MESSENGER_HTTP_PORT", "0"), ("MESSENGER_SERVER_ADDR", server.as_str())];
    let mut client = start(CLIENT, &[&variables, more].concat());
    let address = client.address("client listening").await;
    (client, address)
}

async fn every_call_but_health_needs_the_token() {
    let directory = directory();
    let server = support::server(&["--token-file", &directory.write("token", &format!("{TOKEN}\n"))]);
    let (connection, origin) = connect(server.address).await;
    let mut grpc = MessengerServerClient::with_origin(connection.clone(), origin.clone());
    let mut stream = reader(&mut grpc).await;
    let mut reflection = ServerReflectionClient::with_origin(connection.clone(), origin.clone());
    let mut health = HealthClient::with_origin(connection.clone(), origin.clone());
    let refused = |status: Status, what: &str| {
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, what));
    };
    for (value, what) in [
        (None, "authorization: Bearer <token> is missing"),
        (Some("Basic dXNlcjpwYXNz"), "authorization is not Bearer <token>"),
        (Some("Bearer the-secret-toke"), "the token in authorization is wrong"),
        (Some("Bearer the-secret-tokeN"), "the token in authorization is wrong"),
        (Some("Bearer the-secret-token2"), "the token in authorization is wrong"),
    ] {
        refused(grpc.send_message(with(value, hey())).await.unwrap_err(), what);
        refused(grpc.read_messages(with(value, ())).await.unwrap_err(), what);
        let question = tokio_stream::once(ServerReflectionRequest::default());
        refused(reflection.server_reflection_info(with(value, question)).await.unwrap_err(), what);
        health.check(with(value, HealthCheckRequest::default())).await.expect("health is nobody's secret");
    }
    let right = format!("Bearer {TOKEN}");
    grpc.send_message(with(Some(&right), hey())).await.expect("accepted");
    grpc.send_message(with(Some(&format!("bearer  {TOKEN}")), hey())).await.expect("the scheme has no case");
    let question = tokio_stream::once(ServerReflectionRequest::default());
    reflection.server_reflection_info(with(Some(&right), question)).await.expect("accepted");
    assert_eq!(stream.take(2).await.len(), 2);
    let (rest, _) = {
        server.stop().await;
        stream.rest().await
    };
    assert_eq!(rest, [], "nothing of what was refused");
}

/// A caller without the token does not learn which methods exist.
async fn a_missing_token_is_refused_before_anything_else() {
    let directory = directory();
    let server = support::server(&["--token-file", &directory.write("token", TOKEN)]);
    let mut requests = support::http2::open(server.address).await;
    for method in ["SendMessage", "Shout"] {
        // The answer comes before the message.
        let (answer, _stream) = support::http2::begin(&mut requests, method);
        assert_eq!(support::http2::status(answer).await, "16");
    }
    // A message that is already on its way is refused without waiting for the rest.
    let (answer, mut stream) = support::http2::begin(&mut requests, "SendMessage");
    let _ = stream.send_data(support::http2::message(&"x".repeat(900_000)), false);
    assert_eq!(support::http2::status(answer).await, "16");
}

async fn the_client_sends_the_token_and_logs_a_refusal() {
    let trace = ("RUST_LOG", "trace");
    let (mut server, address) = program::server(&[("MESSENGER_TOKEN", TOKEN), trace]).await;
    let (mut right, http) = client(address, &[("MESSENGER_TOKEN", TOKEN), trace]).await;
    let time = web::send(http, "alice", "hey").await;
    until("the message", async || web::flush(http).await.iter().any(|seen| seen.time == time).then_some(())).await;

    for (variables, line) in [
        (&[("MESSENGER_TOKEN", "another-token"), trace][..], "error=the token in authorization is wrong"),
        (&[trace], "error=authorization: Bearer <token> is missing"),
    ] {
        let (mut wrong, http) = client(address, variables).await;
        wrong.line(line).await;
        let answer = web::try_send(http, "alice", "hey").await;
        assert_eq!(answer.status, 502, "{:?}", answer.body);
        assert!(answer.problem().starts_with("the server refused the message: "), "{}", answer.problem());
        assert!(answer.problem().contains("authorization"), "{}", answer.problem());
        assert!(web::flush(http).await.is_empty());
        wrong.line(line).await;
        wrong.signal("TERM");
        wrong.line("client stopped").await;
        assert!(!wrong.log.iter().any(|line| line.contains("another-token")), "{:#?}", wrong.log);
    }
    for program in [&mut right, &mut server] {
        program.signal("TERM");
        program.line("stopped").await;
        let told = program.log.iter().find(|line| line.contains(TOKEN) || line.contains("another-token"));
        assert_eq!(told, None);
    }
}

async fn the_token_is_reloaded_while_running() {
    let directory = directory();
    let (server_file, client_file) = (directory.write("server", TOKEN), directory.write("client", TOKEN));
    let (mut server, address) = program::server(&[("MESSENGER_TOKEN_FILE", &server_file)]).await;
    let (mut client, http) = client(address, &[("MESSENGER_TOKEN_FILE", &client_file)]).await;
    web::send(http, "alice", "before").await;
    let (connection, origin) = connect(address).await;
    let mut stream = reader(&mut MessengerServerClient::with_origin(connection, origin)).await;

    // With the line end of Windows.
    directory.write("server", "\u{feff}the-next-token\r\n");
    server.signal("HUP");
    server.line("files reloaded").await;
    // The open stream stays, and a new call needs the new token.
    let answer = web::try_send(http, "alice", "with the old token").await;
    assert_eq!((answer.status.as_u16(), answer.problem().contains("is wrong")), (502, true));

    directory.write("client", "the-next-token");
    client.signal("HUP");
    client.line("files reloaded").await;
    web::send(http, "alice", "after").await;
    assert_eq!(stream.next().await.text, "after", "what was open goes on");

    directory.write("server", "");
    server.signal("HUP");
    server.line("reload failed, keeping the old values").await;
    web::send(http, "alice", "and still").await;
    assert_eq!(stream.next().await.text, "and still");
}

async fn the_http_port_needs_its_own_token() {
    let server = support::server(&[]);
    let variables = [("MESSENGER_HTTP_TOKEN", TOKEN), ("RUST_LOG", "trace")];
    let (mut client, address) = client(server.address, &variables).await;
    let body = r#"{"author": "alice", "text": "hey"}"#;
    let bearer = format!("Bearer {TOKEN}");
    let mut stream = server.reader().await;
    for (authorization, what) in [
        (None, "authorization: Bearer <token> is missing"),
        (Some("Basic dXNlcjpwYXNz"), "authorization is not Bearer <token>"),
        (Some("Bearer another-token"), "the token in authorization is wrong"),
    ] {
        let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
        for (method, path) in [
            (Method::POST, "/sendMessage"),
            (Method::POST, "/getAndFlushMessages"),
            (Method::GET, "/sendMessage"),
            (Method::GET, "/messages"),
            (Method::GET, "/health/"),
            (Method::GET, "/nothing"),
        ] {
            let answer = web::call(address, method, path, &headers, body).await;
            assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, what), "{path}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
        assert_eq!(web::call(address, Method::GET, "/health", &headers, "").await.status, 200);
    }
    // The sender of a large body gets the answer too.
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = "POST /sendMessage HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    soon("all of it to be taken", socket.write_all(&vec![b'x'; 10_000_000])).await.unwrap();
    let mut answer = [0; 12];
    soon("the answer", socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    let headers = [("authorization", bearer.as_str())];
    let answer = web::call(address, Method::POST, "/sendMessage", &headers, body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(web::call(address, Method::GET, "/nothing", &headers, "").await.status, 404);
    assert_eq!(stream.next().await.text, "hey");
    post(&mut server.grpc().await, "bob", "last").await;
    assert_eq!(stream.next().await.text, "last", "nothing of what was refused");
    client.signal("TERM");
    client.line("client stopped").await;
    assert!(!client.log.iter().any(|line| line.contains(TOKEN)), "{:#?}", client.log);
}

async fn a_malformed_token_is_one_line_and_never_printed() {
    let directory = directory();
    let (empty, good) = (directory.write("empty", "\n"), directory.write("good", TOKEN));
    let two = directory.write("two", "the-secret-token and more");
    for (variables, expected) in [
        (&[("MESSENGER_TOKEN", "")][..], "MESSENGER_TOKEN: the token is empty"),
        (&[("MESSENGER_TOKEN", "the-secret-token and more")], "MESSENGER_TOKEN: the token must be 1 to 4096 visible"),
        (&[("MESSENGER_TOKEN_FILE", empty.as_str())], "MESSENGER_TOKEN_FILE (--token-file) is"),
        (&[("MESSENGER_TOKEN_FILE", two.as_str())], "must be 1 to 4096 visible ASCII characters"),
        (&[("MESSENGER_TOKEN_FILE", "/no/such/file")], "No such file"),
        (&[("MESSENGER_TOKEN", TOKEN), ("MESSENGER_TOKEN_FILE", good.as_str())], "both set"),
    ] {
        for program in [SERVER, CLIENT] {
            let output = output(program, &[], variables).await;
            let line = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
            assert!(line.contains(expected) && !line.contains("the-secret"), "{line}");
        }
    }
    for program in [SERVER, CLIENT, program::CHAT] {
        let output = output(program, &["--help"], &[("MESSENGER_TOKEN", TOKEN), ("MESSENGER_HTTP_TOKEN", TOKEN)]).await;
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("MESSENGER_TOKEN") && !help.contains(TOKEN));
    }
}
