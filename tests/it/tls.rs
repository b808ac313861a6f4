//! The chat works over TLS. Peers with a wrong certificate are refused and told, and certificates
//! are reloaded.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support;
use crate::support::certificates::{Ca, Directory, ca, connector, directory, rsa_key, try_grpc};
use crate::support::program::{self, CHAT, CLIENT, Program, SERVER, output, start};
use crate::support::suite::tests;
use crate::support::{Grpc, http, post, reader, soon, until};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use libtest_mimic::Trial;
use messenger::net::WatchedTcp;
use messenger::net::tls::{HTTP1, TlsError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::{self, AlertDescription, pki_types::pem::PemObject};

pub fn tests() -> Vec<Trial> {
    tests![
        the_chat_works_over_tls,
        a_shutdown_over_tls_is_orderly,
        many_small_messages_arrive_in_order_over_tls,
        a_client_refuses_a_server_with_a_wrong_certificate,
        client_certificates_are_required_when_configured,
        health_checks_work_over_tls,
        the_http_port_serves_tls,
        the_combined_program_trusts_itself,
        certificates_are_reloaded_while_running,
        certificates_that_are_not_valid_now_are_a_warning,
        files_with_a_byte_order_mark_are_read,
        plain_text_and_tls_on_the_wrong_port_are_named,
        only_tls_1_2_and_1_3_with_the_right_protocol_are_accepted,
        sighup_ends_a_program_without_files_to_reload,
        sighup_is_ignored_under_nohup,
        wrong_files_are_one_line_before_a_port_opens
    ]
}

/// A directory with a CA and a certificate for localhost.
struct Files {
    directory: Directory,
    ca: Ca,
    ca_file: String,
    server: (String, String),
}

fn files() -> Files {
    let (directory, ca) = (directory(), ca("the CA"));
    let ca_file = directory.write("ca.pem", &ca.certificate);
    let server = directory.identity("server", &ca.sign(&["localhost", "127.0.0.1"]));
    Files { directory, ca, ca_file, server }
}

impl Files {
    async fn server(&self, more: &[(&str, &str)]) -> (Program, u16) {
        let tls = [("MESSENGER_TLS_CERT", self.server.0.as_str()), ("MESSENGER_TLS_KEY", self.server.1.as_str())];
        let (server, address) = program::server(&[&tls, more].concat()).await;
        (server, address.port())
    }

    async fn client(&self, port: u16, more: &[(&str, &str)]) -> (Program, SocketAddr) {
        let server = format!("https://localhost:{port}");
        let tls = [("MESSENGER_TLS_CA", self.ca_file.as_str()), ("MESSENGER_SERVER_ADDR", &server)];
        let mut client = start(CLIENT, &[&[("MESSENGER_HTTP_PORT", "0")], &tls[..], more].concat());
        let address = client.address("client listening").await;
        (client, address)
    }

    async fn grpc(&self, port: u16) -> Grpc {
        try_grpc(port, &self.ca_file, None).await.expect("a connection")
    }
}

async fn comes_back(client: SocketAddr, text: &str) {
    let time = http::send(client, "alice", text).await;
    let mut seen = Vec::new();
    until("the message", async || {
        seen.extend(http::flush(client).await);
        seen.iter().any(|message| message.time == time && message.text == text).then_some(())
    })
    .await;
}

async fn the_chat_works_over_tls() {
    let files = files();
    let (_server, port) = files.server(&[]).await;
    let (_one, one) = files.client(port, &[]).await;
    let (_other, other) = files.client(port, &[]).await;
    comes_back(other, "ready").await;
    let mut grpc = files.grpc(port).await;
    let mut stream = reader(&mut grpc).await;
    // Larger than a TLS record and than all buffers on the way.
    let large = "я".repeat(1_000_000);
    for text in ["hey", "", &large] {
        comes_back(one, text).await;
        assert_eq!(stream.next().await.text, text);
    }
    until("both have it", async || http::flush(other).await.iter().any(|seen| seen.text == large).then_some(())).await;
    let last = post(&mut grpc, "bob", "and back").await;
    until("its message", async || http::flush(one).await.iter().any(|seen| seen.time == last).then_some(())).await;
}

async fn a_shutdown_over_tls_is_orderly() {
    let files = files();
    let (mut server, port) = files.server(&[]).await;
    let (mut client, http) = files.client(port, &[]).await;
    comes_back(http, "hey").await;
    let stream = reader(&mut files.grpc(port).await).await;
    // A connection without a handshake must not delay the shutdown.
    let mut silent = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    post(&mut files.grpc(port).await, "alice", "last").await;
    server.signal("TERM");
    let (messages, status) = stream.rest().await;
    assert_eq!(messages.iter().map(|message| message.text.as_str()).collect::<Vec<_>>(), ["last"]);
    assert_eq!(status.expect("a status").code(), tonic::Code::Unavailable);
    assert!(matches!(soon("the close", silent.read(&mut [0])).await, Ok(0) | Err(_)));
    assert_eq!(server.exit().await.code(), Some(0));
    client.line("the server is shutting down").await;
    server.line("server stopped").await;
    assert!(!server.log.iter().any(|line| line.contains("drain deadline")), "{:#?}", server.log);
}

async fn many_small_messages_arrive_in_order_over_tls() {
    let files = files();
    let (_server, port) = files.server(&[]).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(reader(&mut files.grpc(port).await).await);
    }
    let mut senders = Vec::new();
    for sender in 0..4 {
        let mut grpc = files.grpc(port).await;
        senders.push(tokio::spawn(async move {
            for number in 0..500 {
                post(&mut grpc, &sender.to_string(), &number.to_string()).await;
            }
        }));
    }
    let order = streams[0].take(2000).await;
    support::assert_increasing(&order);
    for stream in &mut streams[1..] {
        assert_eq!(stream.take(2000).await, order);
    }
    for sender in senders {
        sender.await.unwrap();
    }
}

async fn a_client_refuses_a_server_with_a_wrong_certificate() {
    let files = files();
    let (mut server, port) = files.server(&[("RUST_LOG", "debug")]).await;
    // Signed by another CA.
    let stranger = files.directory.write("stranger.pem", &ca("a stranger").certificate);
    let (mut client, _) = files.client(port, &[("MESSENGER_TLS_CA", &stranger)]).await;
    client.line("the peer's certificate is not signed by the configured CA").await;
    server.line("the peer refused the handshake: UnknownCA").await;
    // Another name: the certificate is for localhost and 127.0.0.1.
    let named = format!("https://127.0.0.2:{port}");
    let (mut client, _) = files.client(port, &[("MESSENGER_SERVER_ADDR", &named)]).await;
    client.line("certificate not valid for name \"127.0.0.2\"").await;
    // The address is in the certificate.
    let named = format!("https://127.0.0.1:{port}");
    let (_client, client) = files.client(port, &[("MESSENGER_SERVER_ADDR", &named)]).await;
    comes_back(client, "hey").await;
}

async fn client_certificates_are_required_when_configured() {
    let files = files();
    let clients = ca("the CA of clients");
    let clients_file = files.directory.write("clients.pem", &clients.certificate);
    let alice = files.directory.identity("alice", &clients.sign(&["alice"]));
    let mallory = files.directory.identity("mallory", &ca("another CA").sign(&["alice"]));
    let (mut server, port) = files.server(&[("MESSENGER_TLS_CLIENT_CA", &clients_file), ("RUST_LOG", "debug")]).await;

    let shown = [("MESSENGER_TLS_CLIENT_CERT", alice.0.as_str()), ("MESSENGER_TLS_CLIENT_KEY", alice.1.as_str())];
    let (_client, client) = files.client(port, &shown).await;
    comes_back(client, "hey").await;
    let mut stream = reader(&mut try_grpc(port, &files.ca_file, Some(&alice)).await.unwrap()).await;

    let (mut nobody, _) = files.client(port, &[]).await;
    nobody.line("received fatal alert: CertificateRequired").await;
    server.line("the peer has no certificate").await;
    let shown = [("MESSENGER_TLS_CLIENT_CERT", mallory.0.as_str()), ("MESSENGER_TLS_CLIENT_KEY", mallory.1.as_str())];
    let (mut stranger, _) = files.client(port, &shown).await;
    stranger.line("received fatal alert: ").await;
    server.line("the peer's certificate is not signed by the configured CA").await;

    comes_back(client, "still there").await;
    let texts: Vec<_> = stream.take(1).await.into_iter().map(|message| message.text).collect();
    assert_eq!(texts, ["still there"], "and nothing from those who were refused");
}

async fn health_checks_work_over_tls() {
    let files = files();
    // The health check needs neither the CA, nor the name in the certificate, nor a client
    // certificate.
    let own = files.directory.identity("own", &ca("its own").sign(&["somewhere.example"]));
    let clients = files.directory.write("clients.pem", &files.ca.certificate);
    let tls = [("MESSENGER_TLS_CERT", own.0.as_str()), ("MESSENGER_TLS_KEY", own.1.as_str())];
    let server = [&tls, &[("MESSENGER_TLS_CLIENT_CA", clients.as_str()), ("MESSENGER_TOKEN", "secret")][..]].concat();
    let (_server, address) = program::server(&server).await;
    let port = address.port().to_string();
    let check = async |program, variables: &[(&str, &str)]| {
        let output = output(program, &["--health-check"], variables).await;
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let port = [("MESSENGER_SERVER_PORT", port.as_str())];
    assert_eq!(check(SERVER, &[&port, &server[..]].concat()).await, (Some(0), String::new()));
    let other = [("MESSENGER_TLS_CERT", files.server.0.as_str()), ("MESSENGER_TLS_KEY", files.server.1.as_str())];
    let (status, line) = check(SERVER, &[&port, &other[..]].concat()).await;
    assert_eq!((status, line.contains("the peer's certificate is not the one in the file")), (Some(1), true), "{line}");
    let (status, line) = check(SERVER, &port).await;
    assert_eq!((status, line.lines().count()), (Some(1), 1), "without TLS: {line}");

    let tls = [("MESSENGER_HTTP_TLS_CERT", own.0.as_str()), ("MESSENGER_HTTP_TLS_KEY", own.1.as_str())];
    let http = [&tls, &[("MESSENGER_HTTP_TOKEN", "secret")][..]].concat();
    let mut client = start(CLIENT, &[&[("MESSENGER_HTTP_PORT", "0")], &http[..]].concat());
    let port = client.address("client listening").await.port().to_string();
    let port = [("MESSENGER_HTTP_PORT", port.as_str())];
    assert_eq!(check(CLIENT, &[&port, &http[..]].concat()).await, (Some(0), String::new()));
    let (status, line) = check(CLIENT, &port).await;
    assert_eq!((status, line.lines().count()), (Some(1), 1), "without TLS: {line}");
}

/// Makes an HTTPS request.
async fn https(address: SocketAddr, ca: &str, path: &str) -> (u16, Bytes) {
    let (wire, ..) = WatchedTcp::new(TcpStream::connect(address).await.unwrap());
    let socket = connector(ca, None, HTTP1).connect("localhost", wire).await.expect("TLS");
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = ::http::Request::post(path).header("host", "localhost");
    let body = Full::new(Bytes::from(r#"{"author": "alice", "text": "hey"}"#));
    let answer = soon("an answer", requests.send_request(request.body(body).unwrap())).await.unwrap();
    (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
}

async fn the_http_port_serves_tls() {
    let files = files();
    let (_server, address) = program::server(&[]).await;
    let tls = [("MESSENGER_HTTP_TLS_CERT", files.server.0.as_str()), ("MESSENGER_HTTP_TLS_KEY", &files.server.1)];
    let server = address.to_string();
    let variables = [("MESSENGER_HTTP_PORT", "0"), ("MESSENGER_SERVER_ADDR", &server)];
    let mut client = start(CLIENT, &[&variables, &tls[..]].concat());
    let address = client.address("client listening").await;
    let (status, body) = https(address, &files.ca_file, "/sendMessage").await;
    assert_eq!((status, body.starts_with(b"{\"sendTime\":\"")), (200, true));
    until("the message", async || {
        let (status, body) = https(address, &files.ca_file, "/getAndFlushMessages").await;
        assert_eq!(status, 200);
        body.windows(3).any(|text| text == b"hey").then_some(())
    })
    .await;
    // A request without TLS gets no plain answer.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("the end", plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

async fn the_combined_program_trusts_itself() {
    let files = files();
    let own = files.directory.identity("own", &ca("its own").sign(&["somewhere.example"]));
    let mut chat = start(
        CHAT,
        &[
            ("MESSENGER_SERVER_PORT", "0"),
            ("MESSENGER_HTTP_PORT", "0"),
            ("MESSENGER_TLS_CERT", &own.0),
            ("MESSENGER_TLS_KEY", &own.1),
            ("MESSENGER_TLS_CLIENT_CA", &files.ca_file),
            ("MESSENGER_TOKEN", "the-secret"),
        ],
    );
    chat.line("Ctrl-C ends it.").await;
    assert!(chat.log.iter().any(|line| line.contains("gRPC  https://127.0.0.1:")), "{:#?}", chat.log);
    assert!(!chat.log.iter().any(|line| line.contains("-plaintext") || line.contains("the-secret")), "{:#?}", chat.log);
    let address = chat.log.iter().find_map(|line| line.strip_prefix("  HTTP  http://")).expect("where it is");
    let address = address.parse().expect("an address");
    comes_back(address, "hey").await;
    // With a new certificate too, after the reload.
    files.directory.identity("own", &ca("its next").sign(&["elsewhere.example"]));
    chat.signal("HUP");
    chat.line("files reloaded").await;
    comes_back(address, "ho").await;
}

async fn certificates_are_reloaded_while_running() {
    let files = files();
    let (mut server, port) = files.server(&[]).await;
    let mut old = files.grpc(port).await;
    let mut stream = reader(&mut old).await;
    // A reload is logged even when nothing has changed.
    server.signal("HUP");
    server.line("files reloaded").await;
    let old_ca = files.ca_file.clone();
    for (round, how) in ["signal", "change", "signal"].into_iter().enumerate() {
        let next = ca("the next CA");
        let next_ca = files.directory.write(&format!("next-{round}.pem"), &next.certificate);
        assert!(try_grpc(port, &next_ca, None).await.is_err(), "not yet");
        files.directory.identity("server", &next.sign(&["localhost"]));
        if how == "signal" {
            server.signal("HUP");
        }
        // Between the two writes the files do not match, which a reload may see, but not keep.
        until("the new certificate", async || try_grpc(port, &next_ca, None).await.ok()).await;
        assert!(try_grpc(port, &old_ca, None).await.is_err(), "the old one is gone");
        post(&mut old, "alice", how).await;
        assert_eq!(stream.next().await.text, how, "what was open goes on");
    }
    server.line("files reloaded").await;

    // A reload that fails changes nothing.
    let last_ca = files.directory.path("next-2.pem");
    for (file, contents) in [("server.pem", ""), ("server.key", "nonsense"), ("server.key", &files.ca.sign(&["x"]).key)]
    {
        let before = std::fs::read_to_string(files.directory.path(file)).unwrap();
        files.directory.write(file, contents);
        server.signal("HUP");
        server.line("reload failed, keeping the old values").await;
        try_grpc(port, &last_ca, None).await.expect("as before");
        files.directory.write(file, &before);
        server.signal("HUP");
        server.line("files reloaded").await;
    }
    post(&mut old, "alice", "the end").await;
    assert_eq!(stream.next().await.text, "the end");
}

async fn certificates_that_are_not_valid_now_are_a_warning() {
    const EXPIRED: &str = "the certificate has expired, peers will refuse it";
    let files = files();
    let day = Duration::from_hours(24);
    let now = SystemTime::now();
    let certificate = |begin, end| {
        files.directory.identity("server", &files.ca.sign_within(&["localhost"], begin, end));
    };
    certificate(now - 20 * day, now - 10 * day);
    let (mut server, port) = files.server(&[]).await;
    let line = server.line(EXPIRED).await;
    assert!(line.contains("server.pem"), "{line}");
    let end = humantime::format_rfc3339_seconds(now - 10 * day).to_string();
    assert!(line.contains(&format!("end={end}")), "{line}");
    assert!(try_grpc(port, &files.ca_file, None).await.is_err());

    // The next certificate is checked too.
    certificate(now + 10 * day, now + 20 * day);
    server.line("the certificate is not valid yet, peers will refuse it").await;
    // A valid certificate is reported when it expires. The server checks every 5 s.
    certificate(now - day, SystemTime::now() + Duration::from_secs(8));
    server.line("files reloaded").await;
    server.line(EXPIRED).await;
    certificate(now - day, now + day);
    server.line("files reloaded").await;
    files.grpc(port).await;

    // A client checks its own certificate.
    let expired = files.directory.identity("alice", &files.ca.sign_within(&["alice"], now - 2 * day, now - day));
    let shown = [("MESSENGER_TLS_CLIENT_CERT", expired.0.as_str()), ("MESSENGER_TLS_CLIENT_KEY", &expired.1)];
    let (mut client, _) = files.client(port, &shown).await;
    let line = client.line(EXPIRED).await;
    assert!(line.contains("alice.pem"), "{line}");
    // Valid certificates get no warning.
    let (mut server, port) = files.server(&[]).await;
    post(&mut files.grpc(port).await, "alice", "hey").await;
    server.signal("TERM");
    assert_eq!(server.exit().await.code(), Some(0));
    assert!(!server.whole_log().await.iter().any(|line| line.contains("the certificate")), "{:#?}", server.log);
}

async fn files_with_a_byte_order_mark_are_read() {
    let files = files();
    for name in ["server.pem", "server.key", "ca.pem"] {
        let text = std::fs::read_to_string(files.directory.path(name)).unwrap();
        // After another certificate in the same file too.
        files.directory.write(name, &format!("\u{feff}# From an editor\r\n\u{feff}{}", text.replace('\n', "\r\n")));
    }
    let (_server, port) = files.server(&[]).await;
    let (_client, client) = files.client(port, &[]).await;
    comes_back(client, "hey").await;
}

async fn plain_text_and_tls_on_the_wrong_port_are_named() {
    let files = files();
    let (mut server, port) = files.server(&[("RUST_LOG", "debug")]).await;
    let mut stream = reader(&mut files.grpc(port).await).await;
    // A client without TLS.
    let in_the_clear = format!("localhost:{port}");
    let mut plain = start(CLIENT, &[("MESSENGER_HTTP_PORT", "0"), ("MESSENGER_SERVER_ADDR", &in_the_clear)]);
    plain.line("it may want TLS: https://").await;
    server.line("the peer does not speak TLS").await;
    // A silent connection, and one that ends in the handshake.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    drop(half);
    // A client with TLS for a server without it.
    let (mut in_the_clear, address) = program::server(&[("RUST_LOG", "debug")]).await;
    let (mut client, _) = files.client(address.port(), &[]).await;
    client.line("the peer does not speak TLS").await;
    in_the_clear.line("connection ended").await;
    // Other connections are not affected.
    post(&mut files.grpc(port).await, "alice", "hey").await;
    assert_eq!(stream.next().await.text, "hey");
    post(&mut support::grpc(address).await, "alice", "hey").await;
}

async fn only_tls_1_2_and_1_3_with_the_right_protocol_are_accepted() {
    let files = files();
    let (_server, port) = files.server(&[]).await;
    let connect = async |protocol: &'static [u8]| {
        let (wire, ..) = WatchedTcp::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap());
        connector(&files.ca_file, None, protocol).connect("localhost", wire).await
    };
    connect(b"h2").await.expect("gRPC");
    let refused = connect(HTTP1).await.expect_err("not gRPC");
    assert!(matches!(refused, TlsError::Refused(AlertDescription::NoApplicationProtocol)), "{refused}");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(&files.ca_file).unwrap()).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let provider = Arc::new(rustls_graviola::default_provider());
        // Some clients have no ALPN.
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let socket = connector.connect("localhost".try_into().unwrap(), socket).await.unwrap();
        assert_eq!(socket.get_ref().1.protocol_version(), Some(version.version));
        let (mut requests, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let sent = support::http2::call(&mut requests, "SendMessage", support::http2::message("hey"));
        assert_eq!(support::http2::status(sent).await, "0");
    }
}

async fn sighup_ends_a_program_without_files_to_reload() {
    // A token from a variable is not a file.
    let variables = [
        ("MESSENGER_SERVER_PORT", "0"),
        ("MESSENGER_HTTP_PORT", "0"),
        ("MESSENGER_TOKEN", "a-long-token-of-the-test"),
        ("MESSENGER_SERVER_ADDR", "localhost:1"),
    ];
    for name in [SERVER, CLIENT, CHAT] {
        // The tests themselves may run under `nohup`.
        let mut program = program::start_after("exec env --default-signal=HUP \"$0\"", name, &variables);
        program.line("listening").await;
        program.signal("HUP");
        program.line("shutting down").await;
        // A closing terminal may send the signal more than once.
        program.signal("HUP");
        assert_eq!(program.exit().await.code(), Some(0), "{name}");
        let log = program.whole_log().await;
        assert!(log.iter().any(|line| line.contains("stopped")), "{log:#?}");
    }
}

async fn sighup_is_ignored_under_nohup() {
    for name in [SERVER, CLIENT, CHAT] {
        let variables = [("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_HTTP_PORT", "0")];
        // As `nohup` does, without the file.
        let mut program = program::start_after("trap '' HUP", name, &variables);
        program.line("listening").await;
        program.signal("HUP");
        program.signal("TERM");
        let line = program.line("shutting down").await;
        assert!(line.contains("SIGTERM"), "{line}");
        assert_eq!(program.exit().await.code(), Some(0), "{name}");
    }
}

/// A program, its variables, and the parts of its error: the setting, the value, the reason.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str, &'a str, &'a str);

fn pair<'a>(certificate: &'a str, key: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![("MESSENGER_TLS_CERT", certificate), ("MESSENGER_TLS_KEY", key)]
}

fn http_pair<'a>(certificate: &'a str, key: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![("MESSENGER_HTTP_TLS_CERT", certificate), ("MESSENGER_HTTP_TLS_KEY", key)]
}

async fn wrong_files_are_one_line_before_a_port_opens() {
    let files = files();
    let (certificate, key) = (files.server.0.as_str(), files.server.1.as_str());
    let text = files.directory.write("text", "no certificate");
    let broken = files.directory.write("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let other = files.directory.identity("other", &files.ca.sign(&["localhost"])).1;
    let missing = files.directory.path("missing");
    let short = files.directory.write("short", &rsa_key(1024));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = files.directory.write("encrypted", encrypted);
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
               -----END RSA PRIVATE KEY-----\n";
    let old = files.directory.write("old", old);
    let [utf16, binary] = ["utf16", "binary"].map(|name| files.directory.path(name));
    std::fs::write(&utf16, b"\xff\xfe-\0-\0").unwrap();
    std::fs::write(&binary, b"\x30\x82\x01\x00").unwrap();
    let cases: [Case<'_>; 23] = [
        (SERVER, pair(certificate, &short), "MESSENGER_TLS_KEY", &short, "an RSA key of 1024 bits"),
        (SERVER, pair(certificate, &encrypted), "MESSENGER_TLS_KEY", &encrypted, "is encrypted"),
        (SERVER, pair(certificate, &old), "MESSENGER_TLS_KEY", &old, "is encrypted"),
        (CLIENT, http_pair(certificate, &old), "MESSENGER_HTTP_TLS_KEY", &old, "is encrypted"),
        (SERVER, pair(&utf16, key), "MESSENGER_TLS_CERT", &utf16, "UTF-16"),
        (SERVER, pair(&binary, key), "MESSENGER_TLS_CERT", &binary, "is binary"),
        (SERVER, pair(certificate, &binary), "MESSENGER_TLS_KEY", &binary, "is binary"),
        (SERVER, pair(&missing, key), "MESSENGER_TLS_CERT (--tls-cert)", &missing, "No such file"),
        (SERVER, pair(certificate, &missing), "MESSENGER_TLS_KEY (--tls-key)", &missing, "No such file"),
        (SERVER, pair(&text, key), "MESSENGER_TLS_CERT", &text, "must contain a certificate"),
        (SERVER, pair(&broken, key), "MESSENGER_TLS_CERT", &broken, "bad certificate"),
        (SERVER, pair(certificate, certificate), "MESSENGER_TLS_KEY", certificate, "must contain a private key"),
        (SERVER, pair(certificate, &other), "MESSENGER_TLS_KEY", &other, "must be the key of the certificate in"),
        (SERVER, vec![("MESSENGER_TLS_CERT", certificate)], "MESSENGER_TLS_CERT", certificate, "MESSENGER_TLS_KEY"),
        (SERVER, vec![("MESSENGER_TLS_KEY", key)], "MESSENGER_TLS_KEY", key, "MESSENGER_TLS_CERT"),
        (SERVER, vec![("MESSENGER_TLS_CLIENT_CA", certificate)], "CLIENT_CA", certificate, "MESSENGER_TLS_CERT"),
        (CHAT, pair(certificate, &other), "MESSENGER_TLS_KEY", &other, "must be the key of the certificate in"),
        (
            CHAT,
            http_pair(certificate, &other),
            "MESSENGER_HTTP_TLS_KEY",
            &other,
            "must be the key of the certificate in",
        ),
        (CLIENT, http_pair(certificate, &missing), "MESSENGER_HTTP_TLS_KEY (--http-tls-key)", &missing, "No such file"),
        (
            CLIENT,
            vec![("MESSENGER_SERVER_ADDR", "https://server:51075")],
            "MESSENGER_SERVER_ADDR",
            "https://server:51075",
            "MESSENGER_TLS_CA (--tls-ca)",
        ),
        (CLIENT, vec![("MESSENGER_TLS_CA", &files.ca_file)], "MESSENGER_TLS_CA", &files.ca_file, "not https://"),
        (
            CLIENT,
            vec![("MESSENGER_SERVER_ADDR", "https://server:51075"), ("MESSENGER_TLS_CA", &text)],
            "MESSENGER_TLS_CA",
            &text,
            "must contain a certificate",
        ),
        (
            CLIENT,
            vec![
                ("MESSENGER_SERVER_ADDR", "https://server:51075"),
                ("MESSENGER_TLS_CA", &files.ca_file),
                ("MESSENGER_TLS_CLIENT_CERT", certificate),
            ],
            "MESSENGER_TLS_CLIENT_CERT (--tls-client-cert)",
            certificate,
            "MESSENGER_TLS_CLIENT_KEY",
        ),
    ];
    for (program, variables, variable, value, reason) in cases {
        let output = output(program, &[], &variables).await;
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{variables:?}: {line}");
        for part in [variable, value, reason] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(output.stdout.is_empty());
    }
}
