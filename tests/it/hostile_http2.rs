//! Attacks over HTTP/2, written frame by frame: the server serves the others, memory is bounded,
//! nothing panics, and the server shuts down.

use std::time::Duration;

use crate::support;
use crate::support::raw_http2::Outcome::{Ends, Lives};
use crate::support::raw_http2::*;
use crate::support::siege::{Besieged, KIB, MIB};
use crate::support::suite::tests;
use libtest_mimic::Trial;
use tokio::task::JoinSet;

pub fn tests() -> Vec<Trial> {
    tests![
        floods_of_frames_are_bounded,
        floods_from_a_peer_that_does_not_read_are_bounded,
        ten_thousand_streams_are_bounded,
        closed_and_tiny_windows_are_bounded,
        slow_connections_are_bounded
    ]
}

/// Enough frames that growth with each of them shows beside the buffers of a connection.
const COUNT: u32 = 100_000;
/// The growth of the server during floods that leave nothing behind: buffers, and what h2 remembers
/// of a thousand calls (`MAX_ENDED_EARLY`, `MAX_CANCELLED_CALLS` in
/// `src/server/http2/connection.rs`). 80 bytes for each frame would exceed it.
const FLOOD: usize = 8 * MIB;
/// The memory of an open call: 1 to 3 KiB, as the comment of `CALLS` says, and more in a debug
/// build.
const CALL: usize = 4 * KIB;

type Frames = Box<dyn Iterator<Item = Vec<u8>> + Send>;
/// The bytes that an attack sends over one of many streams.
type Call = fn(u32) -> Vec<u8>;

fn again(frame: Vec<u8>) -> Frames {
    Box::new(std::iter::repeat_n(frame, COUNT as usize))
}

fn each(frames: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Frames {
    Box::new(streams(COUNT).map(frames))
}

async fn floods_of_frames_are_bounded() {
    let send = || begin(1, "SendMessage");
    let attacks: [(&str, Vec<u8>, Frames, Outcome); 14] = [
        ("rapid reset", vec![], each(|id| [begin(id, "ReadMessages"), reset(id)].concat()), Ends),
        ("refused and reset", vec![], each(|id| [begin(id, "Unknown"), reset(id)].concat()), Ends),
        ("settings", vec![], again(settings(&[])), Lives),
        ("pings", vec![], again(frame(PING, 0, 0, b"flooding")), Lives),
        ("answers to no ping", vec![], again(frame(PING, ACK, 0, b"flooding")), Lives),
        ("priorities", vec![], again(frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 7])), Lives),
        ("unknown frames", vec![], again(frame(77, 255, 0, b"whatever it is")), Lives),
        ("one byte of window at a time", vec![], again(window_update(0, 1)), Lives),
        ("goaways", vec![], again(frame(GOAWAY, 0, 0, &[0; 8])), Ends),
        ("empty data", send(), again(frame(DATA, 0, 1, b"")), Ends),
        ("padding and no data", send(), again(frame(DATA, PADDED, 1, &[0])), Ends),
        ("data after the end", send_message(1, "hey"), again(frame(DATA, 0, 1, b"x")), Ends),
        ("trailers after the end", send_message(1, "hey"), again(frame(HEADERS, 5, 1, &header("x", "y"))), Ends),
        (
            "headers without an end",
            frame(HEADERS, 0, 1, &call("ReadMessages")),
            again(frame(CONTINUATION, 0, 1, b"")),
            Ends,
        ),
    ];
    let server = Besieged::server().await;
    let mut open = Vec::new();
    for (attack, first, flood, outcome) in attacks {
        let mut raw = Raw::open(server.address, &[]).await;
        assert!(raw.write(&first).await);
        raw.pour(flood).await;
        raw.comes_to(attack, outcome).await;
        open.push(raw);
    }
    server.stands(FLOOD).await;
}

async fn floods_from_a_peer_that_does_not_read_are_bounded() {
    let server = Besieged::server().await;
    let mut left_open = Vec::new();
    for (attack, flood) in [("settings, unread", settings(&[])), ("pings, unread", frame(PING, 0, 0, b"flooding"))] {
        let mut raw = Raw::connect(server.address).await;
        assert!(raw.write(&[PREFACE, &settings(&[])].concat()).await);
        // Far more than the buffers of the kernel in either direction.
        let times = 400;
        let taken = raw.pour(std::iter::repeat_n(flood.repeat(10_000), times)).await;
        assert!(taken < times, "{attack}: who takes no answers is read no further");
        left_open.push(raw);
    }
    server.stands(FLOOD).await;
}

async fn ten_thousand_streams_are_bounded() {
    const STREAMS: u32 = COUNT / 10;
    let server = Besieged::server().await;
    let mut left_open = Vec::new();
    let attacks: [(&str, Call); 4] = [
        ("messages that never come", |id| begin(id, "SendMessage")),
        ("messages that never end", |id| [begin(id, "SendMessage"), frame(DATA, 0, id, b"\0\0\0\x01\0begun")].concat()),
        ("readers who do not read", read_messages),
        ("refused calls of who does not read", |id| frame(HEADERS, END_HEADERS | END_STREAM, id, &call("Unknown"))),
    ];
    let count = attacks.len();
    for (attack, call) in attacks {
        let mut raw = Raw::connect(server.address).await;
        assert!(raw.write(&[PREFACE, &settings(&[(INITIAL_WINDOW, i32::MAX as u32)])].concat()).await);
        assert_eq!(raw.pour(streams(STREAMS).map(call)).await, STREAMS as usize, "{attack}");
        // Reading begins after all was written.
        let mut raw = raw.listening();
        raw.comes_to(attack, Lives).await;
        left_open.push(raw);
    }
    server.stands(FLOOD + count * STREAMS as usize * CALL).await;
}

async fn closed_and_tiny_windows_are_bounded() {
    const READERS: u32 = 1_000;
    let server = Besieged::server().await;
    let mut left_open = Vec::new();
    for (attack, window) in [("windows of nothing", 0), ("windows of one byte", 1)] {
        let mut raw = Raw::open(server.address, &[(INITIAL_WINDOW, window)]).await;
        raw.pour(streams(READERS).map(read_messages)).await;
        raw.pour(streams(READERS).map(|id| send_message(id + 2 * READERS, "hey"))).await;
        // Each stream gets one more byte of window, repeatedly.
        for _ in 0..10 {
            raw.pour(streams(READERS).map(|id| window_update(id, 1))).await;
            raw.comes_to(attack, Lives).await;
        }
        // A window that opens at last gets the messages.
        let before = raw.seen().frames[usize::from(DATA)];
        assert!(raw.write(&[settings(&[(INITIAL_WINDOW, 1 << 20)]), window_update(0, 1 << 30)].concat()).await);
        raw.until("what was held back", |seen| seen.frames[usize::from(DATA)] >= before + READERS as usize).await;
        left_open.push(raw);
    }
    let mut raw = Raw::open(server.address, &[]).await;
    raw.pour(streams(READERS).map(read_messages)).await;
    let sizes = [0, i32::MAX as u32].into_iter().cycle().take(COUNT as usize / 100);
    raw.pour(sizes.map(|size| settings(&[(INITIAL_WINDOW, size)]))).await;
    raw.comes_to("windows that shrink and grow", Lives).await;
    // A stream of a reader, and a send.
    server.stands(FLOOD + 5 * READERS as usize * CALL).await;
}

async fn slow_connections_are_bounded() {
    const EACH: usize = 100;
    // The buffers of a connection.
    const CONNECTION: usize = 32 * KIB;
    let server = Besieged::server().await;
    let hello = [PREFACE, &settings(&[])].concat();
    let headers = begin(1, "SendMessage");
    let in_pieces = call("SendMessage").chunks(50).flat_map(|piece| frame(CONTINUATION, 0, 1, piece)).collect();
    let message = frame(DATA, END_STREAM, 1, &support::http2::message(&"slowly".repeat(20)));
    let attacks: [(&str, Vec<u8>, Vec<u8>); 4] = [
        ("a preface", vec![], hello.clone()),
        ("headers", hello.clone(), headers.clone()),
        ("headers in pieces", [&hello[..], &frame(HEADERS, 0, 1, &[])].concat(), in_pieces),
        ("a message", [&hello[..], &headers].concat(), message),
    ];
    let count = attacks.len();
    let mut slow = JoinSet::new();
    for (attack, at_once, slowly) in attacks {
        for _ in 0..EACH {
            let mut raw = Raw::connect(server.address).await.listening();
            let (at_once, slowly) = (at_once.clone(), slowly.clone());
            slow.spawn(async move {
                raw.write(&at_once).await;
                // All bytes but the last, for which the server may wait.
                for byte in &slowly[..slowly.len() - 1] {
                    raw.write(&[*byte]).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                (attack, raw)
            });
        }
    }
    let slow = slow.join_all().await;
    for (attack, raw) in &slow {
        assert!(!raw.seen().closed, "{attack}: it may be a slow network");
    }
    server.stands(FLOOD + count * EACH * CONNECTION).await;
}
