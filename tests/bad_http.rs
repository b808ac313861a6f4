//! Bad input over HTTP gets a problem document that names what is wrong, and changes nothing.

mod support;

use std::net::SocketAddr;

use http::Method;
use support::http::{call, post};
use support::{client, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_message() {
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
    assert_eq!(reader.next().await.time, time, "the first message there is");
}

#[tokio::test(flavor = "multi_thread")]
async fn good_bodies_of_every_kind() {
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
    assert_eq!(answer.status, 200, "no type at all");
    let got = client.collect(types.len() * bodies.len() + 1).await;
    assert!(got.iter().all(|message| message.author == "alice" && message.text == "hey"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_wrong_methods() {
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

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_are_kept_out() {
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
    assert_eq!(client.collect(3).await.len(), 3, "and nothing of the refused ones");
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

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_reaches_who_is_still_sending() {
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
    // A flush whose request is cut takes nothing.
    let time = client.send("alice", "kept").await;
    let mut cut = TcpStream::connect(client.address).await.unwrap();
    cut.write_all(b"POST /getAndFlushMessages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab").await.unwrap();
    drop(cut);
    assert_eq!(client.collect(1).await[0].time, time);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_said_everything_still_gets_an_answer() {
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
