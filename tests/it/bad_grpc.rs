//! Bad input over gRPC gets the conventional status, with what is wrong in its message, and changes
//! nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::suite::tests;
use crate::support::{http2, post, program, server};
use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use libtest_mimic::Trial;
use messenger::net::{Connection, ResponseBody, ServerAddr};
use messenger::proto::NOT_ACCEPTED;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;

pub fn tests() -> Vec<Trial> {
    tests![
        undecodable_requests_are_refused,
        unknown_fields_are_ignored,
        unknown_methods_are_unimplemented,
        requests_that_are_not_grpc_get_an_http_status,
        compressed_requests_are_refused,
        a_deadline_ends_a_stream,
        a_deadline_counts_from_the_headers
    ]
}

/// A gRPC frame: flag, length, bytes.
fn frame(flag: u8, length: usize, bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(flag);
    frame.put_u32(u32::try_from(length).unwrap());
    frame.put_slice(bytes);
    frame.freeze()
}

struct Raw {
    connection: Connection,
    origin: String,
}

impl Raw {
    async fn call(&mut self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Response<ResponseBody> {
        let mut request = Request::post(format!("{}{path}", self.origin));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::new(Full::new(body))).unwrap();
        support::soon("an answer", self.connection.call(request)).await.expect("an answer")
    }

    /// Makes a call of the chat service, and returns its status.
    async fn status(&mut self, method: &str, headers: &[(&str, &str)], body: Bytes) -> Status {
        self.status_at(&format!("/mes_grpc.MessengerServer/{method}"), headers, body).await
    }

    async fn status_at(&mut self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Status {
        let headers = [&[("content-type", "application/grpc"), ("te", "trailers")], headers].concat();
        let answer = self.call(path, &headers, body).await;
        if let Some(status) = Status::from_header_map(answer.headers()) {
            return status;
        }
        let rest = support::soon("the end", answer.into_body().collect()).await.expect("a body");
        rest.trailers().and_then(Status::from_header_map).expect("a status")
    }
}

async fn raw(server: &support::Running) -> Raw {
    raw_at(server.address).await
}

async fn raw_at(address: SocketAddr) -> Raw {
    let address = ServerAddr::local(address);
    let connection = Connection::open(&address).await.unwrap();
    Raw { connection, origin: format!("http://{address}") }
}

async fn undecodable_requests_are_refused() {
    let server = server(&[]);
    let mut reader = server.reader().await;
    let mut raw = raw(&server).await;
    let not_utf8 = |field: u8| frame(0, 3, &[field << 3 | 2, 1, 0xff]);
    let cases = [
        (not_utf8(1), Code::InvalidArgument, "author"),
        (not_utf8(2), Code::InvalidArgument, "text"),
        // Field 1 as a number; a length past the end; no field number.
        (frame(0, 2, &[8, 5]), Code::InvalidArgument, "author"),
        (frame(0, 2, &[0x0a, 9]), Code::InvalidArgument, "author"),
        (frame(0, 2, &[0, 0]), Code::InvalidArgument, "tag"),
        (frame(0, 1 << 30, b""), Code::ResourceExhausted, "too long"),
    ];
    for (body, code, message) in cases {
        let status = raw.status("SendMessage", &[], body.clone()).await;
        assert_eq!(status.code(), code, "{body:?}: {status}");
        assert!(status.message().contains(message), "{body:?}: {status}");
    }
    // Broken framing has no field to name, but it gets an answer and not a reset.
    for body in [Bytes::new(), frame(0, 10, b"short"), frame(7, 0, b""), frame(1, 0, b"")] {
        let status = raw.status("SendMessage", &[], body.clone()).await;
        assert_ne!(status.code(), Code::Ok, "{body:?}");
    }
    let status = raw.status("ReadMessages", &[], frame(0, 2, &[0, 0])).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");

    let time = post(&mut server.grpc().await, "alice", "hey").await;
    assert_eq!(reader.next().await.time, time, "the first message of the room");
}

async fn unknown_fields_are_ignored() {
    let server = server(&[]);
    let mut reader = server.reader().await;
    let mut raw = raw(&server).await;
    // author = "a", and field 15 = "?".
    let body = frame(0, 6, &[0x0a, 1, b'a', 0x7a, 1, b'?']);
    assert_eq!(raw.status("SendMessage", &[], body).await.code(), Code::Ok);
    let message = reader.next().await;
    assert_eq!((message.author.as_str(), message.text.as_str()), ("a", ""));
}

async fn unknown_methods_are_unimplemented() {
    let server = server(&[]);
    let mut raw = raw(&server).await;
    let status = raw.status("DeleteMessage", &[], frame(0, 0, b"")).await;
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("mes_grpc.MessengerServer"), "{status}");
    let other = raw.call("/other.Service/Call", &[("content-type", "application/grpc")], frame(0, 0, b"")).await;
    assert_eq!(Status::from_header_map(other.headers()).unwrap().code(), Code::Unimplemented);
}

async fn requests_that_are_not_grpc_get_an_http_status() {
    const SEND: &str = "/mes_grpc.MessengerServer/SendMessage";
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    // Callers without a token get the same status, and no more.
    let (_server, address) = program::server(&[("MESSENGER_TOKEN", "secret")]).await;
    let mut raw = raw_at(address).await;
    let cases = [
        ("GET", "/", None, 404),
        ("GET", "/favicon.ico", Some("application/grpc"), 404),
        ("POST", "/", Some("application/json"), 404),
        ("GET", SEND, Some("application/grpc"), 405),
        ("OPTIONS", SEND, None, 405),
        ("GET", CHECK, None, 405),
        ("POST", SEND, None, 415),
        ("POST", SEND, Some("text/html"), 415),
        ("POST", SEND, Some("application/grpc-web"), 415),
        ("POST", "/mes_grpc.MessengerServer/ReadMessages", Some("application/grpc-web+proto"), 415),
        ("POST", CHECK, Some("application/grpc-web-text"), 415),
        ("POST", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Some("application/json"), 415),
    ];
    for (method, path, content_type, status) in cases {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", raw.origin));
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let body = frame(0, 0, b"");
        let body = if method == "POST" { Full::new(body) } else { Full::default() };
        let answer = support::soon("an answer", raw.connection.call(request.body(Body::new(body)).unwrap())).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), status, "{method} {path} {content_type:?}");
        assert_eq!(answer.headers().get("allow").is_some(), status == 405, "{method} {path} {content_type:?}");
        assert!(!answer.headers().contains_key("grpc-status"), "{method} {path} {content_type:?}");
    }
    let token = [("authorization", "Bearer secret")];
    for content_type in ["application/grpc+proto", "Application/gRPC", "application/grpc;charset=utf-8"] {
        let headers = [("content-type", content_type), token[0]];
        let answer = raw.call(SEND, &headers, frame(0, 0, b"")).await;
        assert_eq!(answer.status(), 200, "{content_type}");
        let rest = support::soon("the end", answer.into_body().collect()).await.expect("a body");
        assert_eq!(Status::from_header_map(rest.trailers().unwrap()).unwrap().code(), Code::Ok, "{content_type}");
    }
}

async fn compressed_requests_are_refused() {
    let server = server(&[]);
    let mut reader = server.reader().await;
    let mut raw = raw(&server).await;
    let (send, read) = ("/mes_grpc.MessengerServer/SendMessage", "/mes_grpc.MessengerServer/ReadMessages");
    for path in [send, read, "/grpc.health.v1.Health/Check"] {
        // An unknown compression: the answer names it, and the supported one.
        let status = raw.status_at(path, &[("grpc-encoding", "gzip")], frame(1, 1, b"x")).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status}");
        assert!(status.message().contains("gzip") && !status.message().contains("Some"), "{path}: {status}");
        assert_eq!(status.metadata().get("grpc-accept-encoding").expect(path), "identity");
        // The flag without a compression makes no sense.
        for headers in [&[][..], &[("grpc-encoding", "identity")]] {
            let status = raw.status_at(path, headers, frame(1, 1, b"x")).await;
            assert_eq!(status.code(), Code::Internal, "{path} {headers:?}: {status}");
            assert!(status.message().contains("compressed"), "{path} {headers:?}: {status}");
        }
    }
    // The compression of a call does not apply to a message without the flag.
    assert_eq!(raw.status("SendMessage", &[("grpc-encoding", "gzip")], frame(0, 0, b"")).await.code(), Code::Ok);
    assert_eq!(reader.next().await.text, "");
}

async fn a_deadline_ends_a_stream() {
    let server = server(&[]);
    let mut raw = raw(&server).await;
    let status = raw.status("ReadMessages", &[("grpc-timeout", "50m")], frame(0, 0, b"")).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let status = raw.status_at("/grpc.health.v1.Health/Watch", &[("grpc-timeout", "50m")], frame(0, 0, b"")).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    for path in [
        "/mes_grpc.MessengerServer/ReadMessages",
        "/mes_grpc.MessengerServer/SendMessage",
        "/grpc.health.v1.Health/Check",
    ] {
        for value in ["soon", ""] {
            let status = raw.status_at(path, &[("grpc-timeout", value)], frame(0, 0, b"")).await;
            assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status}");
            assert!(status.message().contains(&format!("grpc-timeout is {value:?}")), "{path}: {status}");
        }
    }

    let mut request = tonic::Request::new(());
    request.set_timeout(Duration::from_hours(1));
    let mut stream = server.grpc().await.read_messages(request).await.expect("a stream").into_inner();
    post(&mut server.grpc().await, "alice", "hey").await;
    assert_eq!(support::soon("a message", stream.message()).await.unwrap().unwrap().text, "hey");
}

async fn a_deadline_counts_from_the_headers() {
    let server = server(&[]);
    let mut reader = server.reader().await;
    let mut requests = http2::open(server.address).await;
    for method in ["SendMessage", "ReadMessages"] {
        // The message is never complete, and the server would wait for it for 20 s.
        let began = Instant::now();
        let request = Request::post(format!("http://localhost/mes_grpc.MessengerServer/{method}"))
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "100m");
        let (answer, _stream) = requests.send_request(request.body(()).unwrap(), false).unwrap();
        let answer = support::soon("an answer", answer).await.expect("an answer");
        let status = Status::from_header_map(answer.headers()).expect("a status");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{method}: {status}");
        assert!(status.metadata().contains_key(NOT_ACCEPTED), "{method}: {status}");
        assert!(began.elapsed() < Duration::from_secs(15), "{method}: after {:?}", began.elapsed());
    }
    // The deadline is over before the message arrives.
    let mut raw = raw(&server).await;
    let status = raw.status("SendMessage", &[("grpc-timeout", "1n")], frame(0, 0, b"")).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.metadata().contains_key(NOT_ACCEPTED), "{status}");

    let time = post(&mut server.grpc().await, "alice", "hey").await;
    assert_eq!(reader.next().await.time, time, "the first message of the room");
}
