//! A bad setting is one line on stderr with the variable and the value, and exit status 2, before
//! any port opens. A port in use is one line and exit status 1.

use std::collections::BTreeSet;
use std::process::Output;

use crate::support;
use crate::support::program::{self, CHAT, CLIENT, SERVER, output};
use crate::support::suite::tests;
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    #[allow(unused_mut)]
    let mut tests = tests![
        bad_values_name_the_variable_and_the_value,
        bad_flags_are_one_line,
        a_flag_wins_over_its_variable,
        a_port_in_use_is_one_line,
        help_and_version_are_printed,
        the_docs_list_the_settings_and_defaults_of_the_help,
        the_health_check_reports_whether_the_program_serves,
        the_log_is_text_or_json_and_contains_no_message,
        a_terminal_gets_colours_unless_no_color_is_set
    ];
    // These need variables that are not UTF-8.
    #[cfg(unix)]
    tests.extend(tests![a_variable_that_is_not_utf8_is_named, malformed_secrets_are_never_printed]);
    tests
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

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
        (SERVER, "MESSENGER_REDIS_URL", "rediss://localhost:6379"),
        (SERVER, "MESSENGER_REDIS_DURABILITY", "paper"),
        (SERVER, "MESSENGER_REDIS_ROOM", "a{b}"),
        (SERVER, "MESSENGER_REDIS_MAX_LENGTH", "-1"),
        (SERVER, "MESSENGER_REDIS_REPLICAS", "101"),
        (SERVER, "MESSENGER_LOG_FORMAT", "xml"),
        (SERVER, "RUST_LOG", "messenger=loud"),
        (SERVER, "RUST_LOG", "\"info\""),
        (CLIENT, "RUST_LOG", "warning"),
        (CHAT, "RUST_LOG", "info debug"),
        (CLIENT, "MESSENGER_SERVER_ADDR", ""),
        (CLIENT, "MESSENGER_SERVER_ADDR", "localhost"),
        (CLIENT, "MESSENGER_SERVER_ADDR", "localhost:99999"),
        (CLIENT, "MESSENGER_SERVER_ADDR", "ftp://localhost:51075"),
        (CLIENT, "MESSENGER_HTTP_PORT", "99999"),
        (CLIENT, "MESSENGER_HTTP_PORT", ""),
        (CLIENT, "MESSENGER_HTTP_HOSTS", ""),
        (CLIENT, "MESSENGER_HTTP_HOSTS", "https://chat.example.com:8080"),
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

#[cfg(unix)]
async fn a_variable_that_is_not_utf8_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let value = std::ffi::OsStr::from_bytes(b"\xff");
    let output = std::process::Command::new(SERVER).env("MESSENGER_SERVER_PORT", value).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(2), 1));
    assert!(stderr(&output).contains("MESSENGER_SERVER_PORT is \u{fffd}: must be UTF-8"), "{}", stderr(&output));
}

async fn bad_flags_are_one_line() {
    for (program, flags, expected) in [
        (SERVER, &["--server-port", "99999"][..], "--server-port"),
        (SERVER, &["--server-port"], "--server-port"),
        (SERVER, &["--port", "5"], "--port"),
        (CLIENT, &["localhost:51075"], "unexpected argument: see --help"),
        (CLIENT, &["--http-port", "1", "--http-port", "2"], "--http-port"),
        (SERVER, &["--health-check=5"], "--health-check"),
    ] {
        let output = output(program, flags, &[]).await;
        let line = stderr(&output);
        assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
        assert!(line.contains(expected), "{line}");
    }
}

async fn a_flag_wins_over_its_variable() {
    let (_server, address) = program::server(&[]).await;
    let good = address.port().to_string();
    let output = output(SERVER, &["--health-check", "--server-port", &good], &[("MESSENGER_SERVER_PORT", "1")]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

async fn a_port_in_use_is_one_line() {
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

async fn help_and_version_are_printed() {
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

async fn the_docs_list_the_settings_and_defaults_of_the_help() {
    // A row begins with the variable, the flag and the default.
    let rows = include_str!("../../docs/settings.md").lines().filter_map(|line| line.strip_prefix("| `"));
    let page: BTreeSet<_> = rows
        .map(|row| row.splitn(4, " | ").take(3).map(|cell| cell.trim_matches('`').to_owned()).collect::<Vec<_>>())
        .collect();
    let mut help = BTreeSet::new();
    for program in [SERVER, CLIENT, CHAT] {
        let text = String::from_utf8(output(program, &["--help"], &[]).await.stdout).unwrap();
        for setting in text.split("\n      --").skip(1) {
            let flag = setting.split([' ', '\n']).next().unwrap();
            let value = |name: &str| {
                let (_, value) = setting.split_once(&format!("\n          [{name}: "))?;
                Some(value.split_once(']')?.0.to_owned())
            };
            // The health check has no variable.
            let Some(variable) = value("env") else { continue };
            let default = value("default").unwrap_or_else(|| "none".to_owned());
            help.insert(vec![variable, format!("--{flag}"), default]);
        }
    }
    assert!(help.len() > 30, "{help:?}");
    assert_eq!(page, help);
}

async fn the_health_check_reports_whether_the_program_serves() {
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
    // The check of a program that hangs fails, and does not hang.
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
    // The client is healthy without its server.
    assert_eq!(check(CLIENT, "MESSENGER_HTTP_PORT", &http_port).await.0, Some(0));
    client.signal("KILL");
    client.exit().await;
    let (status, line) = check(CLIENT, "MESSENGER_HTTP_PORT", &http_port).await;
    assert_eq!((status, line.lines().count()), (Some(1), 1), "{line}");
}

async fn the_log_is_text_or_json_and_contains_no_message() {
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

async fn a_terminal_gets_colours_unless_no_color_is_set() {
    use std::process::Stdio;
    use tokio::io::{AsyncBufReadExt, BufReader};

    if !cfg!(target_os = "linux") {
        support::suite::ignore("script takes other options on this system");
    }
    let cases = [
        (("TERM", "xterm"), true),
        (("NO_COLOR", ""), true),
        (("NO_COLOR", "1"), false),
        (("NO_COLOR", "0"), false),
        (("TERM", "dumb"), false),
    ];
    for (variable, expected) in cases {
        // `script` gives the program a terminal, and closing the terminal ends the program.
        let mut terminal = tokio::process::Command::new("script");
        terminal
            .args(["-qec", SERVER, "/dev/null"])
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        terminal.envs([("MESSENGER_SERVER_PORT", "0"), variable]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut terminal = terminal.kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(terminal.stdout.take().unwrap()).lines();
        let line = support::soon("a line", lines.next_line()).await.unwrap().unwrap();
        assert!(line.contains("server listening"), "{line:?}");
        assert_eq!(line.contains("\x1b["), expected, "{variable:?}: {line:?}");
    }
}

#[cfg(unix)]
async fn malformed_secrets_are_never_printed() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;
    let variables: &[(&str, &[u8])] = &[
        ("MESSENGER_REDIS_URL", b""),
        ("MESSENGER_REDIS_URL", b"s3cret"),
        ("MESSENGER_REDIS_URL", b"user:s3cret@host:6379"),
        ("MESSENGER_REDIS_URL", b"redis:/user:s3cret@host:6379"),
        ("MESSENGER_REDIS_URL", b"redis://user:s3cret@host:http"),
        ("MESSENGER_REDIS_URL", b"redis://user:s3cret"),
        ("MESSENGER_REDIS_URL", b"redis://user:12#s3cret@host"),
        ("MESSENGER_REDIS_URL", b"redis://user:s3cret@\xff"),
        ("MESSENGER_REDIS_URL", b"rediss://user:s3cret@host"),
        ("MESSENGER_REDIS_URL", b"s3cret://host"),
        ("MESSENGER_REDIS_SENTINEL_PASSWORD", b"s3cret"),
        ("MESSENGER_REDIS_SENTINEL_PASSWORD", b"s3cret\xff"),
        ("MESSENGER_TOKEN", b"s3cret with a space"),
        ("MESSENGER_TOKEN", b"s3cret\xff"),
        ("MESSENGER_HTTP_TOKEN", b"s3cret\xff"),
        ("MESSENGER_SERVER_ADDR", b"http://user:s3cret@host:51075"),
        ("MESSENGER_SERVER_ADDR", b"user:s3cret@\xff"),
    ];
    let arguments: &[&[&str]] = &[
        &["--redis-url", "user:s3cret@host"],
        &["--redis-url=redis://user:s3cret@host:http"],
        &["--redis-url", "redis://:12", "s3cret@host"],
        &["--redis-urls=redis://user:s3cret@host"],
        &["MESSENGER_TOKEN=s3cret"],
        &["--health-check=s3cret"],
        &["--token", "s3cret"],
        &["--token=s3cret"],
    ];
    let run = |arguments: &[&str], variable: Option<(&str, &OsStr)>| {
        let mut said = Vec::new();
        for program in [SERVER, CLIENT, CHAT] {
            let is_of = |variable: &str| match program {
                SERVER => variable != "MESSENGER_HTTP_TOKEN" && variable != "MESSENGER_SERVER_ADDR",
                CLIENT => !variable.contains("REDIS"),
                _ => variable != "MESSENGER_SERVER_ADDR",
            };
            if variable.is_some_and(|(variable, _)| !is_of(variable)) {
                continue;
            }
            let mut command = std::process::Command::new(program);
            command.env_clear().args(arguments).envs(variable);
            let output = command.output().unwrap();
            let both = String::from_utf8_lossy(&[&output.stderr[..], &output.stdout].concat()).into_owned();
            assert!(!both.contains("s3cret"), "{program} {arguments:?} {variable:?}: {both}");
            said.push((output.status.code(), both));
        }
        assert!(!said.is_empty());
        said
    };
    for (variable, value) in variables {
        for (status, line) in run(&[], Some((variable, OsStr::from_bytes(value)))) {
            assert_eq!((status, line.lines().count()), (Some(2), 1), "{line}");
            assert!(line.contains(variable), "{line}");
        }
        run(&["--help"], Some((variable, OsStr::from_bytes(value))));
    }
    // A private key without line ends.
    let key = std::env::temp_dir().join(format!("messenger-key-{}", std::process::id()));
    std::fs::write(&key, "-----BEGIN PRIVATE KEY----- s3cret -----END PRIVATE KEY-----\n").unwrap();
    let path = key.to_str().unwrap();
    let output = std::process::Command::new(SERVER).args(["--tls-cert", path, "--tls-key", path]).output().unwrap();
    std::fs::remove_file(&key).unwrap();
    let line = stderr(&output);
    assert!(line.contains("not PEM") && !line.contains("s3cret"), "{line}");
    let good = OsString::from("redis://user:s3cret@host");
    run(&["--help"], Some(("MESSENGER_REDIS_URL", &good)));
    for arguments in arguments {
        for (status, line) in run(arguments, None) {
            assert_eq!((status, line.lines().count()), (Some(2), 1), "{line}");
        }
    }
}
