use std::future::pending;

use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;
use crate::net::{ConnectionLimits, ConnectionMetrics, WatchedTcp, serve_connections};

const LONG: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_millis(50);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A connection that is served with this patience, and how it has ended on the server's side.
async fn connection(patience: Patience) -> (TcpStream, oneshot::Receiver<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (ended, end) = oneshot::channel();
    let ended = std::sync::Mutex::new(Some(ended));
    let limits = ConnectionLimits { connections: 1, drain: Duration::ZERO };
    tokio::spawn(serve_connections(
        listener,
        pending(),
        limits,
        ConnectionMetrics::default(),
        || {},
        move |stream, drain| {
            let ended = ended.lock().expect("no panic").take();
            async move {
                let service = service_fn(async |_| Ok::<_, std::convert::Infallible>(Response::new(String::new())));
                let served = serve(WatchedTcp::new(stream).0.into(), service, drain, patience).await;
                let _ = ended.expect("one connection").send(served.is_ok());
            }
        },
    ));
    (TcpStream::connect(address).await.expect("a connection"), end)
}

async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(REQUEST).await.expect("a connection");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.expect("an answer"), 0, "closed");
    }
    String::from_utf8(answer).expect("text")
}

/// The connection is closed, and not reset.
async fn is_closed(stream: &mut TcpStream) {
    let closed = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut [0])).await;
    assert_eq!(closed.expect("the close").expect("no reset"), 0);
}

#[tokio::test]
async fn silence_between_requests_ends_a_connection() {
    let (mut stream, end) = connection(Patience { idle: SHORT, head: LONG, close: SHORT }).await;
    is_closed(&mut stream).await;
    assert_eq!(end.await, Ok(false));
}

#[tokio::test]
async fn half_a_head_ends_a_connection_that_may_be_silent_for_long() {
    let patience = Patience { idle: LONG, head: SHORT, close: SHORT };
    for before in 0..3 {
        let (mut stream, _end) = connection(patience).await;
        for _ in 0..before {
            ask(&mut stream).await;
        }
        tokio::time::sleep(3 * SHORT).await;
        stream.write_all(b"G").await.expect("a connection");
        is_closed(&mut stream).await;
    }
}

#[tokio::test]
async fn a_head_may_take_its_time_after_a_silence() {
    // The rest of the head comes later than the silence may last.
    let (mut stream, _end) = connection(Patience { idle: 20 * SHORT, head: LONG, close: SHORT }).await;
    stream.write_all(&REQUEST[..1]).await.expect("a connection");
    tokio::time::sleep(25 * SHORT).await;
    stream.write_all(&REQUEST[1..]).await.expect("a connection");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_request_that_meets_the_close_is_not_met_with_a_reset() {
    let (mut stream, end) = connection(Patience { idle: SHORT, head: LONG, close: LONG }).await;
    // The close has come, and is not looked at before the request.
    while stream.peek(&mut [0]).await.expect("no reset") > 0 {}
    for _ in 0..10 {
        stream.write_all(REQUEST).await.expect("no reset");
        tokio::time::sleep(SHORT / 10).await;
    }
    is_closed(&mut stream).await;
    drop(stream);
    assert_eq!(end.await, Ok(false), "it has waited for our close");
}

#[tokio::test]
async fn answers_say_how_long_the_connection_is_kept() {
    let (mut stream, _end) = connection(PATIENCE).await;
    let answer = ask(&mut stream).await;
    assert!(answer.contains("\r\nconnection: keep-alive\r\nkeep-alive: timeout=90\r\n"), "{answer}");
    let announced = ANNOUNCED.to_str().expect("text").strip_prefix("timeout=").and_then(|time| time.parse().ok());
    assert!(Duration::from_secs(announced.expect("a number")) < PATIENCE.idle);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: x, Close\r\n\r\n").await.expect("a connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.contains("\r\nconnection: close\r\n") && !answer.contains("keep-alive"), "{answer}");
}
