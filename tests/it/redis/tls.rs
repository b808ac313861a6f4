//! Redis over TLS: the room is the same, a wrong certificate gets no message, and errors are
//! logged.

use crate::support;
use crate::support::certificates::{Directory, ca, directory};
use crate::support::program::{self, SERVER, output};
use crate::support::redis::Engine;
use crate::support::suite::tests;
use crate::support::{Running, post, server, until};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests![
        a_room_over_tls_is_the_same_room,
        a_server_shows_its_certificate_when_redis_asks,
        a_wrong_certificate_gets_no_message,
        incomplete_tls_settings_are_refused_before_a_port_opens
    ]
}

/// Starts a Redis that also listens over TLS with the certificate `name`.
fn engine(files: &Directory, name: &str, more: &[&str]) -> (Engine, String) {
    let port = support::fixed_port().to_string();
    let (certificate, key, ca) = (format!("{name}.pem"), format!("{name}.key"), "ca.pem");
    let [certificate, key, ca] = [&certificate, &key, ca].map(|file| files.path(file));
    let tls = ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let engine = Engine::start(&[&tls, more].concat());
    (engine, format!("rediss://localhost:{port}"))
}

/// A CA, and certificates of Redis and of a server.
fn files() -> Directory {
    let (files, ca) = (directory(), ca("the CA"));
    files.write("ca.pem", &ca.certificate);
    files.identity("engine", &ca.sign(&["localhost", "127.0.0.1"]));
    files.identity("server", &ca.sign(&["messenger"]));
    files
}

fn of(url: &str, files: &Directory, more: &[&str]) -> Running {
    server(&[&["--redis-url", url, "--redis-tls-ca", &files.path("ca.pem")], more].concat())
}

async fn chats(server: &Running) {
    let mut grpc = server.grpc().await;
    let mut reader = until("a stream", async || {
        let stream = grpc.read_messages(()).await.ok()?;
        Some(support::Reader { stream: stream.into_inner() })
    })
    .await;
    let time = post(&mut grpc, "alice", &"x".repeat(1_000_000)).await;
    assert_eq!(reader.next().await.time, time);
}

/// Starts the server program with these settings, and returns its log line about Redis.
async fn complaint(settings: &[(&str, &str)]) -> String {
    let mut server = program::start(SERVER, &[&[("MESSENGER_SERVER_PORT", "0")], settings].concat());
    server.line("redis is away").await
}

async fn a_room_over_tls_is_the_same_room() {
    let files = files();
    let (engine, url) = engine(&files, "engine", &["--tls-auth-clients", "no"]);
    let servers = [of(&url, &files, &[]), server(&["--redis-url", &engine.url()])];
    let mut other = servers[1].reader().await;
    let time = post(&mut servers[0].grpc().await, "alice", "under TLS").await;
    assert_eq!(other.next().await.time, time);
    chats(&servers[0]).await;
}

async fn a_server_shows_its_certificate_when_redis_asks() {
    let files = files();
    let (_engine, url) = engine(&files, "engine", &["--tls-auth-clients", "yes"]);
    let (certificate, key) = (files.path("server.pem"), files.path("server.key"));
    chats(&of(&url, &files, &["--redis-tls-cert", &certificate, "--redis-tls-key", &key])).await;
    let ca = files.path("ca.pem");
    // The first write races with Redis' alert and with the end of the connection. The log has the
    // alert whichever comes first.
    for _ in 0..10 {
        let variables =
            [("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_REDIS_URL", &url), ("MESSENGER_REDIS_TLS_CA", &ca)];
        let line = program::start(SERVER, &variables).line("server closed TLS").await;
        assert!(line.contains("CertificateRequired"), "{line}");
    }
}

async fn a_wrong_certificate_gets_no_message() {
    let files = files();
    files.write("other.pem", &ca("another").certificate);
    files.identity("elsewhere", &ca("the CA").sign(&["elsewhere"]));
    let (engine_there, url) = engine(&files, "engine", &["--tls-auth-clients", "no"]);
    let other = files.path("other.pem");
    let line = complaint(&[("MESSENGER_REDIS_URL", &url), ("MESSENGER_REDIS_TLS_CA", &other)]).await;
    assert!(line.contains("not signed by the configured CA"), "{line}");
    let (_engine, url) = engine(&files, "elsewhere", &["--tls-auth-clients", "no"]);
    let ca = files.path("ca.pem");
    let line = complaint(&[("MESSENGER_REDIS_URL", &url), ("MESSENGER_REDIS_TLS_CA", &ca)]).await;
    assert!(line.contains("no TLS with localhost"), "{line}");
    let plain = engine_there.url().replace("redis://", "rediss://");
    let line = complaint(&[("MESSENGER_REDIS_URL", &plain), ("MESSENGER_REDIS_TLS_CA", &ca)]).await;
    // Redis expects a line without TLS at that port.
    assert!(line.contains("no answer in time"), "{line}");
}

async fn incomplete_tls_settings_are_refused_before_a_port_opens() {
    let files = files();
    let (ca, key) = (files.path("ca.pem"), files.path("server.key"));
    for (settings, names) in [
        (&[("MESSENGER_REDIS_URL", "rediss://user:secret@host")][..], "MESSENGER_REDIS_TLS_CA (--redis-tls-ca)"),
        (
            &[("MESSENGER_REDIS_URL", "redis://host"), ("MESSENGER_REDIS_TLS_CA", &ca)],
            "needs MESSENGER_REDIS_URL (--redis-url) to be rediss://host:port",
        ),
        (&[("MESSENGER_REDIS_TLS_CA", &ca)], "needs MESSENGER_REDIS_URL (--redis-url) to be rediss://host:port"),
        (&[("MESSENGER_REDIS_TLS_KEY", &key)], "MESSENGER_REDIS_TLS_CERT (--redis-tls-cert)"),
        (
            &[("MESSENGER_REDIS_URL", "rediss://host"), ("MESSENGER_REDIS_TLS_CA", "/nowhere")],
            "MESSENGER_REDIS_TLS_CA (--redis-tls-ca) is \"/nowhere\"",
        ),
        (&[("MESSENGER_REDIS_DURABILITY", "paper")], "MESSENGER_REDIS_DURABILITY (--redis-durability) is \"paper\""),
    ] {
        let output = output(SERVER, &[], settings).await;
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(names) && !stderr.contains("secret"), "{stderr}");
    }
}
