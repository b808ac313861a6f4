//! Frames that break the rules of HTTP/2 and excessive headers end only their own connection or
//! stream.

use crate::support::raw_http2::Outcome::{Ends, Resets};
use crate::support::raw_http2::*;
use crate::support::siege::{Besieged, KIB, MIB};
use crate::support::suite::tests;
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests![hostile_header_blocks_are_bounded, frames_that_break_the_rules_end_their_connection]
}

/// The bound of the growth: only some buffers stay.
const MOST: usize = 4 * MIB;

async fn hostile_header_blocks_are_bounded() {
    // The headers of a call, followed by too many. The limit is 16 KiB.
    let block = |more: &[u8]| [&call("ReadMessages"), more].concat();
    let many: Vec<u8> = (0..10_000).flat_map(|number| header(&format!("x-{number}"), "1")).collect();
    let long = header("x", &"y".repeat(MIB));
    // A table entry of 4000 bytes that each further byte refers to.
    let bomb = [&[0x40][..], &string("x"), &string(&"y".repeat(4000)), &vec![0xbe; 60_000]].concat();
    let table: Vec<u8> =
        (0..10_000).flat_map(|n| [&[0x40][..], &string(&format!("x-{n}")), &string("y")].concat()).collect();
    let attacks: [(&str, Vec<u8>); 8] = [
        ("ten thousand headers", block(&many)),
        ("a header of a mebibyte", block(&long)),
        ("an HPACK bomb", block(&bomb)),
        ("a busy HPACK table", block(&table)),
        ("an entry of no table", block(&[0xff, 0xff, 0xff, 0x7f])),
        ("a number without an end", block(&[0xff; 100])),
        ("a string without an end", block(&[0, 0xff, 0xff, 0xff, 0x7f])),
        ("a table of 4 GiB", block(&[0x3f, 0xe0, 0xff, 0xff, 0xff, 0x0f])),
    ];
    let server = Besieged::server().await;
    for (attack, block) in attacks {
        let mut raw = Raw::open(server.address, &[(HEADER_TABLE_SIZE, u32::MAX)]).await;
        let mut pieces: Vec<_> = block
            .chunks(FRAME)
            .enumerate()
            .map(|(number, piece)| frame(if number == 0 { HEADERS } else { CONTINUATION }, 0, 1, piece))
            .collect();
        pieces.last_mut().unwrap()[4] = END_HEADERS;
        raw.pour(pieces).await;
        raw.comes_to(attack, Ends).await;
    }
    server.stands(MOST).await;
}

async fn frames_that_break_the_rules_end_their_connection() {
    let open = begin(1, "SendMessage");
    let with = |frame: Vec<u8>| [&open[..], &frame].concat();
    let attacks: Vec<(&str, Vec<u8>, Outcome)> = vec![
        ("a window that overflows", window_update(0, i32::MAX as u32), Ends),
        ("a stream's window that overflows", with(window_update(1, i32::MAX as u32)), Resets),
        (
            "windows that settings make overflow",
            [with(window_update(1, 100_000)), settings(&[(INITIAL_WINDOW, i32::MAX as u32)])].concat(),
            Ends,
        ),
        ("a window more by nothing", window_update(0, 0), Ends),
        ("a stream's window more by nothing", with(window_update(1, 0)), Ends),
        ("an initial window too large", settings(&[(INITIAL_WINDOW, u32::MAX)]), Ends),
        ("frames too small", settings(&[(MAX_FRAME_SIZE, 1)]), Ends),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[]), Ends),
        ("settings of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), Ends),
        ("an answer to settings with something in it", frame(SETTINGS, ACK, 0, &[0; 6]), Ends),
        ("a ping of seven bytes", frame(PING, 0, 0, &[0; 7]), Ends),
        ("a ping on a stream", frame(PING, 0, 1, &[0; 8]), Ends),
        ("a reset of three bytes", with(frame(RST_STREAM, 0, 1, &[0; 3])), Ends),
        ("a reset of the connection", frame(RST_STREAM, 0, 0, &[0; 4]), Ends),
        ("a reset of what never was", reset(99), Ends),
        ("a frame larger than asked for", frame(DATA, 0, 1, &vec![0; FRAME + 1]), Ends),
        ("data for the connection", frame(DATA, 0, 0, b"x"), Ends),
        ("data for what never was", frame(DATA, 0, 99, b"x"), Ends),
        ("more padding than frame", with(frame(DATA, PADDED, 1, &[9, 0])), Ends),
        ("headers for the connection", frame(HEADERS, END_HEADERS, 0, &call("ReadMessages")), Ends),
        ("a stream of the server's", begin(2, "ReadMessages"), Ends),
        ("an older stream", [begin(9, "SendMessage"), begin(3, "SendMessage")].concat(), Ends),
        (
            "a stream that depends on itself",
            frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, &[&[0, 0, 0, 1, 9], &call("SendMessage")[..]].concat()),
            Resets,
        ),
        ("a priority that depends on itself", frame(PRIORITY, 0, 3, &[0, 0, 0, 3, 9]), Resets),
        ("a priority of four bytes", frame(PRIORITY, 0, 3, &[0; 4]), Ends),
        (
            "a push",
            with(frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &call("SendMessage")[..]].concat())),
            Ends,
        ),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &[]), Ends),
        (
            "something between headers",
            [frame(HEADERS, 0, 1, &call("SendMessage")), frame(PING, 0, 0, &[0; 8])].concat(),
            Ends,
        ),
        ("no headers at all", frame(HEADERS, END_HEADERS, 1, &[]), Resets),
        ("a goodbye of four bytes", frame(GOAWAY, 0, 0, &[0; 4]), Ends),
        ("random bytes", noise(64 * KIB), Ends),
        ("the preface again", PREFACE.to_vec(), Ends),
    ];
    let server = Besieged::server().await;
    let mut left_open = Vec::new();
    for (attack, bytes, outcome) in attacks {
        let mut raw = Raw::open(server.address, &[]).await;
        raw.write(&bytes).await;
        raw.comes_to(attack, outcome).await;
        left_open.push(raw);
    }
    for (attack, bytes) in [
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("TLS", [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &noise(500)].concat()),
        ("noise", noise(MIB)),
        ("zeros", vec![0; MIB]),
        ("almost the preface", PREFACE.to_ascii_lowercase()),
    ] {
        let mut raw = Raw::connect(server.address).await.listening();
        raw.write(&bytes).await;
        raw.comes_to(attack, Ends).await;
    }
    server.stands(MOST).await;
}
