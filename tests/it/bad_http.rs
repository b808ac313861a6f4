//! Bad input over HTTP gets a problem document that names what is wrong, and changes nothing.

use std::net::SocketAddr;

use crate::support;
use crate::support::http::{call, post};
use crate::support::suite::tests;
use crate::support::{client, program, server};
use http::Method;
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub fn tests() -> Vec<Trial> {
    tests![
        bodies_that_are_not_a_message_are_refused,
        every_content_type_is_accepted,
        unknown_paths_and_wrong_methods_are_refused,
        requests_from_pages_of_other_sites_are_refused,
        browsers_are_refused_under_foreign_host_names,
        with_a_token_any_host_name_is_accepted,
        missing_repeated_or_malformed_hosts_are_refused,
        encoded_bodies_are_refused,
        a_refusal_reaches_a_peer_that_is_still_sending,
        a_half_closed_connection_still_gets_its_answer
    ]
}

async fn bodies_that_are_not_a_message_are_refused() {
    let server = server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    let mut reader = server.reader().await;
    let cases: [(&[u8], &str); 20] = [
        (b"", "the body is empty"),
        (b" ", "not valid JSON"),
        (b"hey", "not valid JSON"),
        (b"author=alice&text=hey", "not valid JSON"),
        (b"{\"author\": \"alice\", \"text\": \"hey\"", "not valid JSON: EOF while parsing"),
        (b"{\"author\": \"alice\", \"text\": \"hey\"}}", "not valid JSON: trailing characters at line 1 column 35"),
        (b"{\"author\": \"alice\", \"text\": \"hey\",}", "not valid JSON: trailing comma"),
        (b"{\"author\": \"a\", \"author\": \"b\", \"text\": \"\"}", "duplicate field `author`"),
        (b"{\"author\": \"\\ud800\", \"text\": \"\"}", "not valid JSON"),
        (b"{\"author\": \"\xff\", \"text\": \"\"}", "not UTF-8: invalid byte at 12"),
        (b"[\"alice\", \"hey\"]", "not an object"),
        (b"\"hey\"", "not an object"),
        (b"null", "not an object"),
        (b"{}", "the field author is missing"),
        (b"{\"author\": \"alice\"}", "the field text is missing"),
        (b"{\"Author\": \"alice\", \"text\": \"hey\"}", "the field author is missing"),
        (b"{\"author\": null, \"text\": \"hey\"}", "the field author is missing or null"),
        (b"{\"author\": \"alice\", \"text\": 5}", "the field text must be a string, not a number"),
        (b"{\"author\": [], \"text\": \"hey\"}", "the field author must be a string, not an array"),
        (b"{\"author\": \"alice\", \"text\": {\"text\": \"hey\"}}", "the field text must be a string, not an object"),
    ];
    for (body, detail) in cases {
        let answer = post(client.address, "/sendMessage", body.to_vec()).await;
        assert_eq!(answer.status, 400, "{:?}", String::from_utf8_lossy(body));
        assert!(answer.problem().contains(detail), "{:?}: {}", String::from_utf8_lossy(body), answer.problem());
    }
    let deep = format!("{{\"author\": \"a\", \"text\": \"b\", \"x\": {}", "[".repeat(100_000));
    assert_eq!(post(client.address, "/sendMessage", deep).await.status, 400);
    let time = client.send("alice", "hey").await;
    assert_eq!(reader.next().await.time, time, "the first message of the room");
}

async fn every_content_type_is_accepted() {
    let server = server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    client.flush().await;
    let types = ["application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"];
    let bodies = [
        r#"{"author": "alice", "text": "hey"}"#,
        r#" {"text":"hey","author":"alice"} "#,
        "{\n\t\"author\": \"\\u0061lice\",\r\n\"text\": \"hey\"\n}",
        r#"{"author": "alice", "text": "hey", "sendTime": 5, "more": [{"x": null}]}"#,
    ];
    for content_type in types {
        for body in bodies {
            let answer =
                call(client.address, Method::POST, "/sendMessage", &[("content-type", content_type)], body).await;
            assert_eq!(answer.status, 200, "{content_type}: {body}");
        }
    }
    let answer = call(client.address, Method::POST, "/sendMessage", &[], bodies[0]).await;
    assert_eq!(answer.status, 200, "without a content type");
    let got = client.collect(types.len() * bodies.len() + 1).await;
    assert!(got.iter().all(|message| message.author == "alice" && message.text == "hey"));
}

async fn unknown_paths_and_wrong_methods_are_refused() {
    let server = server(&[]);
    let client = client(server.address, &[]);
    for path in ["/nothing", "/sendmessage", "/sendMessage/", "/sendMessage/x", "//sendMessage"] {
        let answer = post(client.address, path, "{}").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.problem().contains(path), "{}", answer.problem());
    }
    for path in ["/sendMessage", "/getAndFlushMessages"] {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = call(client.address, method.clone(), path, &[], "").await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.headers["allow"], "POST");
            assert!(answer.problem().contains(method.as_str()));
        }
    }
}

async fn requests_from_pages_of_other_sites_are_refused() {
    let server = server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    client.flush().await;
    let body = r#"{"author": "mallory", "text": "hey"}"#;
    let own = format!("http://{}", client.address);
    let other: [&[(&str, &str)]; 3] =
        [&[("sec-fetch-site", "cross-site")], &[("origin", "http://evil.example")], &[("origin", "null")]];
    for path in ["/sendMessage", "/getAndFlushMessages"] {
        for headers in other {
            let answer = call(client.address, Method::POST, path, headers, body).await;
            assert_eq!(answer.status, 403, "{headers:?}");
            assert!(answer.problem().contains("other sites"));
        }
    }
    for headers in [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none"), ("origin", &own)] {
        assert_eq!(
            call(client.address, Method::POST, "/sendMessage", &[headers], body).await.status,
            200,
            "{headers:?}"
        );
    }
    assert_eq!(client.collect(3).await.len(), 3, "the refused messages are not in the room");
}

/// Calls a path under this host name, with these headers.
async fn under(address: SocketAddr, path: &str, host: &str, headers: &[(&str, &str)]) -> support::http::Answer {
    let method = if path == "/" { Method::GET } else { Method::POST };
    let body = if path == "/sendMessage" { r#"{"author": "mallory", "text": "hey"}"# } else { "" };
    call(address, method, path, &[&[("host", host)], headers].concat(), body).await
}

/// Headers that browsers send with requests of a page to its own site.
const BROWSERS: [&[(&str, &str)]; 4] = [
    &[("sec-fetch-site", "same-origin")],
    &[("origin", "http://evil.example:8080")],
    &[("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")],
    &[("user-agent", "curl/8.5.0"), ("accept-language", "en")],
];

async fn browsers_are_refused_under_foreign_host_names() {
    let (_server, address) = program::server(&[]).await;
    let variables = [
        ("MESSENGER_HTTP_PORT", "0"),
        ("MESSENGER_SERVER_ADDR", &address.to_string()),
        ("MESSENGER_HTTP_HOSTS", "chat.example.com, Other.example.com"),
    ];
    let mut client = program::start(program::CLIENT, &variables);
    let client = client.address("client listening").await;
    let message = support::http::send(client, "alice", "hey").await;
    let paths = ["/", "/sendMessage", "/getAndFlushMessages"];
    for headers in BROWSERS {
        for path in paths {
            let answer = under(client, path, "evil.example:8080", headers).await;
            assert_eq!(answer.status, 403, "{path} {headers:?}");
            assert!(answer.problem().contains("MESSENGER_HTTP_HOSTS"), "{}", answer.problem());
        }
        let answer = call(client, Method::GET, "/messages", &[&[("host", "evil.example")], headers].concat(), "").await;
        assert_eq!(answer.status, 403, "{headers:?}");
        // Monitoring asks for these paths, which reveal nothing of the chat.
        for path in ["/health", "/ready", "/openapi.json"] {
            let answer = call(client, Method::GET, path, &[&[("host", "evil.example")], headers].concat(), "").await;
            assert_eq!(answer.status, 200, "{path} {headers:?}");
        }
    }
    assert_eq!(support::http::flush(client).await.iter().map(|message| &message.time).collect::<Vec<_>>(), [&message]);

    let port = client.port();
    let hosts = ["127.0.0.1", "localhost", "client1", "pi.local", "chat.example.com", "other.example.com"];
    for host in hosts.map(|host| format!("{host}:{port}")) {
        let own = format!("http://{host}");
        for headers in [[("sec-fetch-site", "same-origin")], [("origin", &own)], [("user-agent", "Mozilla/5.0")]] {
            for path in paths {
                assert_eq!(under(client, path, &host, &headers).await.status, 200, "{host} {path} {headers:?}");
            }
        }
    }
    let programs: [&[(&str, &str)]; 5] = [
        &[],
        &[("user-agent", "curl/8.5.0"), ("accept", "*/*")],
        &[("user-agent", "python-requests/2.32.3"), ("accept-encoding", "gzip, deflate"), ("connection", "keep-alive")],
        &[("user-agent", "Go-http-client/1.1"), ("accept-encoding", "gzip")],
        &[("user-agent", "node"), ("accept-language", "*"), ("sec-fetch-mode", "cors")],
    ];
    for headers in programs {
        for path in paths {
            assert_eq!(under(client, path, "evil.example", headers).await.status, 200, "{path} {headers:?}");
        }
    }
}

async fn with_a_token_any_host_name_is_accepted() {
    let file = std::env::temp_dir().join(format!("messenger-hosts-{}", std::process::id()));
    std::fs::write(&file, "s3cret").unwrap();
    let server = server(&[]);
    let client = client(server.address, &["--http-token-file", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    for path in ["/", "/sendMessage", "/getAndFlushMessages"] {
        let headers = [("sec-fetch-site", "same-origin"), ("authorization", "Bearer s3cret")];
        assert_eq!(under(client.address, path, "chat.example.com", &headers).await.status, 200, "{path}");
    }
}

async fn missing_repeated_or_malformed_hosts_are_refused() {
    let server = server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    client.flush().await;
    for path in ["/sendMessage", "/getAndFlushMessages", "/nothing"] {
        for (hosts, detail) in [
            ("", "the header Host is missing"),
            ("Host: localhost\r\nHost: localhost\r\n", "Host is repeated"),
            ("Host: user@localhost\r\n", "Host is not host:port"),
            ("Host: a b\r\n", "Host is not host:port"),
        ] {
            let body = r#"{"author": "alice", "text": "hey"}"#;
            let request = format!(
                "POST {path} HTTP/1.1\r\n{hosts}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = raw(client.address, request.as_bytes(), false).await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(detail), "{hosts}: {answer}");
        }
    }
    for request in ["POST /getAndFlushMessages HTTP/1.0\r\n\r\n", "POST /getAndFlushMessages HTTP/1.0\r\nHost:\r\n\r\n"]
    {
        let answer = raw(client.address, request.as_bytes(), false).await;
        assert!(answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("[]"), "HTTP/1.0 has no such rule: {answer}");
    }
}

async fn encoded_bodies_are_refused() {
    let server = server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    client.flush().await;
    let send = async |encoding, body: &[u8]| {
        call(client.address, Method::POST, "/sendMessage", &[("content-encoding", encoding)], body.to_vec()).await
    };
    // The bytes need not be in that encoding.
    for encoding in ["gzip", "deflate", "br", "zstd", "gzip, identity", "nonsense"] {
        let answer = send(encoding, b"\x1f\x8b\x08\x00").await;
        assert_eq!(answer.status, 415, "{encoding}");
        assert!(answer.problem().contains(encoding), "{}", answer.problem());
        assert_eq!(answer.headers["accept-encoding"], "identity");
    }
    assert!(client.flush().await.is_empty());
    assert_eq!(send("identity", br#"{"author": "alice", "text": "hey"}"#).await.status, 200);
}

/// Writes raw bytes, and reads until the client closes.
async fn raw(address: SocketAddr, request: &[u8], close: bool) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    if close {
        stream.shutdown().await.unwrap();
    }
    let mut answer = String::new();
    support::soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

async fn a_refusal_reaches_a_peer_that_is_still_sending() {
    let server = server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    let body = "x".repeat(20 * 1024 * 1024);
    for (path, status) in [("/sendMessage", 413), ("/getAndFlushMessages", 413), ("/nothing", 413)] {
        for _ in 0..5 {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let answer = raw(client.address, format!("{head}{body}").as_bytes(), false).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer:.100}");
        }
    }
    // An incomplete flush request takes no messages.
    let time = client.send("alice", "kept").await;
    let mut cut = TcpStream::connect(client.address).await.unwrap();
    cut.write_all(b"POST /getAndFlushMessages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab").await.unwrap();
    drop(cut);
    assert_eq!(client.collect(1).await[0].time, time);
}

async fn a_half_closed_connection_still_gets_its_answer() {
    let server = server(&[]);
    let client = client(server.address, &[]);
    client.ready().await;
    client.flush().await;
    let body = r#"{"author": "alice", "text": "hey"}"#;
    for _ in 0..20 {
        let request = format!("POST /sendMessage HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let answer = raw(client.address, request.as_bytes(), true).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(client.collect(20).await.len(), 20);
}
