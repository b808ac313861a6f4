//! Properties of readers that begin, resume and fall behind in any order.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use slab::Slab;

use super::{
    EncodedMessage, Environment, Epoch, Frames, FuturePosition, Opened, Reader, Room, RoomLimits, Start, StreamEnd,
};
use crate::proto::{ReadMessagesResponse, frame};
use crate::segmented_log::SEGMENT;
use crate::send_time::SendTime;

const RETENTION: usize = 4 * SEGMENT;
/// Text sizes: empty, small, about a whole segment, and more than one.
const SIZES: [usize; 8] = [0, 1, 100, 5_000, 30_000, SEGMENT - 40, SEGMENT + 1, 2 * SEGMENT];

/// The room, all messages that were ever posted, and readers with the index of their next message.
struct Model {
    room: Arc<Room>,
    birth: SendTime,
    /// The time of each message, and the end of its frame in the sequence of all frames.
    posted: Vec<(SendTime, usize)>,
    published: usize,
    readers: Vec<(Reader, usize)>,
}

/// A reader gets every message from where it resumes, once and in order, or is told that messages
/// are missing. It is told so only if that is true. Each byte of the input is an action and a
/// number.
pub fn resume(input: &[u8]) {
    let limits = RoomLimits { retention: RETENTION, keys: 1 };
    let birth = SendTime::default().next(SystemTime::now()).expect("before 2554");
    let environment = Environment { clock: SystemTime::now, poisoned: || panic!("a poisoned lock") };
    let room = Arc::new(Room::new(limits, Epoch::from_random(1), birth, environment));
    let mut model = Model { room, birth, posted: Vec::new(), published: 0, readers: Vec::new() };
    // Enough actions for everything to happen. The bound limits what one input costs.
    for byte in input.iter().take(200) {
        let number = usize::from(byte >> 3);
        match byte & 7 {
            0 | 1 => model.post(SIZES[number % SIZES.len()]),
            2 => model.publish(),
            3 => model.open_now(),
            4 => model.open_after(number, 0),
            5 => model.open_after(number >> 1, if number & 1 == 0 { -1 } else { 1 }),
            6 => model.open_in_another_epoch(),
            _ => model.read(number),
        }
    }
    model.room.close();
    model.published = model.posted.len();
    while let Some((mut reader, next)) = model.readers.pop() {
        model.read_to_the_end(&mut reader, next);
    }
}

impl Model {
    fn post(&mut self, size: usize) {
        let (author, text) = (self.posted.len().to_string(), "x".repeat(size));
        let message = EncodedMessage::new(author.clone(), text.clone());
        let time = self.room.post(message).expect("an open room");
        assert!(time > self.last(), "in the order of time");
        let response = ReadMessagesResponse { author, text, send_time: Some(time.into()) };
        let end = self.end(self.posted.len()) + frame::encode(&response).len();
        self.posted.push((time, end));
    }

    fn publish(&mut self) {
        self.room.publish(&mut Slab::new());
        self.published = self.posted.len();
    }

    fn open_now(&mut self) {
        let opened = self.room.open(Start::Now).expect("a reader");
        assert_eq!((opened.position, opened.resumed), (self.last(), None));
        self.readers.push((opened.reader, self.posted.len()));
    }

    /// Resumes after one of the last messages, or a nanosecond beside it.
    fn open_after(&mut self, back: usize, nanos: i64) {
        let time = self.posted.iter().rev().nth(back).map_or(self.birth, |(time, _)| *time);
        let after = at(time.as_nanos().saturating_add_signed(nanos));
        match self.room.open(Start::After(self.room.epoch(), after)) {
            Err(FuturePosition) => assert!(after > self.last()),
            Ok(opened) => {
                assert!(after <= self.last());
                let next = self.first_after(after);
                if opened.resumed == Some(true) {
                    assert_eq!(opened.position, after);
                    self.readers.push((opened.reader, next));
                } else {
                    // A time before the room's birth is of another room, so something is missing
                    // although no message of this room is.
                    assert!(self.may_be_gone(next) || after < self.birth, "everything is kept");
                    self.begins_with_the_oldest(opened);
                }
            }
        }
    }

    fn open_in_another_epoch(&mut self) {
        let start = Start::After(Epoch::from_random(2), self.last());
        let opened = self.room.open(start).expect("a reader");
        self.begins_with_the_oldest(opened);
    }

    fn begins_with_the_oldest(&mut self, opened: Opened) {
        assert_eq!(opened.resumed, Some(false));
        let next = self.first_after(opened.position);
        assert!(next == 0 || self.may_be_gone(next - 1), "the message before the first is kept");
        self.readers.push((opened.reader, next));
    }

    fn read(&mut self, number: usize) {
        if self.readers.is_empty() {
            return;
        }
        let index = number % self.readers.len();
        let (mut reader, next) = self.readers.swap_remove(index);
        match reader.poll_read(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(frames)) => {
                let next = self.got(&frames, next);
                self.readers.push((reader, next));
            }
            Poll::Ready(Err(StreamEnd::FellBehind)) => assert!(self.may_be_gone(next)),
            Poll::Ready(Err(end)) => panic!("the room is open: {end}"),
            // A reader may begin with a message that is not published yet.
            Poll::Pending => {
                assert!(next >= self.published, "{next} is published");
                self.readers.push((reader, next));
            }
        }
    }

    fn read_to_the_end(&self, reader: &mut Reader, mut next: usize) {
        loop {
            match reader.poll_read(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(frames)) => next = self.got(&frames, next),
                Poll::Ready(Err(StreamEnd::FellBehind)) => return assert!(self.may_be_gone(next)),
                Poll::Ready(Err(end)) => {
                    assert_eq!((end, next), (StreamEnd::Closed, self.posted.len()));
                    return;
                }
                Poll::Pending => panic!("the room is closed"),
            }
        }
    }

    /// Checks the frames that a reader got, and gives the index of its next message.
    fn got(&self, frames: &Frames, mut next: usize) -> usize {
        let mut bytes = &frames.bytes[..];
        assert!(!bytes.is_empty());
        while let Some((message, rest)) = frame::split(bytes) {
            let message = ReadMessagesResponse::decode(message).expect("a message");
            assert_eq!(message.author, next.to_string());
            assert_eq!(message.send_time, Some(self.posted[next].0.into()));
            bytes = rest;
            next += 1;
        }
        assert!(bytes.is_empty() && next <= self.published);
        next
    }

    /// Whether the room may have dropped a message. It drops whole segments, and reserves the bytes
    /// of the longest time in each frame.
    fn may_be_gone(&self, index: usize) -> bool {
        let largest = SIZES[SIZES.len() - 1] + 64;
        self.end(self.posted.len()) - self.end(index) + largest > RETENTION
    }

    /// The end of the frame before the message with this index.
    fn end(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.posted[before].1)
    }

    fn last(&self) -> SendTime {
        self.posted.last().map_or(self.birth, |(time, _)| *time)
    }

    fn first_after(&self, time: SendTime) -> usize {
        self.posted.partition_point(|(posted, _)| *posted <= time)
    }
}

fn at(nanos: u64) -> SendTime {
    let time = UNIX_EPOCH + Duration::from_nanos(nanos);
    humantime::format_rfc3339_nanos(time).to_string().parse().expect("a time")
}
