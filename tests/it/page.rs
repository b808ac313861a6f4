//! The page and its event stream over HTTP: headers, resumption, gaps, limits and the shutdown.
//! `browser.rs` tests the page in a browser.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::http::{call, flush};
use crate::support::program::{self, CHAT, CLIENT};
use crate::support::proxy::{Mode, proxy};
use crate::support::suite::tests;
use crate::support::{Message, client, listen, listen_again, post, server, server_on, soon, until};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

pub fn tests() -> Vec<Trial> {
    tests![
        the_page_has_a_strict_content_security_policy,
        the_event_stream_takes_nothing_from_a_flush,
        cut_event_streams_resume_without_a_gap_or_a_repeat,
        a_gap_is_reported_once_and_in_its_place,
        an_unknown_event_id_is_a_gap,
        a_slow_page_is_told_and_costs_bounded_memory,
        the_number_of_event_streams_is_limited,
        a_closed_event_stream_frees_its_slot,
        a_half_closed_event_stream_still_delivers,
        open_event_streams_do_not_delay_the_shutdown,
        the_event_stream_reports_the_state_of_the_server
    ]
}

const MIB: usize = 1024 * 1024;

/// An event, parsed as the standard demands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Message(Message),
    Gap,
    State(String),
}

/// An open `GET /messages`.
struct Events {
    body: Incoming,
    rest: Vec<u8>,
    /// The `Last-Event-ID` that a browser would send.
    last: Option<String>,
    headers: HeaderMap,
}

impl Events {
    async fn open(address: SocketAddr, last: Option<&str>) -> Self {
        Self::try_open(address, last).await.expect("a stream")
    }

    /// Opens the stream; `None` if the connection is cut or the answer is no stream.
    async fn try_open(address: SocketAddr, last: Option<&str>) -> Option<Self> {
        let mut request = Request::get(format!("http://{address}/messages"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let (parts, body) = soon("the stream's headers", client.request(request)).await.ok()?.into_parts();
        let stream = Self { body, rest: Vec::new(), last: last.map(str::to_owned), headers: parts.headers };
        (parts.status == 200).then_some(stream)
    }

    /// The next event; `None` at the end of the stream or of the connection.
    async fn next(&mut self) -> Option<Event> {
        soon("an event", self.read_event()).await
    }

    async fn read_event(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|bytes| bytes == b"\n\n") {
                let block: Vec<u8> = self.rest.drain(..end + 2).collect();
                match self.read(std::str::from_utf8(&block).unwrap().trim_end_matches('\n')) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let frame = self.body.frame().await?.ok()?;
            self.rest.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    fn read(&mut self, block: &str) -> Option<Event> {
        let (mut kind, mut data) = ("message", None);
        for line in block.lines() {
            let (field, value) = line.split_once(": ").unwrap_or((line, ""));
            match field {
                "id" => self.last = Some(value.to_owned()),
                "event" => kind = value,
                "data" => data = Some(value),
                ":" => {}
                _ => panic!("no field: {line:?}"),
            }
        }
        let data = data?;
        Some(match kind {
            "gap" => Event::Gap,
            "state" => Event::State(data.to_owned()),
            _ => {
                let json: serde_json::Value = serde_json::from_str(data).unwrap();
                let field = |name: &str| json[name].as_str().unwrap().to_owned();
                let time = field("sendTime");
                assert_eq!(self.last.as_ref(), Some(&time), "id is sendTime");
                Event::Message(Message { author: field("author"), text: field("text"), time })
            }
        })
    }

    /// The next event that is not about the state of the server.
    async fn next_of_chat(&mut self) -> Option<Event> {
        loop {
            match self.next().await? {
                Event::State(_) => {}
                event => return Some(event),
            }
        }
    }

    /// The texts of the next messages, `-` for a gap.
    async fn take(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(match self.next_of_chat().await.expect("not the end") {
                Event::Message(message) => message.text,
                _ => "-".to_owned(),
            });
        }
        texts
    }
}

async fn the_page_has_a_strict_content_security_policy() {
    let server = server(&[]);
    let client = client(server.address, &[]);
    for (path, content_type, begins) in [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/page.css", "text/css; charset=utf-8", ":root"),
        ("/page.js", "text/javascript; charset=utf-8", "//"),
        ("/icon.svg", "image/svg+xml", "<svg"),
    ] {
        let answer = call(client.address, Method::GET, path, &[], "").await;
        assert_eq!((answer.status.as_u16(), answer.headers["content-type"].to_str().unwrap()), (200, content_type));
        assert!(answer.body.starts_with(begins.as_bytes()), "{path}");
        assert!(answer.body.len() < 25 * 1024, "{path} is small");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.split("; ").any(|found| found == rule), "{rule} in {policy}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        assert_eq!(answer.headers["cache-control"], "no-cache");

        let tag = answer.headers["etag"].to_str().unwrap();
        for known in [tag.to_owned(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let answer = call(client.address, Method::GET, path, &[("if-none-match", &known)], "").await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0), "{known}");
            assert_eq!(answer.headers["etag"], tag);
        }
        let answer = call(client.address, Method::GET, path, &[("if-none-match", "\"other\"")], "").await;
        assert_eq!(answer.status, 200);
        let head = call(client.address, Method::HEAD, path, &[], "").await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        let wrong = call(client.address, Method::POST, path, &[], "").await;
        assert_eq!(wrong.status, 405);
        assert_eq!(wrong.headers["allow"], "GET,HEAD");
        assert!(wrong.problem().contains("POST"));
    }
    let head = call(client.address, Method::HEAD, "/messages", &[], "").await;
    assert_eq!((head.status.as_u16(), head.headers["content-type"].to_str().unwrap()), (200, "text/event-stream"));
    let wrong = call(client.address, Method::POST, "/messages", &[], "").await;
    assert_eq!((wrong.status.as_u16(), wrong.headers["allow"].to_str().unwrap()), (405, "GET,HEAD"));
    // No inline code, and nothing from other sites.
    let page = call(client.address, Method::GET, "/", &[], "").await;
    let html = String::from_utf8(page.body.to_vec()).unwrap();
    for forbidden in ["<style", "style=", "onclick", "onload", "http://", "https://", "<script>"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
}

async fn the_event_stream_takes_nothing_from_a_flush() {
    let server = server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    client.flush().await;
    let early = client.send("alice", "early").await;
    let mut events = Events::open(client.address, None).await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert_eq!(events.headers["cache-control"], "no-store");
    assert_eq!(events.headers["x-accel-buffering"], "no");
    assert_eq!(events.headers["x-content-type-options"], "nosniff");
    assert_eq!(events.next().await, Some(Event::State("open".to_owned())));
    assert_eq!(events.take(2).await, ["are you there?", "early"], "who opens the page sees what was said");

    let texts = ["two\nlines\r\n\r\nid: 5\n\n", "data: x\0\u{2028}", "", "👋", &"x".repeat(MIB)];
    let mut expected = vec![early];
    for text in texts {
        expected.push(client.send("bob", text).await);
        let Some(Event::Message(message)) = events.next().await else { panic!("no message") };
        assert_eq!((message.author.as_str(), message.text.as_str()), ("bob", text));
        assert_eq!(&message.time, expected.last().unwrap());
    }
    let flushed: Vec<_> = client.flush().await.into_iter().map(|message| message.time).collect();
    assert_eq!(flushed, expected);
    client.send("bob", "after the flush").await;
    assert_eq!(events.take(1).await, ["after the flush"]);
}

async fn cut_event_streams_resume_without_a_gap_or_a_repeat() {
    const READERS: usize = 4;
    const MESSAGES: usize = 4_000;
    let server = server(&[]);
    // Cuts between the pages and the client, and in every second round between the client and the
    // server.
    for between in [false, true] {
        let upstream = proxy(server.address);
        let client = client(upstream.address, &[]);
        client.ready().await;
        let mut readers = tokio::task::JoinSet::new();
        let mut proxies = Vec::new();
        for _ in 0..READERS {
            let proxy = proxy(client.address);
            let address = proxy.address;
            proxies.push(proxy);
            readers.spawn(async move {
                let (mut all, mut last, mut cuts) = (Vec::new(), None::<String>, 0);
                loop {
                    let Some(mut events) = Events::try_open(address, last.as_deref()).await else { continue };
                    while let Some(event) = events.next_of_chat().await {
                        let Event::Message(message) = event else { panic!("a gap, though nothing is missing") };
                        let end = message.text == "the end";
                        all.push(message.time);
                        if end {
                            return (all, cuts);
                        }
                    }
                    cuts += 1;
                    last = events.last;
                }
            });
        }
        let mut senders = tokio::task::JoinSet::new();
        for sender in 0..2 {
            let mut grpc = server.grpc().await;
            senders.spawn(async move {
                for number in 0..MESSAGES / 2 {
                    post(&mut grpc, &format!("sender {sender}"), &"x".repeat(number % 300)).await;
                }
            });
        }
        while !senders.is_empty() {
            tokio::select! {
                _ = senders.join_next() => {}
                () = tokio::time::sleep(Duration::from_millis(fastrand::u64(5..40))) => {
                    let chosen = fastrand::usize(..READERS + usize::from(between));
                    proxies.get(chosen).unwrap_or(&upstream).cut().await;
                }
            }
        }
        post(&mut server.grpc().await, "alice", "the end").await;
        let order: Vec<String> = client.collect(MESSAGES + 1).await.into_iter().map(|message| message.time).collect();
        let mut all_cuts = 0;
        for (all, cuts) in readers.join_all().await {
            assert_eq!(all.len(), order.len() + 1, "with the first one");
            assert_eq!(all[1..], order, "each once and in order");
            all_cuts += cuts;
        }
        assert!(all_cuts > 5, "only {all_cuts} cuts");
    }
}

async fn a_gap_is_reported_once_and_in_its_place() {
    let port = support::fixed_port();
    let first = server_on(listen(port), &[]);
    let client = client(first.address, &["--send-deadline", "10s"]);
    client.ready().await;
    client.send("alice", "before").await;
    let mut events = Events::open(client.address, None).await;
    assert_eq!(events.take(2).await, ["are you there?", "before"]);
    let before = events.last.clone();
    first.stop().await;
    assert_eq!(events.next().await, Some(Event::State("down".to_owned())));
    let second = server_on(listen_again(port).await, &[]);
    client.send("alice", "after").await;
    assert_eq!(events.take(2).await, ["-", "after"]);

    // A page that resumes from before the gap is told, and one from after it is not.
    assert_eq!(Events::open(client.address, before.as_deref()).await.take(2).await, ["-", "after"]);
    second.stop().await;
    let third = server_on(listen_again(port).await, &[]);
    let Some(Event::Gap) = events.next_of_chat().await else { panic!("no gap") };
    let told = events.last.clone();
    client.send("alice", "third").await;
    assert_eq!(Events::open(client.address, told.as_deref()).await.take(1).await, ["third"]);
    assert_eq!(
        Events::open(client.address, None).await.take(6).await,
        ["are you there?", "before", "-", "after", "-", "third"]
    );
    third.stop().await;
}

async fn an_unknown_event_id_is_a_gap() {
    let server = server(&[]);
    let one = client(server.address, &[]);
    one.ready().await;
    let first = one.send("alice", "zero").await;
    let last = one.send("alice", "one").await;
    // The client gets messages since its start, which the server rounds to up to a second earlier.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // Another client, or a restarted one, that began at this message: nothing is missing.
    let other = client(server.address, &[]);
    support::until("the other's stream", async || {
        let mut events = Events::open(other.address, None).await;
        (events.next().await == Some(Event::State("open".to_owned()))).then_some(())
    })
    .await;
    let mut exact = Events::open(other.address, Some(&last)).await;
    one.send("alice", "two").await;
    assert_eq!(exact.take(1).await, ["two"]);
    // Positions from before the start, between messages, and malformed ones.
    let long_ago = "2001-01-01T00:00:00.000000001Z";
    let to_come = "2999-01-01T00:00:00.000000001Z";
    for id in [first.as_str(), long_ago, to_come, "", "0", "x", "\u{e9}"] {
        assert_eq!(Events::open(other.address, Some(id)).await.take(2).await, ["-", "two"], "{id:?}");
    }
}

async fn a_slow_page_is_told_and_costs_bounded_memory() {
    const LIMIT: usize = MIB;
    let (_server, server_address) = program::server(&[]).await;
    let mut program = program::start(
        CLIENT,
        &[
            ("MESSENGER_SERVER_ADDR", &server_address.to_string()),
            ("MESSENGER_HTTP_PORT", "0"),
            ("MESSENGER_HISTORY_BYTES", "1MiB"),
        ],
    );
    let address = program.address("client listening").await;
    program.line("stream open").await;
    // Pages that read nothing, with small socket buffers.
    let mut slow = Vec::new();
    for _ in 0..20 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(8 * 1024).unwrap();
        let mut page = socket.connect(address).await.unwrap();
        page.write_all(b"GET /messages HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        slow.push(page);
    }
    let mut follower = Events::open(address, None).await;
    let mut all = tokio::spawn(async move {
        for number in 0..16 * MIB / 4096 {
            assert!(follower.take(1).await == [format!("{number:0>4096}")], "one that reads gets everything: {number}");
        }
    });
    let mut grpc = support::grpc(server_address).await;
    let mut sent = 0;
    let mut flushed = 0;
    let before = program.peak();
    for _ in 0..16 {
        for _ in 0..MIB / 4096 {
            post(&mut grpc, "alice", &format!("{sent:0>4096}")).await;
            sent += 1;
        }
        // The postbox must not grow.
        while flushed < sent {
            flushed += flush(address).await.len();
        }
    }
    soon("the one that reads", &mut all).await.unwrap();
    let grown = program.peak().saturating_sub(before);
    // Separate queues would take 320 MiB. Each page holds a few pieces of 64 KiB.
    assert!(grown < 24 * MIB, "grew by {grown} bytes");
    let mut page = slow.pop().unwrap();
    let mut got = Vec::new();
    let last = format!("{:0>4096}", sent - 1);
    soon("the last message", async {
        while !got.windows(last.len()).rev().take(3 * last.len()).any(|bytes| bytes == last.as_bytes()) {
            assert!(page.read_buf(&mut got).await.unwrap() > 0);
        }
    })
    .await;
    let got = String::from_utf8(got).unwrap();
    assert_eq!(got.matches("event: gap\n").count(), 1, "it is told once that it has missed something");
    let numbers: Vec<usize> = got
        .split("\"text\":\"")
        .skip(1)
        .map(|text| text.split('"').next().unwrap())
        .map(|text| text.trim_start_matches('0').parse().unwrap_or(0))
        .collect();
    let jumps = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert_eq!((numbers[0], jumps), (0, 1), "everything up to the gap, and everything after it");
    assert!(numbers.len() * 4096 > LIMIT / 2);
}

async fn the_number_of_event_streams_is_limited() {
    let server = server(&[]);
    let client = client(server.address, &[]);
    let mut pages = Vec::new();
    for _ in 0..1_000 {
        let mut page = TcpStream::connect(client.address).await.unwrap();
        page.write_all(b"GET /messages HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        soon("an answer", page.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        pages.push(page);
    }
    assert!(Events::try_open(client.address, None).await.is_none());
    let answer = call(client.address, Method::GET, "/messages", &[], "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.problem().contains("1000 streams"), "{}", answer.problem());
    // Other requests are served, and a closed page frees its slot.
    client.ready().await;
    pages.pop();
    until("a free place", async || {
        // The next message finds the closed page.
        client.send("alice", "hey").await;
        Events::try_open(client.address, None).await
    })
    .await;
    let asked = Instant::now();
    client.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

/// Opens the stream, and reads the status line.
async fn open(address: SocketAddr) -> (TcpStream, String) {
    let mut page = TcpStream::connect(address).await.unwrap();
    page.write_all(b"GET /messages HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    soon("an answer", page.read_exact(&mut answer)).await.unwrap();
    (page, String::from_utf8_lossy(&answer).into_owned())
}

async fn a_closed_event_stream_frees_its_slot() {
    // Shorter than the interval of keepalive comments.
    const AT_ONCE: Duration = Duration::from_secs(10);
    let server = server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    let mut pages = Vec::new();
    for _ in 0..1_000 {
        let (page, status) = open(client.address).await;
        assert_eq!(status, "HTTP/1.1 200");
        pages.push(page);
    }
    assert_eq!(open(client.address).await.1, "HTTP/1.1 503");
    // Half of them with unread bytes in both directions, in a silent room.
    for (number, page) in pages.iter_mut().enumerate() {
        if number % 2 == 0 {
            page.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        } else {
            let mut rest = [0; 1024];
            soon("an event", page.read(&mut rest)).await.unwrap();
        }
    }
    drop(pages);
    let closed = Instant::now();
    let mut again = Vec::new();
    while again.len() < 1_000 {
        let (page, status) = open(client.address).await;
        if status == "HTTP/1.1 200" {
            again.push(page);
        }
        assert!(closed.elapsed() < AT_ONCE, "{} places", again.len());
    }
}

async fn a_half_closed_event_stream_still_delivers() {
    let server = server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    let mut pages = Vec::new();
    for _ in 0..10 {
        let (mut page, _) = open(client.address).await;
        page.shutdown().await.unwrap();
        pages.push(page);
    }
    // Longer than a vanished peer is kept.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let time = client.send("alice", "hey").await;
    for page in &mut pages {
        let mut read = Vec::new();
        while !String::from_utf8_lossy(&read).contains(&time) {
            assert_ne!(soon("the message", page.read_buf(&mut read)).await.unwrap(), 0);
        }
    }
}

async fn open_event_streams_do_not_delay_the_shutdown() {
    for signal in ["TERM", "INT"] {
        let mut chat = program::start(
            CHAT,
            // With a drain of a minute the streams must end by themselves.
            &[("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_HTTP_PORT", "0"), ("MESSENGER_HTTP_DRAIN_DEADLINE", "60s")],
        );
        let address = chat.address("client listening").await;
        let mut pages = Vec::new();
        for _ in 0..20 {
            pages.push(Events::open(address, None).await);
        }
        support::http::send(address, "alice", "hey").await;
        for page in &mut pages {
            assert_eq!(page.take(1).await, ["hey"]);
        }
        let asked = Instant::now();
        chat.signal(signal);
        assert_eq!(chat.exit().await.code(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        for mut page in pages {
            assert_eq!(page.next_of_chat().await, None);
        }
    }
}

async fn the_event_stream_reports_the_state_of_the_server() {
    let server = server(&[]);
    let proxy = proxy(server.address);
    let client = client(proxy.address, &[]);
    client.ready().await;
    let mut events = Events::open(client.address, None).await;
    assert_eq!(events.next().await, Some(Event::State("open".to_owned())));
    assert_eq!(events.take(1).await, ["are you there?"]);
    for _ in 0..3 {
        proxy.set(Mode::Cut);
        let cut = Instant::now();
        assert_eq!(events.next().await, Some(Event::State("down".to_owned())));
        assert!(cut.elapsed() < Duration::from_secs(10), "reported without waiting for a message");
        assert_eq!(
            Events::open(client.address, None).await.next().await,
            Some(Event::State("down".to_owned())),
            "who opens the page meanwhile is told too"
        );
        proxy.set(Mode::Pass);
        assert_eq!(events.next().await, Some(Event::State("open".to_owned())), "and no gap: nothing is missing");
    }
}
