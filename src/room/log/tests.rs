use std::time::SystemTime;

use super::*;

const MIB: usize = 1024 * 1024;

/// Appends a message with a text of `size` bytes, and gives its frame.
fn append(log: &mut Log, size: usize) -> Bytes {
    let time = SendTime::default().next(SystemTime::now()).expect("a time");
    let draft = || Draft::new("author".to_owned(), "x".repeat(size));
    log.append(draft(), time);
    draft().into_bytes(time)
}

fn frames(found: Found) -> Bytes {
    match found {
        Found::Frames(frames) => frames,
        other => panic!("no frames but {other:?}"),
    }
}

/// Reads on from `position` until there is nothing more.
fn read_all(log: &mut Log, mut position: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while let Found::Frames(frames) = log.read(position) {
        assert!(!frames.is_empty());
        position += frames.len() as u64;
        all.extend_from_slice(&frames);
    }
    all
}

#[test]
fn gives_back_what_was_put_in_from_every_position() {
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
    assert_eq!(log.read(0), Found::Nothing);
    log.publish();
    append(&mut log, 10);
    append(&mut log, 2 * SEGMENT);
    assert_eq!(frames(log.read(0)), first, "a closed segment, published in part");
    assert_eq!(log.read(first.len() as u64), Found::Nothing);
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
fn copies_that_are_held_are_few() {
    let mut log = Log::new(MIB, SendTime::default());
    let (mut starts, mut held, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..600 {
        starts.push(log.end());
        expected.extend_from_slice(&append(&mut log, 100));
        log.publish();
        // Readers from everywhere, who keep what they get.
        for start in &starts {
            let got = frames(log.read(*start));
            assert_eq!(got, expected[offset(0, *start)..][..got.len()]);
            held.push(got);
        }
        assert!(log.copied.load(Ordering::Relaxed) <= MIB / COPIES);
    }
    drop((held, log.shared));
    assert_eq!(log.copied.load(Ordering::Relaxed), 0);
}

#[test]
fn a_segment_is_as_long_as_promised() {
    let mut log = Log::new(64 * MIB, SendTime::default());
    for _ in 0..3_000 {
        append(&mut log, 100);
    }
    log.publish();
    let first = frames(log.read(0)).len();
    assert!(first <= SEGMENT && first > SEGMENT - 200, "{first}");
}

#[test]
fn keeps_no_more_than_retention_and_says_what_is_gone() {
    let mut log = Log::new(8 * MIB, SendTime::default());
    for i in 0..10_000 {
        append(&mut log, if i % 100 == 0 { MIB } else { 1_000 });
        log.publish();
        assert!(log.closed_bytes + log.open.len() <= 8 * MIB);
        assert_eq!(log.closed_bytes, log.closed.iter().map(|segment| segment.frames.len()).sum::<usize>());
    }
    assert_eq!(log.read(0), Found::Gone);
    let oldest = log.closed.front().expect("a segment").start;
    assert_eq!(log.read(oldest - 1), Found::Gone);
    let kept = read_all(&mut log, oldest).len();
    assert!(kept > 6 * MIB, "{kept} bytes kept");
}
