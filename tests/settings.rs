//! A bad setting is one line on stderr with the variable and the value, and exit status 2, before any port opens; a port in use is
//! one line and exit status 1. Never a panic, never a silent default.

mod support;

use std::process::Output;

use support::program::{self, CHAT, CLIENT, SERVER, output};

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_values_name_the_variable_and_the_value() {
    let cases = [
        (SERVER, "MESSENGER_SERVER_PORT", "99999"),
        (SERVER, "MESSENGER_SERVER_PORT", ""),
        (SERVER, "MESSENGER_SERVER_PORT", "http"),
        (SERVER, "MESSENGER_SERVER_PORT", "-1"),
        (SERVER, "MESSENGER_SERVER_PORT", " 51075"),
        (SERVER, "MESSENGER_SERVER_BIND", "localhost"),
        (SERVER, "MESSENGER_RETENTION_BYTES", "1MiB"),
        (SERVER, "MESSENGER_RETENTION_BYTES", "much"),
        (SERVER, "MESSENGER_MAX_MESSAGE_BYTES", "5MiB"),
        (SERVER, "MESSENGER_DRAIN_DEADLINE", "3"),
        (SERVER, "MESSENGER_REDIS_URL", ""),
        (SERVER, "MESSENGER_REDIS_URL", "localhost:6379"),
        (SERVER, "MESSENGER_REDIS_URL", "redis://localhost:http"),
        (SERVER, "MESSENGER_REDIS_URL", "rediss://localhost:6379"),
        (SERVER, "MESSENGER_REDIS_DURABILITY", "paper"),
        (SERVER, "MESSENGER_REDIS_ROOM", "a{b}"),
        (SERVER, "MESSENGER_REDIS_MAX_LENGTH", "-1"),
        (SERVER, "MESSENGER_REDIS_REPLICAS", "101"),
        (SERVER, "MESSENGER_LOG_FORMAT", "xml"),
        (SERVER, "RUST_LOG", "messenger=loud"),
        (CLIENT, "MESSENGER_SERVER_ADDR", ""),
        (CLIENT, "MESSENGER_SERVER_ADDR", "localhost"),
        (CLIENT, "MESSENGER_SERVER_ADDR", "localhost:99999"),
        (CLIENT, "MESSENGER_SERVER_ADDR", "ftp://localhost:51075"),
        (CLIENT, "MESSENGER_HTTP_PORT", "99999"),
        (CLIENT, "MESSENGER_HTTP_PORT", ""),
        (CLIENT, "MESSENGER_MAX_BODY_BYTES", "0"),
        (CLIENT, "MESSENGER_HISTORY_BYTES", "1KiB"),
        (CLIENT, "MESSENGER_SEND_DEADLINE", "later"),
        (CLIENT, "MESSENGER_SEND_DEADLINE", "0s"),
        (CHAT, "MESSENGER_SERVER_PORT", "99999"),
        (CHAT, "MESSENGER_HTTP_PORT", "99999"),
    ];
    for (program, variable, value) in cases {
        let output = output(program, &[], &[(variable, value)]).await;
        let line = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{variable}={value}: {line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(variable) && line.contains(&format!("{value:?}")), "{variable}={value}: {line}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_not_utf8_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let value = std::ffi::OsStr::from_bytes(b"\xff");
    let output = std::process::Command::new(SERVER).env("MESSENGER_SERVER_PORT", value).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(2), 1));
    assert!(stderr(&output).contains("MESSENGER_SERVER_PORT is \u{fffd}: not UTF-8"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_flags_are_one_line_too() {
    for (program, flags, expected) in [
        (SERVER, &["--server-port", "99999"][..], "--server-port"),
        (SERVER, &["--server-port"], "--server-port"),
        (SERVER, &["--port", "5"], "--port"),
        (CLIENT, &["localhost:51075"], "localhost:51075"),
        (CLIENT, &["--http-port", "1", "--http-port", "2"], "--http-port"),
        (SERVER, &["--health-check=5"], "--health-check"),
    ] {
        let output = output(program, flags, &[]).await;
        let line = stderr(&output);
        assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
        assert!(line.contains(expected), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_wins_over_its_variable() {
    let (_server, address) = program::server(&[]).await;
    let good = address.port().to_string();
    let output = output(SERVER, &["--health-check", "--server-port", &good], &[("MESSENGER_SERVER_PORT", "1")]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_said_in_one_line() {
    let taken = support::free_port();
    let port = taken.local_addr().unwrap().port().to_string();
    for (program, variable) in
        [(SERVER, "MESSENGER_SERVER_PORT"), (CLIENT, "MESSENGER_HTTP_PORT"), (CHAT, "MESSENGER_HTTP_PORT")]
    {
        let other = if program == CHAT { ("MESSENGER_SERVER_PORT", "0") } else { ("RUST_LOG", "info") };
        let output = output(program, &[], &[(variable, &port), other]).await;
        let line = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert_eq!(line.matches("in use").count(), 1, "{line}");
        assert!(line.contains(&port), "{line}");
        assert!(output.stdout.is_empty(), "no welcome to a chat that is not there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_and_version_are_there() {
    for program in [SERVER, CLIENT, CHAT] {
        let help = output(program, &["--help"], &[]).await;
        let text = String::from_utf8(help.stdout).unwrap();
        assert_eq!(help.status.code(), Some(0));
        let own: &[&str] = match program {
            SERVER => &["MESSENGER_SERVER_PORT", "[default: 51075]", "--health-check"],
            CLIENT => &["MESSENGER_SERVER_ADDR", "[default: localhost:51075]", "[default: 8080]", "--health-check"],
            _ => &["MESSENGER_SERVER_PORT", "MESSENGER_HTTP_PORT"],
        };
        for word in own.iter().chain(&["RUST_LOG", "MESSENGER_LOG_FORMAT"]) {
            assert!(text.contains(word), "{word} in {text}");
        }
        let version = output(program, &["--version"], &[]).await;
        assert_eq!(version.status.code(), Some(0));
        assert!(String::from_utf8(version.stdout).unwrap().contains(env!("CARGO_PKG_VERSION")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_tells_serving_from_not() {
    let (mut server, address) = program::server(&[]).await;
    let server_port = address.port().to_string();
    let mut client =
        program::start(CLIENT, &[("MESSENGER_HTTP_PORT", "0"), ("MESSENGER_SERVER_ADDR", &address.to_string())]);
    let http_port = client.address("client listening").await.port().to_string();
    let check = async |program, variable, port: &str| {
        let output = output(program, &["--health-check"], &[(variable, port)]).await;
        (output.status.code(), stderr(&output))
    };
    assert_eq!(check(SERVER, "MESSENGER_SERVER_PORT", &server_port).await, (Some(0), String::new()));
    assert_eq!(check(CLIENT, "MESSENGER_HTTP_PORT", &http_port).await, (Some(0), String::new()));
    // One that hangs fails its check, and does not hang that too.
    server.signal("STOP");
    client.signal("STOP");
    for (program, variable, port) in
        [(SERVER, "MESSENGER_SERVER_PORT", &server_port), (CLIENT, "MESSENGER_HTTP_PORT", &http_port)]
    {
        let (status, line) = check(program, variable, port).await;
        assert_eq!((status, line.contains("no answer from")), (Some(1), true), "{line}");
    }
    client.signal("CONT");
    server.signal("KILL");
    server.exit().await;
    let (status, line) = check(SERVER, "MESSENGER_SERVER_PORT", &server_port).await;
    assert_eq!((status, line.lines().count()), (Some(1), 1), "{line}");
    // The client serves without its server; its own health is not the server's.
    assert_eq!(check(CLIENT, "MESSENGER_HTTP_PORT", &http_port).await.0, Some(0));
    client.signal("KILL");
    client.exit().await;
    let (status, line) = check(CLIENT, "MESSENGER_HTTP_PORT", &http_port).await;
    assert_eq!((status, line.lines().count()), (Some(1), 1), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_text_or_json_and_never_has_a_message_in_it() {
    for format in ["text", "json"] {
        let (mut server, address) = program::server(&[("MESSENGER_LOG_FORMAT", format), ("RUST_LOG", "trace")]).await;
        support::post(&mut support::grpc(address).await, "alice", "a secret").await;
        server.signal("TERM");
        server.line("server stopped").await;
        server.exit().await;
        for line in &server.log {
            assert!(!line.contains("a secret"), "{line}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(line).is_ok(), format == "json", "{line}");
        }
    }
}

#[tokio::test]
async fn a_password_is_not_in_the_line() {
    let output = output(SERVER, &[], &[("MESSENGER_REDIS_URL", "redis://user:s3cret@host:http")]).await;
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(line.contains("redis://…@host:http") && !line.contains("s3cret"), "{line}");
}
