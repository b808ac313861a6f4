//! A model of the room: its real code with a lock whose interleavings a scheduler chooses, in
//! thousands of runs.
//!
//! The model finds what a test with threads finds once in a thousand runs or never: a reader that
//! sleeps although there is something to read (the scheduler reports a deadlock), a message that
//! only some readers see, or two orders.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use prost::Message;
use shuttle::future::block_on;
use shuttle::thread;
use slab::Slab;

use super::state::Lifecycle;
use super::{EncodedMessage, Environment, Epoch, Frames, Reader, Room, RoomLimits, Start, StreamEnd};
use crate::proto::{ReadMessagesResponse, frame};
use crate::send_time::SendTime;

const ITERATIONS: usize = 5_000;
const LIMITS: RoomLimits = RoomLimits { retention: 1024 * 1024, keys: 10 };
const POSTERS: usize = 2;
const EACH: usize = 2;

#[test]
fn every_reader_sees_one_order_and_none_sleeps_through_it() {
    shuttle::check_random(post_and_read, ITERATIONS);
}

#[test]
fn the_same_with_few_switches_at_the_worst_places() {
    shuttle::check_pct(post_and_read, ITERATIONS, 4);
}

#[test]
fn a_reader_ends_only_after_all_accepted_messages() {
    shuttle::check_random(close_while_posting, ITERATIONS);
}

fn close_while_posting() {
    let room = room();
    let early = subscribe(&room);
    let early = thread::spawn(move || read(early, usize::MAX));
    let poster = {
        let room = Arc::clone(&room);
        thread::spawn(move || {
            let post = || room.post(EncodedMessage::new(String::new(), String::new()));
            (0..EACH).filter_map(|_| post().ok()).map(SendTime::as_nanos).collect::<Vec<_>>()
        })
    };
    room.close();
    assert_eq!(early.join().unwrap(), poster.join().unwrap());
}

fn post_and_read() {
    let room = room();
    let subscribe_early = |_| {
        let reader = subscribe(&room);
        thread::spawn(move || read(reader, POSTERS * EACH))
    };
    let early: Vec<_> = (0..2).map(subscribe_early).collect();
    let dispatcher = {
        let room = Arc::clone(&room);
        thread::spawn(move || dispatch(&room))
    };
    let posters: Vec<_> = (0..POSTERS)
        .map(|_| {
            let room = Arc::clone(&room);
            thread::spawn(move || (0..EACH).map(|_| post(&room)).collect::<Vec<_>>())
        })
        .collect();
    let late = {
        let room = Arc::clone(&room);
        thread::spawn(move || read(subscribe(&room), usize::MAX))
    };

    let mut posted: Vec<_> = posters.into_iter().flat_map(|poster| poster.join().unwrap()).collect();
    posted.sort_unstable();
    // The room closes only after the early readers have everything: closing wakes all readers, and
    // would hide a round that did not.
    for reader in early {
        assert_eq!(reader.join().unwrap(), posted, "everything, once, in the order of the times");
    }
    room.close();
    room.appended.notify_one();
    dispatcher.join().unwrap();
    let late = late.join().unwrap();
    assert_eq!(late, posted[posted.len() - late.len()..], "an end of the order");
    assert!(room.post(EncodedMessage::new(String::new(), String::new())).is_err());
}

fn room() -> Arc<Room> {
    let environment = Environment { clock: SystemTime::now, poisoned: || panic!("a poisoned lock") };
    Arc::new(Room::new(LIMITS, Epoch::from_random(1), SendTime::default(), environment))
}

/// [`Room::dispatch`] without its clock: the scheduler chooses the pauses between rounds.
fn dispatch(room: &Room) {
    let mut woken = Slab::new();
    loop {
        block_on(room.appended.notified());
        if room.lock().lifecycle != Lifecycle::Open {
            return;
        }
        room.publish(&mut woken);
    }
}

fn subscribe(room: &Arc<Room>) -> Reader {
    room.open(Start::Now).unwrap().reader
}

fn post(room: &Room) -> u64 {
    room.post(EncodedMessage::new("author".to_owned(), "text".to_owned())).unwrap().as_nanos()
}

/// The times of the next `count` messages, or of all until the room closes.
fn read(mut reader: Reader, count: usize) -> Vec<u64> {
    let mut times = Vec::new();
    while times.len() < count {
        match block_on(poll_fn(|cx| reader.poll_read(cx))) {
            Ok(Frames { bytes, more }) => {
                times.extend(decode(&bytes));
                if !more && times.len() < count {
                    // Like a caller that relies on `more`, this sleeps without another read.
                    block_on(until_woken(&mut reader));
                }
            }
            Err(end) => {
                assert_eq!(end, StreamEnd::Closed);
                break;
            }
        }
    }
    times
}

/// Sleeps until the room wakes the task. The scheduler notices if the room never does.
async fn until_woken(reader: &mut Reader) {
    poll_fn(|_| if reader.is_waiting() { Poll::Pending } else { Poll::Ready(()) }).await;
}

fn decode(mut frames: &[u8]) -> Vec<u64> {
    let mut times = Vec::new();
    while let Some((message, rest)) = frame::split(frames) {
        let time = ReadMessagesResponse::decode(message).unwrap().send_time.unwrap();
        times.push(SendTime::try_from(time).unwrap().as_nanos());
        frames = rest;
    }
    assert!(frames.is_empty(), "whole frames");
    times
}
