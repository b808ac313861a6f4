//! A model of the room: its real code on a lock whose interleavings a scheduler chooses, thousands of them.
//!
//! It looks for what a test with threads finds once in a thousand runs or never: a reader that sleeps while there is something to
//! read (the scheduler sees that as a deadlock), a message that one reader sees and another does not, two orders.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use prost::Message;
use shuttle::future::block_on;
use shuttle::thread;
use slab::Slab;

use super::{Draft, End, Frames, Limits, Reader, Room, Start};
use crate::proto::{ReadMessagesResponse, frame};
use crate::send_time::SendTime;

const ITERATIONS: usize = 5_000;
const LIMITS: Limits = Limits { retention: 1024 * 1024, keys: 10 };
const POSTERS: usize = 2;
const EACH: usize = 2;

#[test]
fn every_reader_sees_one_order_and_none_sleeps_through_it() {
    shuttle::check_random(model, ITERATIONS);
}

#[test]
fn the_same_with_few_switches_at_the_worst_places() {
    shuttle::check_pct(model, ITERATIONS, 4);
}

#[test]
fn a_reader_ends_only_after_all_that_was_accepted() {
    shuttle::check_random(close_while_posting, ITERATIONS);
}

fn close_while_posting() {
    let room = Arc::new(Room::new(LIMITS).expect("random numbers"));
    let early = subscribe(&room);
    let early = thread::spawn(move || read(early, usize::MAX));
    let poster = {
        let room = Arc::clone(&room);
        thread::spawn(move || {
            let draft = || Draft::new(String::new(), String::new());
            (0..EACH).filter_map(|_| room.post(draft()).ok()).map(SendTime::as_nanos).collect::<Vec<_>>()
        })
    };
    room.close();
    assert_eq!(early.join().unwrap(), poster.join().unwrap());
}

fn model() {
    let room = Arc::new(Room::new(LIMITS).expect("random numbers"));
    let early: Vec<_> =
        (0..2).map(|_| subscribe(&room)).map(|reader| thread::spawn(move || read(reader, POSTERS * EACH))).collect();
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
    // Only when the early readers have everything is the room closed: closing wakes everybody, and would hide that a round did not.
    for reader in early {
        assert_eq!(reader.join().unwrap(), posted, "everything, once, in the order of the times");
    }
    room.close();
    room.posted.notify_one();
    dispatcher.join().unwrap();
    let late = late.join().unwrap();
    assert_eq!(late, posted[posted.len() - late.len()..], "an end of the order");
    assert!(room.post(Draft::new(String::new(), String::new())).is_err());
}

/// [`Room::dispatch`] without its clock: the pauses between rounds are whatever the scheduler makes them.
fn dispatch(room: &Room) {
    let mut woken = Slab::new();
    loop {
        block_on(room.posted.notified());
        if room.lock().closed {
            return;
        }
        room.publish(&mut woken);
    }
}

fn subscribe(room: &Arc<Room>) -> Reader {
    room.open(Start::Now).unwrap().reader
}

fn post(room: &Room) -> u64 {
    room.post(Draft::new("author".to_owned(), "text".to_owned())).unwrap().as_nanos()
}

/// The times of the next `count` messages, or of all until the room closes.
fn read(mut reader: Reader, count: usize) -> Vec<u64> {
    let mut times = Vec::new();
    while times.len() < count {
        match block_on(poll_fn(|cx| reader.poll_read(cx))) {
            Ok(Frames { bytes, more }) => {
                times.extend(decode(&bytes));
                if !more && times.len() < count {
                    // As a reader does that believes it: sleeps without another look.
                    block_on(until_woken(&mut reader));
                }
            }
            Err(end) => {
                assert_eq!(end, End::Closed);
                break;
            }
        }
    }
    times
}

/// Sleeps until the room wakes the task: not before, and the scheduler finds it if never.
async fn until_woken(reader: &mut Reader) {
    poll_fn(|_| if reader.is_waiting() { Poll::Pending } else { Poll::Ready(()) }).await;
}

fn decode(mut frames: &[u8]) -> Vec<u64> {
    let mut times = Vec::new();
    while let Some((message, rest)) = frame::split(frames) {
        let time = ReadMessagesResponse::decode(message).unwrap().send_time.unwrap();
        times.push(u64::try_from(time.seconds).unwrap() * 1_000_000_000 + u64::try_from(time.nanos).unwrap());
        frames = rest;
    }
    assert!(frames.is_empty(), "whole frames");
    times
}
