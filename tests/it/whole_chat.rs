//! `messenger` is the whole chat in one program. The commands that it prints work.

use crate::support;
use crate::support::program::{self, CHAT, CLIENT, SERVER};
use crate::support::space::Space;
use crate::support::suite::tests;
use crate::support::{grpc, http, reader};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests![
        the_printed_commands_work,
        a_closed_stdout_does_not_stop_the_program,
        a_full_stderr_does_not_stop_the_program,
        all_addresses_are_served_without_ipv6_loopback
    ]
}

async fn the_printed_commands_work() {
    let mut chat = program::start(CHAT, &[("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_HTTP_PORT", "0")]);
    chat.line("Ctrl-C ends it.").await;
    let log = chat.log.clone();
    let line = |text: &str| {
        log.iter().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text} in {log:#?}")).clone()
    };
    let last = |line: &str| line.split(' ').next_back().unwrap().to_owned();

    let grpc_address = last(&line("  gRPC  "));
    let mut stream = reader(&mut grpc(grpc_address.parse().unwrap()).await).await;

    let send = line("/sendMessage");
    let (url, body) = send.split_once(" -d ").unwrap();
    let url = url.strip_prefix("  curl -X POST ").unwrap();
    let address = url.strip_suffix("/sendMessage").unwrap().parse().unwrap();
    let answer = http::post(address, "/sendMessage", body.trim_matches('\'').to_owned()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let message = stream.next().await;
    assert_eq!((message.author.as_str(), message.text.as_str()), ("alice", "hey"));

    assert_eq!(line("/getAndFlushMessages"), format!("  curl -X POST {address}/getAndFlushMessages"));
    support::until("the message", async || http::flush(address).await.contains(&message).then_some(())).await;

    for method in ["SendMessage", "ReadMessages"] {
        let grpcurl = line(&format!("mes_grpc.MessengerServer/{method}"));
        assert!(grpcurl.contains("-plaintext") && grpcurl.contains(&grpc_address), "{grpcurl}");
    }
    // The printed line itself, where curl is installed.
    if let Ok(output) = tokio::process::Command::new("sh").args(["-c", &format!("{} -s", send.trim())]).output().await {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(127) || text.starts_with("{\"sendTime\":\""), "{text}");
    }
}

async fn a_closed_stdout_does_not_stop_the_program() {
    let mut chat = std::process::Command::new(CHAT)
        .args(["--server-port", "0", "--http-port", "0"])
        .env("RUST_LOG", "trace")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // After the first lines both pipes break.
    let mut line = String::new();
    let mut log = std::io::BufReader::new(chat.stderr.take().unwrap());
    while !line.contains("client listening") {
        line.clear();
        std::io::BufRead::read_line(&mut log, &mut line).unwrap();
    }
    drop((log, chat.stdout.take()));
    let port = line.split("address=0.0.0.0:").nth(1).unwrap().split(' ').next().unwrap();
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    for _ in 0..10 {
        http::send(address, "alice", "hey").await;
    }
    assert!(chat.try_wait().unwrap().is_none(), "still there");
    chat.kill().unwrap();
    chat.wait().unwrap();
}

async fn a_full_stderr_does_not_stop_the_program() {
    // A pipe that is never read is full after 64 KiB, and then blocks its writer.
    let mut server = std::process::Command::new(program::SERVER)
        .args(["--server-port", "0", "--log", "trace"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut log = std::io::BufReader::with_capacity(64, server.stderr.take().unwrap());
    while !line.contains("server listening") {
        line.clear();
        std::io::BufRead::read_line(&mut log, &mut line).unwrap();
    }
    let port = line.split("address=0.0.0.0:").nth(1).unwrap().trim();
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    let mut sender = grpc(address).await;
    for _ in 0..2_000 {
        support::post(&mut sender, "alice", "hey").await;
    }
    program::signal(server.id(), "TERM");
    let status = support::until("the end", async || server.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0));
}

async fn all_addresses_are_served_without_ipv6_loopback() {
    let space = Space::new();
    space.ip("-6 address delete ::1/128 dev lo");
    let binds = [("MESSENGER_SERVER_BIND", "::"), ("MESSENGER_HTTP_BIND", "::")];
    let mut chat = space.start(CHAT, &binds);
    chat.line("stream open").await;
    for program in [SERVER, CLIENT] {
        let mut check = space.start_with("--health-check", program, &binds);
        assert!(check.exit().await.success(), "{program}: {:#?}", check.whole_log().await);
    }
}
