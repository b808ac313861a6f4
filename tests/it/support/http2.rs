//! Calls over plain HTTP/2, for what no gRPC library does: stop reading, cut a message anywhere, or
//! leave in the middle.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{self, Connection, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use messenger::proto::{ReadMessagesResponse, SendMessageRequest};
use prost::Message;
use tokio::net::TcpStream;

use super::soon;

/// Connects. The connection makes progress only while it is polled.
pub async fn connect(address: SocketAddr) -> (SendRequest<Bytes>, Connection<TcpStream>) {
    let socket = TcpStream::connect(address).await.expect("a connection");
    let mut settings = client::Builder::new();
    // With a large connection window, a stream that stops is stopped by its own window.
    settings.initial_connection_window_size(1 << 30).initial_max_send_streams(usize::MAX);
    // h2 ends a connection with many unread small frames, and some tests do not read on purpose.
    settings.data_frame_budget(usize::MAX);
    soon("the handshake", settings.handshake(socket)).await.expect("HTTP/2")
}

/// Connects, and polls the connection in a task.
pub async fn open(address: SocketAddr) -> SendRequest<Bytes> {
    let (requests, connection) = connect(address).await;
    tokio::spawn(connection);
    requests
}

/// Begins a call without its message.
pub fn begin(requests: &mut SendRequest<Bytes>, method: &str) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::post(format!("http://localhost/mes_grpc.MessengerServer/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    requests.send_request(request.body(()).expect("a request"), false).expect("a call")
}

/// Makes a call as gRPC libraries do: the message in one frame, and the end of the stream in
/// another.
pub fn call(requests: &mut SendRequest<Bytes>, method: &str, body: Bytes) -> ResponseFuture {
    let (response, mut stream) = begin(requests, method);
    stream.send_data(body, false).expect("a call");
    stream.send_data(Bytes::new(), true).expect("a call");
    response
}

/// The body of a `SendMessage`.
pub fn message(text: &str) -> Bytes {
    let message = SendMessageRequest { author: "alice".to_owned(), text: text.to_owned() };
    frame(&message.encode_to_vec())
}

/// A gRPC frame.
pub fn frame(bytes: &[u8]) -> Bytes {
    let length = u32::try_from(bytes.len()).expect("small").to_be_bytes();
    [&[0], &length[..], bytes].concat().into()
}

/// Reads a call to its end, and returns its status.
pub async fn status(response: ResponseFuture) -> String {
    let response = soon("an answer", response).await.expect("an answer");
    let status = |headers: &http::HeaderMap| headers.get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
    if let Some(status) = status(response.headers()) {
        return status;
    }
    let mut body = response.into_body();
    while let Some(data) = soon("the rest", body.data()).await {
        data.expect("the rest");
    }
    let trailers = soon("the end", body.trailers()).await.expect("an end").expect("trailers");
    status(&trailers).expect("a status")
}

/// Opens the stream of a reader.
pub async fn reader(requests: &mut SendRequest<Bytes>) -> RecvStream {
    soon("the headers", call(requests, "ReadMessages", frame(b""))).await.expect("a stream").into_body()
}

/// Reads messages until `enough` of their texts are there.
pub async fn texts(stream: &mut RecvStream, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
    let (mut texts, mut received) = (Vec::new(), Vec::new());
    while !enough(&texts) {
        let data = soon("a message", stream.data()).await.expect("not the end").expect("no reset");
        stream.flow_control().release_capacity(data.len()).expect("what has come");
        received.extend_from_slice(&data);
        while let Some(prefix) = received.first_chunk::<5>() {
            let end = 5 + u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            if received.len() < end {
                break;
            }
            texts.push(ReadMessagesResponse::decode(&received[5..end]).expect("a message").text);
            received.drain(..end);
        }
    }
    texts
}
