//! The history: the newest messages, for `GET /messages` and the page that shows it.
//!
//! Messages are kept as the server-sent events that every page gets, encoded once
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). The postbox is separate: a
//! page takes nothing from a flush.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use prost_types::Timestamp;
use tokio::sync::Notify;

use super::message_json::MessageJson;
use crate::process;
use crate::segmented_log::{SEGMENT, SegmentedLog};
use crate::send_time::{SendTime, rfc3339};

/// How many segments are searched for the event after which a page resumes. If times are in order,
/// the first of them has it. If none has it, the page starts with the oldest event, after a gap.
const MAX_SEARCHED: usize = 16;
/// The size of the line with an event's id, and of the empty line at its end.
const ID_SIZE: usize = "id: 2025-09-20T10:58:42.665193557Z\n\n".len();

/// The event for a gap: messages may be missing.
pub(in crate::client) const GAP: &[u8] = b"event: gap\ndata: messages may be missing here\n\n";

/// The events of the newest messages.
#[derive(Debug)]
pub(in crate::client) struct History {
    log: Mutex<SegmentedLog<Times>>,
    /// Wakes the pages that wait for an event.
    news: Notify,
}

/// The position of one page.
#[derive(Debug)]
pub(in crate::client) struct HistoryReader {
    history: Arc<History>,
    position: u64,
    /// Whether the next part must be a gap, because events before the position are missing.
    missed: bool,
}

/// The result of one read of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) enum HistoryPart {
    /// Whole events, shared by all pages. Never empty.
    Events(Bytes),
    /// Messages may be missing here. The oldest events that are kept come next.
    Gap,
}

/// The earliest and the latest time in a segment, as seconds and nanoseconds. The times of two
/// epochs need not be in order.
#[derive(Debug, Default)]
struct Times(Option<RangeInclusive<(i64, i32)>>);

/// A search for one event. It continues after the lock is released.
struct Search {
    /// The first line of the event.
    id_line: Vec<u8>,
    /// The closed segments that may contain the event, oldest first, with their positions.
    closed: Vec<(u64, Bytes)>,
    /// The position after the event, if the open segment contains it.
    found_in_open: Option<u64>,
}

impl History {
    /// An empty history for `limit` bytes of events, or for one message if that is larger.
    pub(in crate::client) fn new(limit: usize) -> Self {
        Self { log: Mutex::new(SegmentedLog::new(limit)), news: Notify::new() }
    }

    /// Adds a message.
    pub(in crate::client) fn push(&self, message: &MessageJson) {
        let id = (message.send_time(), message.send_time_text());
        self.append(Some(id), &[b"data: ", message.as_bytes(), b"\n"]);
    }

    /// Notes that the stream starts here, and has every message after `position`.
    pub(in crate::client) fn begin(&self, position: SendTime) {
        // An event without data: the browser remembers its id, and the page does not see it. So a
        // page that has read nothing else can resume from here.
        self.append(Some((position.into(), position.to_string().as_bytes())), &[]);
    }

    /// Notes that messages may be missing here, and that the stream then has every message after
    /// `position`, if that is known.
    pub(in crate::client) fn note_gap(&self, position: Option<SendTime>) {
        let text = position.map(|position| position.to_string());
        let id = position.map(Timestamp::from).zip(text.as_deref().map(str::as_bytes));
        self.append(id, &[GAP.trim_ascii_end(), b"\n"]);
    }

    /// Starts a page at the oldest event, or after the event with the id `last`, which the page
    /// read before.
    pub(in crate::client) fn read(self: &Arc<Self>, last: Option<&str>) -> HistoryReader {
        let log = self.lock();
        let start = log.start();
        let search = last.map(|id| Search::new(&log, id));
        drop(log);
        let (position, missed) = match search.map(|search| search?.find()) {
            None => (start, false),
            Some(None) => (start, true),
            Some(Some(position)) => (position, false),
        };
        HistoryReader { history: Arc::clone(self), position, missed }
    }

    /// Adds an event: its id, as a time and as text, and its other lines in pieces.
    fn append(&self, id: Option<(Timestamp, &[u8])>, lines: &[&[u8]]) {
        let mut log = self.lock();
        let size = ID_SIZE + lines.iter().map(|piece| piece.len()).sum::<usize>();
        log.append(size, |events, times| {
            if let Some((time, text)) = id {
                for piece in [b"id: ", text, b"\n"] {
                    events.extend_from_slice(piece);
                }
                times.include(&time);
            }
            for piece in lines {
                events.extend_from_slice(piece);
            }
            events.push(b'\n');
        });
        log.trim();
        drop(log);
        self.news.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, SegmentedLog<Times>> {
        process::unpoisoned(self.log.lock())
    }
}

impl HistoryReader {
    /// Waits for the next events. Cancel safe.
    pub(in crate::client) async fn next(&mut self) -> HistoryPart {
        let history = Arc::clone(&self.history);
        loop {
            // Before the read, so that an event between the read and the wait wakes the page.
            let news = history.news.notified();
            if let Some(part) = self.try_next() {
                return part;
            }
            news.await;
        }
    }

    fn try_next(&mut self) -> Option<HistoryPart> {
        let mut log = self.history.lock();
        if std::mem::take(&mut self.missed) || self.position < log.start() {
            self.position = self.position.max(log.start());
            return Some(HistoryPart::Gap);
        }
        let end = log.end();
        if self.position == end {
            return None;
        }
        let events = log.read(self.position, end)?;
        self.position += events.len() as u64;
        Some(HistoryPart::Events(events))
    }
}

impl Times {
    fn include(&mut self, time: &Timestamp) {
        let time = (time.seconds, time.nanos);
        self.0 = Some(match self.0.take() {
            None => time..=time,
            Some(times) => time.min(*times.start())..=time.max(*times.end()),
        });
    }

    fn may_contain(&self, time: &Timestamp) -> bool {
        self.0.as_ref().is_some_and(|times| times.contains(&(time.seconds, time.nanos)))
    }
}

impl Search {
    /// Starts a search for the event with this id. `None` if it can't be the id of an event.
    fn new(log: &SegmentedLog<Times>, id: &str) -> Option<Self> {
        let time = Timestamp::from(id.parse::<SendTime>().ok()?);
        // No other line ends like this one: the line of a message ends with a brace.
        let id_line = format!("id: {}\n", rfc3339(&time)).into_bytes();
        let closed = log.closed().iter().filter(|segment| segment.summary.may_contain(&time)).take(MAX_SEARCHED);
        let closed = closed.map(|segment| (segment.start, segment.bytes.clone())).collect();
        let (start, events, times) = log.open();
        let end = times.may_contain(&time).then(|| end_of_event(events, &id_line)).flatten();
        Some(Self { id_line, closed, found_in_open: end.map(|end| start + end as u64) })
    }

    /// The position after the event, if it is kept. Other implementations may give several messages
    /// one time. Then the page gets those after the first of them again, and loses none.
    fn find(self) -> Option<u64> {
        let after = |(start, events): &(u64, Bytes)| Some(start + end_of_event(events, &self.id_line)? as u64);
        self.closed.iter().find_map(after).or(self.found_in_open)
    }
}

/// The index after the event in `events`, one segment, whose first line is `id_line`.
fn end_of_event(events: &[u8], id_line: &[u8]) -> Option<usize> {
    // A larger segment is a single event of up to 64 MiB. Its first line is enough.
    if events.len() > SEGMENT {
        return events.starts_with(id_line).then_some(events.len());
    }
    let line_end = events.windows(id_line.len()).position(|line| line == id_line)? + id_line.len() - 1;
    // The event ends with the first empty line: no line within an event is empty.
    events[line_end..].windows(2).position(|end| end == b"\n\n").map(|length| line_end + length + 2)
}

#[cfg(test)]
mod tests;
