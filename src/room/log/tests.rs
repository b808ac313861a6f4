use std::time::SystemTime;

use super::*;

const MIB: usize = 1024 * 1024;

/// Appends a message with a text of `size` bytes, and returns its frame.
fn append(log: &mut Log, size: usize) -> Bytes {
    let time = SendTime::default().next(SystemTime::now()).expect("a time");
    let message = || EncodedMessage::new("author".to_owned(), "x".repeat(size));
    log.append(message(), time);
    message().into_frame(time)
}

fn frames(read: LogRead) -> Bytes {
    match read {
        LogRead::Frames(frames) => frames,
        other => panic!("no frames but {other:?}"),
    }
}

/// Reads from `position` to the end.
fn read_all(log: &mut Log, mut position: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while let LogRead::Frames(frames) = log.read(position) {
        assert!(!frames.is_empty());
        position += frames.len() as u64;
        all.extend_from_slice(&frames);
    }
    all
}

#[test]
fn reads_the_appended_frames_from_every_position() {
    let mut log = Log::new(64 * MIB, SendTime::default());
    let mut expected = Vec::new();
    let mut starts = Vec::new();
    for size in (0..400).map(|i| if i % 50 == 49 { i * 700 } else { i * 3 }) {
        starts.push(expected.len());
        expected.extend_from_slice(&append(&mut log, size));
        if size % 7 == 0 {
            log.publish();
        }
    }
    log.publish();
    for start in starts {
        assert!(read_all(&mut log, start as u64) == expected[start..], "from {start}");
    }
}

#[test]
fn shows_nothing_before_it_is_published() {
    let mut log = Log::new(64 * MIB, SendTime::default());
    let first = append(&mut log, 10);
    assert_eq!(log.read(0), LogRead::Nothing);
    log.publish();
    append(&mut log, 10);
    append(&mut log, 2 * SEGMENT);
    assert_eq!(frames(log.read(0)), first, "a closed segment, published in part");
    assert_eq!(log.read(first.len() as u64), LogRead::Nothing);
}

#[test]
fn readers_from_one_position_share_one_copy() {
    let mut log = Log::new(64 * MIB, SendTime::default());
    append(&mut log, 10);
    log.publish();
    let (one, other) = (frames(log.read(0)), frames(log.read(0)));
    assert_eq!(one.as_ptr(), other.as_ptr());
    append(&mut log, 10);
    log.publish();
    assert!(frames(log.read(0)).len() > one.len(), "the next round has the new message too");
}

#[test]
fn keeps_at_most_its_retention_and_reports_dropped_positions() {
    let mut log = Log::new(8 * MIB, SendTime::default());
    for i in 0..10_000 {
        append(&mut log, if i % 100 == 0 { MIB } else { 1_000 });
        log.publish();
        assert!(log.bytes() <= 8 * MIB);
    }
    assert_eq!(log.read(0), LogRead::Gone);
    let oldest = log.start();
    assert_eq!(log.read(oldest - 1), LogRead::Gone);
    let kept = read_all(&mut log, oldest).len();
    assert!(kept > 6 * MIB, "{kept} bytes kept");
}
