//! The newest messages, for the pages that show them.
//!
//! They are kept as the server-sent events that every page will get (<https://html.spec.whatwg.org/multipage/server-sent-events.html>),
//! encoded once. A page is a position in them, which is a byte offset in the endless stream of events, and has no queue of its own.
//! All of it is apart from the postbox: who looks at a page takes nothing from a flush.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use prost_types::Timestamp;
use tokio::sync::Notify;

use super::message_json::MessageJson;
use crate::process;
use crate::send_time::{SendTime, rfc3339};

/// About how much a page gets at once. A larger message is a segment of its own.
const SEGMENT: usize = 64 * 1024;
/// Segments that are searched for the event after which a page goes on. Where times are in order, it
/// is in the first of them. If none of so many has it, the page begins with the oldest event and is
/// told of a gap.
const SEARCHED: usize = 16;
/// The line of an event's identity, and the empty line at its end.
const ID: usize = "id: 2025-09-20T10:58:42.665193557Z\n\n".len();

/// A time in a form that can be compared: seconds and nanoseconds.
type Time = (i64, i32);

/// The events of the newest messages.
#[derive(Debug)]
pub(crate) struct History {
    log: Mutex<Log>,
    /// Something was added. Costs one atomic operation while no page waits.
    news: Notify,
}

/// The place of a page.
#[derive(Debug)]
pub(crate) struct Reader {
    history: Arc<History>,
    position: u64,
    /// What came before this position is gone, and the page is to be told.
    missed: bool,
}

/// What there is for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Whole events, shared by all pages. Never empty.
    Events(Bytes),
    /// Messages may be missing here; what comes next is the oldest that there is.
    Gap,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    events: Bytes,
    times: RangeInclusive<Time>,
}

/// A search for one event.
struct Search {
    /// Its first line.
    line: Vec<u8>,
    /// Closed segments that may have it, oldest first, and where each begins.
    closed: Vec<(u64, Bytes)>,
    /// Where it ends in the open segment, if it is there.
    open: Option<u64>,
}

#[derive(Debug)]
struct Log {
    /// Oldest first, each beginning where the one before it ends.
    closed: VecDeque<Segment>,
    closed_bytes: usize,
    /// The segment that is being written, where it begins, and the earliest and latest of its times. Times of two lives of a server
    /// need not be in order.
    open: Vec<u8>,
    open_start: u64,
    open_times: Option<RangeInclusive<Time>>,
    /// Slices of the open segment that were handed out since the last event: pages that keep up are all at the same position, and
    /// share one copy.
    shared: Vec<(u64, Bytes)>,
    limit: usize,
}

impl History {
    /// An empty one, which will keep at most `limit` bytes of events, or one message if that is larger.
    pub(crate) fn new(limit: usize) -> Self {
        let log = Log {
            closed: VecDeque::new(),
            closed_bytes: 0,
            open: Vec::new(),
            open_start: 0,
            open_times: None,
            shared: Vec::new(),
            limit,
        };
        Self { log: Mutex::new(log), news: Notify::new() }
    }

    /// Adds a message. It is copied, and nothing waits.
    pub(crate) fn push(&self, message: &MessageJson) {
        self.append(Some((message.stamp(), message.time())), &[b"data: ", message.as_bytes(), b"\n"]);
    }

    /// Notes that the stream begins here: it has everything after `position`. A page that has been told so and nothing since will find
    /// its place by it.
    pub(crate) fn begin(&self, position: SendTime) {
        // An identity without data is remembered by the browser, and is no event to the page.
        self.append(Some((position.into(), position.to_string().as_bytes())), &[]);
    }

    /// Notes that messages may be missing here, and that everything after `position` is there again, if that is known.
    pub(crate) fn note_gap(&self, position: Option<SendTime>) {
        let text = position.map(|position| position.to_string());
        let id = position.map(Timestamp::from).zip(text.as_deref().map(str::as_bytes));
        self.append(id, &[GAP.trim_ascii_end(), b"\n"]);
    }

    /// A page that begins with the oldest event there is, or after the event `id`, if the page says that it has had that.
    pub(crate) fn read(self: &Arc<Self>, id: Option<&str>) -> Reader {
        let log = self.lock();
        let oldest = log.oldest();
        let search = id.map(|id| log.search(id));
        drop(log);
        // Without the lock, which the stream needs.
        let place = search.map(|search| search.and_then(Search::find));
        let position = place.flatten().unwrap_or(oldest);
        Reader { history: Arc::clone(self), position, missed: place == Some(None) }
    }

    /// Adds an event: its identity, as a time and as text, and its other lines in pieces.
    fn append(&self, id: Option<(Timestamp, &[u8])>, lines: &[&[u8]]) {
        let mut log = self.lock();
        log.make_room(ID + lines.iter().map(|piece| piece.len()).sum::<usize>());
        if let Some((time, text)) = id {
            log.open.extend_from_slice(b"id: ");
            log.open.extend_from_slice(text);
            log.open.push(b'\n');
            let time = (time.seconds, time.nanos);
            log.open_times = Some(match log.open_times.take() {
                None => time..=time,
                Some(times) => time.min(*times.start())..=time.max(*times.end()),
            });
        }
        for piece in lines {
            log.open.extend_from_slice(piece);
        }
        log.open.push(b'\n');
        drop(log);
        self.news.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        process::unpoisoned(self.log.lock())
    }
}

/// The event which says that messages may be missing.
pub(crate) const GAP: &[u8] = b"event: gap\ndata: messages may be missing here\n\n";

impl Reader {
    /// The next events, as soon as there are any. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Found {
        loop {
            // Before looking, so that what comes between the look and the wait wakes it.
            let news = self.history.news.notified();
            if let Some(found) = Self::look(&self.history, &mut self.position, &mut self.missed) {
                return found;
            }
            news.await;
        }
    }

    fn look(history: &History, position: &mut u64, missed: &mut bool) -> Option<Found> {
        let mut log = history.lock();
        if std::mem::take(missed) || *position < log.oldest() {
            *position = log.oldest().max(*position);
            return Some(Found::Gap);
        }
        let events = log.read(*position)?;
        *position += events.len() as u64;
        Some(Found::Events(events))
    }
}

impl Log {
    /// Closes the open segment unless `size` more bytes fit into it, and forgets the oldest segments if there are too many bytes.
    fn make_room(&mut self, size: usize) {
        self.shared.clear();
        if self.open.len() + size > SEGMENT && !self.open.is_empty() {
            let mut events = std::mem::replace(&mut self.open, Vec::with_capacity(size.max(SEGMENT)));
            // What is counted must be what is held.
            events.shrink_to_fit();
            let start = self.open_start;
            self.open_start += events.len() as u64;
            self.closed_bytes += events.len();
            // Only gaps without a time: nobody looks for them.
            let times = self.open_times.take().unwrap_or((0, 0)..=(0, 0));
            self.closed.push_back(Segment { start, events: events.into(), times });
        }
        while self.closed_bytes + self.open.len() + size > self.limit
            && let Some(oldest) = self.closed.pop_front()
        {
            self.closed_bytes -= oldest.events.len();
        }
    }

    /// The beginning of what is kept.
    fn oldest(&self) -> u64 {
        self.closed.front().map_or(self.open_start, |segment| segment.start)
    }

    /// Everything from `position` to the end of its segment.
    fn read(&mut self, position: u64) -> Option<Bytes> {
        let index = self.closed.partition_point(|segment| segment.start <= position);
        if position < self.open_start
            && let Some(segment) = index.checked_sub(1).and_then(|index| self.closed.get(index))
        {
            return Some(segment.events.slice(offset(segment.start, position)..));
        }
        if let Some((_, events)) = self.shared.iter().find(|(start, _)| *start == position) {
            return Some(events.clone());
        }
        let events = self.open.get(offset(self.open_start, position)..).filter(|events| !events.is_empty())?;
        let events = Bytes::copy_from_slice(events);
        self.shared.push((position, events.clone()));
        Some(events)
    }

    /// What to search for the event with this identity; nothing, if it is none.
    fn search(&self, id: &str) -> Option<Search> {
        let time = Timestamp::from(id.parse::<SendTime>().ok()?);
        // A line that ends so is no other: that of a message ends with a brace.
        let line = format!("id: {}\n", rfc3339(&time)).into_bytes();
        let within = |times: &RangeInclusive<Time>| times.contains(&(time.seconds, time.nanos));
        let closed = self.closed.iter().filter(|segment| within(&segment.times)).take(SEARCHED);
        let closed = closed.map(|segment| (segment.start, segment.events.clone())).collect();
        let is_open = self.open_times.as_ref().is_some_and(within);
        let end = is_open.then(|| end_of_event(&self.open, &line)).flatten();
        Some(Search { line, closed, open: end.map(|end| self.open_start + end as u64) })
    }
}

impl Search {
    /// Where the event ends, if it is kept. A foreign server may give several messages one time: then
    /// what follows the first of them comes again, rather than get lost.
    fn find(self) -> Option<u64> {
        let ends = |(start, events): &(u64, Bytes)| Some(start + end_of_event(events, &self.line)? as u64);
        self.closed.iter().find_map(ends).or(self.open)
    }
}

/// Where in `events` of one segment the event ends whose first line is `line`.
fn end_of_event(events: &[u8], line: &[u8]) -> Option<usize> {
    // A segment that is larger is one event, which may have 64 MiB. Only its first line is looked at.
    if events.len() > SEGMENT {
        return events.starts_with(line).then_some(events.len());
    }
    let begin = events.windows(line.len()).position(|found| found == line)? + line.len() - 1;
    // The first empty line after it: no line of an event is empty.
    events[begin..].windows(2).position(|found| found == b"\n\n").map(|length| begin + length + 2)
}

/// The index of `position` in a segment that starts at `start`. Both are within one segment, so the difference fits.
fn offset(start: u64, position: u64) -> usize {
    usize::try_from(position - start).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
