//! Behind nginx with `deploy/nginx.conf`, messages pass at once, silent streams stay open, and a
//! restart of nginx loses nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::support;
use crate::support::http::{call, send, try_send};
use crate::support::suite::{self, tests};
use crate::support::{Running, fixed_port, grpc, post, program, reader, server, soon, until};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

pub fn tests() -> Vec<Trial> {
    tests![
        each_message_passes_without_waiting_for_the_next,
        a_client_sends_more_calls_than_a_connection_takes_by_default,
        a_connection_that_takes_no_more_calls_is_replaced,
        a_silent_stream_stays_open_with_the_documented_timeout,
        a_restart_of_the_proxy_loses_nothing
    ]
}

const CONFIGURATION: &str = include_str!("../../deploy/nginx.conf");

/// A running nginx with its own folder.
struct Nginx {
    child: Child,
    folder: PathBuf,
    grpc: SocketAddr,
    http: SocketAddr,
}

/// Replaces the only occurrence of a text.
fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to)
}

impl Nginx {
    /// Starts nginx in front of this server and this client, which may start later.
    async fn start(configuration: &str, server: SocketAddr, client: SocketAddr) -> Self {
        let (grpc, http) = ((Ipv4Addr::LOCALHOST, fixed_port()).into(), (Ipv4Addr::LOCALHOST, fixed_port()).into());
        let folder = std::env::temp_dir().join(format!("messenger-nginx-{}-{}", std::process::id(), fixed_port()));
        std::fs::create_dir_all(&folder).unwrap();
        let place = |address: SocketAddr| format!("listen {address}");
        let mut text = replace(configuration, "127.0.0.1:51075", &server.to_string());
        text = replace(&text, "127.0.0.1:8080", &client.to_string());
        text = replace(&text, "listen 51076", &place(grpc));
        text = replace(&text, "listen 8088", &place(http));
        // Folders that are writable without root.
        let own: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};", folder.join(kind).display()))
            .concat();
        text = replace(&text, "http {", &format!("http {{ {own} access_log off;"));
        std::fs::write(folder.join("nginx.conf"), text).unwrap();
        let child = Self::spawn(&folder, http).await;
        Self { child, folder, grpc, http }
    }

    async fn spawn(folder: &PathBuf, http: SocketAddr) -> Child {
        let main = format!("daemon off; pid {}; error_log stderr;", folder.join("pid").display());
        let mut child = Command::new("nginx")
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .args(["-g", &main])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("nginx", async || {
            assert_eq!(child.try_wait().unwrap(), None, "nginx has ended");
            tokio::net::TcpStream::connect(http).await.ok()
        })
        .await;
        child
    }

    /// Ends nginx with all its connections, and starts it again.
    async fn restart(&mut self) {
        self.signal("TERM");
        soon("the end of nginx", self.child.wait()).await.unwrap();
        self.child = Self::spawn(&self.folder, self.http).await;
    }

    fn signal(&self, name: &str) {
        program::signal(self.child.id().expect("it runs"), name);
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM ends the workers too; a kill would leave them.
        if let Some(pid) = self.child.id() {
            program::signal(pid, "TERM");
            while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Starts a server, and a client that is behind nginx on both sides.
async fn chat(configuration: &str) -> (Running, Running, Nginx) {
    let server = server(&[]);
    // nginx is told the port of the client before the client starts.
    let http = support::free_port();
    let address = http.local_addr().unwrap();
    let nginx = Nginx::start(configuration, server.address, address).await;
    let client = support::client_on(http, nginx.grpc, &[]);
    client.ready().await;
    (server, client, nginx)
}

/// An open `GET /messages`.
struct Events {
    body: Incoming,
    rest: Vec<u8>,
}

impl Events {
    async fn open(address: SocketAddr, last: &str) -> Option<Self> {
        let request = Request::get(format!("http://{address}/messages")).header("Last-Event-ID", last);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        let answer = client.request(request.body(Empty::<Bytes>::new()).unwrap()).await.ok()?;
        (answer.status() == 200).then(|| Self { body: answer.into_body(), rest: Vec::new() })
    }

    /// The time of the next message; `None` at the end of the stream or of the connection.
    async fn next(&mut self) -> Option<String> {
        loop {
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                assert_ne!(line, b"event: gap\n", "nothing is missing");
                if let Some(data) = line.strip_prefix(b"data: {") {
                    let message: Value = serde_json::from_slice(&[b"{", data].concat()).unwrap();
                    return Some(message["sendTime"].as_str().unwrap().to_owned());
                }
            }
            let frame = soon("an event", self.body.frame()).await?.ok()?;
            self.rest.extend_from_slice(&frame.into_data().unwrap());
        }
    }
}

async fn each_message_passes_without_waiting_for_the_next() {
    suite::require("nginx", "nginx");
    let (server, client, nginx) = chat(CONFIGURATION).await;
    let page = call(nginx.http, Method::GET, "/", &[], "").await;
    assert_eq!(
        (page.status.as_u16(), page.headers["content-type"].to_str().unwrap()),
        (200, "text/html; charset=utf-8")
    );
    let last = send(nginx.http, "alice", "the first").await;
    // Then the event stream can resume after this message.
    client.collect(1).await;
    let mut events = soon("the stream", Events::open(nginx.http, &last)).await.unwrap();
    let mut foreign = reader(&mut grpc(nginx.grpc).await).await;
    let mut direct = server.grpc().await;
    // Each message is awaited everywhere before the next one is sent: a proxy that buffers would
    // wait forever.
    for number in 0..20 {
        let time = post(&mut direct, "bob", &number.to_string()).await;
        assert_eq!(events.next().await.unwrap(), time);
        assert_eq!(foreign.next().await.time, time);
    }
    // The largest message passes both ways. A larger one is refused by the server or the client,
    // not by nginx.
    let large = "x".repeat((4 << 20) - 100);
    let time = send(nginx.http, "alice", &large).await;
    assert_eq!(foreign.next().await.time, time);
    let refused = try_send(nginx.http, "alice", &"x".repeat(4 << 20)).await;
    assert_eq!(refused.status, 413);
    assert!(refused.problem().contains("refused"), "{}", refused.problem());
    let refused = call(nginx.http, Method::POST, "/sendMessage", &[], "x".repeat((8 << 20) + 1)).await;
    assert!(refused.problem().contains("8388608 bytes"), "{}", refused.problem());
    // A browser that sends an origin.
    let own = format!("http://{}", nginx.http);
    let body = json!({"author": "alice", "text": "hey"}).to_string();
    let answer = call(nginx.http, Method::POST, "/sendMessage", &[("origin", &own)], body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}

/// By default nginx takes a thousand calls on a connection.
async fn a_client_sends_more_calls_than_a_connection_takes_by_default() {
    suite::require("nginx", "nginx");
    let (_server, client, _nginx) = chat(CONFIGURATION).await;
    for number in 0..1500 {
        client.send("alice", &number.to_string()).await;
    }
    assert_eq!(client.collect(1500).await.len(), 1500);
}

/// nginx keeps the stream of such a connection open, so the client has to replace the connection.
async fn a_connection_that_takes_no_more_calls_is_replaced() {
    suite::require("nginx", "nginx");
    let few = replace(CONFIGURATION, "keepalive_requests 1000000000;", "keepalive_requests 10;");
    let (_server, client, nginx) = chat(&few).await;
    for number in 0..35 {
        client.send("alice", &number.to_string()).await;
    }
    let mut got = 0;
    until("all messages", async || {
        let answer = support::http::post(nginx.http, "/getAndFlushMessages", "").await;
        assert!(!answer.headers.contains_key("messenger-gaps"), "nothing is missing");
        got += answer.json().as_array().unwrap().len();
        (got >= 35).then_some(())
    })
    .await;
    assert_eq!(got, 35);
}

async fn a_silent_stream_stays_open_with_the_documented_timeout() {
    const SHORT: Duration = Duration::from_secs(2);
    const SETTING: &str = "grpc_read_timeout 365d;";
    suite::require("nginx", "nginx");
    let server = server(&[]);
    // The default is a minute, which the setting replaces.
    let short = replace(CONFIGURATION, "http {", "http { grpc_read_timeout 2s;");
    let without = replace(&short, SETTING, "");
    let nobody = (Ipv4Addr::LOCALHOST, fixed_port()).into();
    let nginx = Nginx::start(&without, server.address, nobody).await;
    let cut = reader(&mut grpc(nginx.grpc).await).await;
    let (messages, status) = cut.rest().await;
    assert!(messages.is_empty() && status.is_some(), "{status:?}");

    let nginx = Nginx::start(&short, server.address, nobody).await;
    let mut whole = reader(&mut grpc(nginx.grpc).await).await;
    assert!(
        tokio::time::timeout(2 * SHORT, whole.stream.message()).await.is_err(),
        "the stream stays open without a message"
    );
    let time = post(&mut server.grpc().await, "alice", "after the silence").await;
    assert_eq!(whole.next().await.time, time);
}

async fn a_restart_of_the_proxy_loses_nothing() {
    suite::require("nginx", "nginx");
    let quick = replace(CONFIGURATION, "worker_shutdown_timeout 10s;", "worker_shutdown_timeout 100ms;");
    let (server, client, mut nginx) = chat(&quick).await;
    let mut direct = server.grpc().await;
    let mut last = client.send("alice", "the first").await;
    client.collect(1).await;
    let mut expected = Vec::new();
    for round in 0..4 {
        let mut events = until("the stream", async || Events::open(nginx.http, &last).await).await;
        // A restart cuts all connections at once, a reload when the old workers end.
        if round % 2 == 0 {
            nginx.restart().await;
        } else {
            nginx.signal("HUP");
        }
        assert_eq!(events.next().await, None, "the event stream is cut");
        let mut sent = Vec::new();
        for number in 0..10 {
            sent.push(post(&mut direct, "bob", &number.to_string()).await);
        }
        let mut events = until("the stream", async || Events::open(nginx.http, &last).await).await;
        for time in &sent {
            assert_eq!(events.next().await.as_ref(), Some(time), "the event stream resumes");
        }
        last = sent.last().unwrap().clone();
        expected.append(&mut sent);
    }
    let mut got = Vec::new();
    until("all messages", async || {
        let answer = support::http::post(nginx.http, "/getAndFlushMessages", "").await;
        assert_eq!(answer.status, 200);
        assert!(!answer.headers.contains_key("messenger-gaps"), "nothing is missing");
        for message in answer.json().as_array().unwrap() {
            got.push(message["sendTime"].as_str().unwrap().to_owned());
        }
        (got.len() >= expected.len()).then_some(())
    })
    .await;
    assert_eq!(got, expected);
}
