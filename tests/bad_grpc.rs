//! Bad input over gRPC gets the status that the conventions have for it, with what is wrong in its message, and changes nothing.

mod support;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use messenger::net::{Connection, ServerAddr};
use support::{post, server};
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;

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
    async fn call(&mut self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Response<Incoming> {
        let mut request = Request::post(format!("{}{path}", self.origin));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::new(Full::new(body))).unwrap();
        support::soon("an answer", self.connection.call(request)).await.expect("an answer")
    }

    /// The status of a call that must not succeed.
    async fn status(&mut self, method: &str, headers: &[(&str, &str)], body: Bytes) -> Status {
        let headers = [&[("content-type", "application/grpc"), ("te", "trailers")], headers].concat();
        let answer = self.call(&format!("/mes_grpc.MessengerServer/{method}"), &headers, body).await;
        if let Some(status) = Status::from_header_map(answer.headers()) {
            return status;
        }
        let rest = support::soon("the end", answer.into_body().collect()).await.expect("a body");
        rest.trailers().and_then(Status::from_header_map).expect("a status")
    }
}

async fn raw(server: &support::Running) -> Raw {
    let address = ServerAddr::local(server.address);
    let connection = Connection::open(&address).await.unwrap();
    Raw { connection, origin: format!("http://{address}") }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_do_not_decode() {
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
    // Broken framing has no field to name; what matters is that it is an answer and not a reset.
    for body in [Bytes::new(), frame(0, 10, b"short"), frame(7, 0, b""), frame(1, 0, b"")] {
        let status = raw.status("SendMessage", &[], body.clone()).await;
        assert_ne!(status.code(), Code::Ok, "{body:?}");
    }
    let status = raw.status("SendMessage", &[("grpc-encoding", "gzip")], frame(1, 1, b"x")).await;
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
    let status = raw.status("ReadMessages", &[], frame(0, 2, &[0, 0])).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");

    let time = post(&mut server.grpc().await, "alice", "hey").await;
    assert_eq!(reader.next().await.time, time, "the first message there is");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_the_future_are_ignored() {
    let server = server(&[]);
    let mut reader = server.reader().await;
    let mut raw = raw(&server).await;
    // author = "a", and field 15 = "?".
    let body = frame(0, 6, &[0x0a, 1, b'a', 0x7a, 1, b'?']);
    assert_eq!(raw.status("SendMessage", &[], body).await.code(), Code::Ok);
    let message = reader.next().await;
    assert_eq!((message.author.as_str(), message.text.as_str()), ("a", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there() {
    let server = server(&[]);
    let mut raw = raw(&server).await;
    let status = raw.status("DeleteMessage", &[], frame(0, 0, b"")).await;
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("mes_grpc.MessengerServer"), "{status}");
    let other = raw.call("/other.Service/Call", &[("content-type", "application/grpc")], frame(0, 0, b"")).await;
    assert_eq!(Status::from_header_map(other.headers()).unwrap().code(), Code::Unimplemented);
    let not_grpc =
        raw.call("/mes_grpc.MessengerServer/SendMessage", &[("content-type", "text/html")], Bytes::new()).await;
    assert_eq!(not_grpc.status(), 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_stream() {
    let server = server(&[]);
    let mut raw = raw(&server).await;
    let status = raw.status("ReadMessages", &[("grpc-timeout", "50m")], frame(0, 0, b"")).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    for value in ["soon", ""] {
        let status = raw.status("ReadMessages", &[("grpc-timeout", value)], frame(0, 0, b"")).await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(&format!("grpc-timeout {value:?}")), "{status}");
    }

    let mut request = tonic::Request::new(());
    request.set_timeout(Duration::from_hours(1));
    let mut stream = server.grpc().await.read_messages(request).await.expect("a stream").into_inner();
    post(&mut server.grpc().await, "alice", "hey").await;
    assert_eq!(support::soon("a message", stream.message()).await.unwrap().unwrap().text, "hey");
}
