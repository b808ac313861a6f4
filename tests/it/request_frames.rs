//! A request is one message however it is cut into frames, and whatever happens to the calls beside
//! it.

use crate::support::suite::tests;
use crate::support::{http2, server};
use bytes::Bytes;
use h2::Reason;
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests![
        requests_in_frames_of_one_byte_are_accepted,
        requests_with_trailers_are_accepted,
        incomplete_and_cancelled_calls_do_not_delay_others
    ]
}

async fn requests_in_frames_of_one_byte_are_accepted() {
    let server = server(&[]);
    let mut reader = server.reader().await;
    let mut requests = http2::open(server.address).await;
    let text = "0123456789".repeat(1_000);
    let (answer, mut stream) = http2::begin(&mut requests, "SendMessage");
    for byte in http2::message(&text) {
        stream.send_data(Bytes::from(vec![byte]), false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(http2::status(answer).await, "0");
    assert_eq!(reader.next().await.text, text);
}

async fn requests_with_trailers_are_accepted() {
    let server = server(&[]);
    let mut reader = server.reader().await;
    let mut requests = http2::open(server.address).await;
    let (answer, mut stream) = http2::begin(&mut requests, "SendMessage");
    stream.send_data(http2::message("hey"), false).unwrap();
    stream.send_trailers(http::HeaderMap::from_iter([("x-end".parse().unwrap(), "1".parse().unwrap())])).unwrap();
    assert_eq!(http2::status(answer).await, "0");
    assert_eq!(reader.next().await.text, "hey");
}

async fn incomplete_and_cancelled_calls_do_not_delay_others() {
    const MIB: usize = 1024 * 1024;
    let server = server(&[]);
    let mut reader = server.reader().await;
    let mut requests = http2::open(server.address).await;
    let mut half = Vec::new();
    for number in 0..200 {
        let (answer, mut stream) = http2::begin(&mut requests, "SendMessage");
        stream.send_data(Bytes::from_static(b"\0\0\0"), false).unwrap();
        half.push((answer, stream));
        // Together more than the window of the connection. Each call is cancelled, or refused
        // before it is complete.
        let (answer, mut stream) = http2::begin(&mut requests, ["SendMessage", "Unknown"][number % 2]);
        let mut body = vec![0; MIB / 4];
        body[1] = 1;
        // The call may be refused already.
        let _ = stream.send_data(body.into(), false);
        if number % 2 == 0 {
            stream.send_reset(Reason::CANCEL);
        } else {
            assert_eq!(http2::status(answer).await, "12");
        }
    }
    let text = "x".repeat(3 * MIB);
    let (answer, mut stream) = http2::begin(&mut requests, "SendMessage");
    stream.send_data(http2::message(&text), true).unwrap();
    assert_eq!(http2::status(answer).await, "0");
    assert_eq!(reader.next().await.text, text, "the first message there is");
    for (answer, mut stream) in half {
        stream.send_data(http2::message("").slice(3..), true).unwrap();
        assert_eq!(http2::status(answer).await, "0");
    }
    assert_eq!(reader.take(200).await.len(), 200);
}
