//! The connection that reads the stream.

use std::time::Duration;

use redis::RedisResult;
use tracing::{info, warn};

use super::connection::{ANSWER_TIMEOUT, RedisConnection, within};
use super::entry::{Entry, RawEntries, RawStreams};
use super::script::{self, Seen, Tip};
use super::shared::Shared;

use crate::room::Room;

/// How long Redis waits for a message before it answers that there is none. The server then asks
/// whether Redis still has everything.
const BLOCK: Duration = Duration::from_secs(1);
/// About how many bytes one read gets.
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;
/// The fewest messages that one read asks for, however large they are.
const MIN_ENTRIES: usize = 16;
/// The most messages that one read asks for.
const MAX_ENTRIES: usize = 1024;

/// The stream, read over one connection.
pub(super) struct StreamReader<'a> {
    pub(super) shared: &'a Shared,
    pub(super) connection: RedisConnection,
    /// How many messages to read next.
    pub(super) count: usize,
    /// Whether the log has the warning about an entry that is no message.
    skipped: bool,
}

impl<'a> StreamReader<'a> {
    pub(super) async fn connect(shared: &'a Shared) -> RedisResult<Self> {
        let connection = shared.connect().await?;
        Ok(Self { shared, connection, count: MIN_ENTRIES, skipped: false })
    }

    /// Asks for the epoch and for the end of the stream. A new epoch begins if Redis has nothing,
    /// or less than this server has seen.
    pub(super) async fn tip(&mut self, seen: Seen) -> RedisResult<Tip> {
        let messages = std::iter::empty();
        let reply = script::call(&mut self.connection, &self.shared.settings, seen, messages);
        reply.await.map(|reply| reply.tip)
    }

    /// Reads the entries after this id. Waits up to [`BLOCK`] if there are none.
    pub(super) async fn read(&mut self, room: &Room, after: &str) -> RedisResult<RawEntries> {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(self.count);
        // The first answer must come at once: it shows that the stream can be read.
        if *self.shared.connected.borrow() {
            read.arg("BLOCK").arg(BLOCK.as_millis().to_string());
        }
        read.arg("STREAMS").arg(self.shared.settings.stream()).arg(after);
        let read = read.query_async(&mut self.connection.commands);
        let streams: RawStreams = within(BLOCK + ANSWER_TIMEOUT, read).await?;
        self.note_connected(room);
        let first = streams.and_then(|streams| streams.into_iter().next());
        Ok(first.map(|(_, entries)| entries).unwrap_or_default())
    }

    fn note_connected(&self, room: &Room) {
        let shared = self.shared;
        if !*shared.connected.borrow() {
            shared.errors.send_modify(|errors| errors.reads = None);
            shared.connected.send_replace(true);
            info!(redis = %shared.settings.url, epoch = %room.epoch(), "redis connected");
        }
    }

    /// The messages among these entries.
    pub(super) fn entries(&mut self, raw: RawEntries) -> Vec<Entry> {
        let count = raw.len();
        let mut bytes = 0;
        let mut entries = Vec::with_capacity(count);
        for (id, fields) in raw {
            bytes += fields.iter().map(Vec::len).sum::<usize>();
            if let Some(entry) = Entry::parse(&id, &fields) {
                entries.push(entry);
            } else if !self.skipped {
                self.skipped = true;
                warn!(%id, "the stream has an entry that is no message, skipped");
            }
        }
        self.count = (BYTES_AT_ONCE * count / bytes.max(1)).clamp(MIN_ENTRIES, MAX_ENTRIES);
        entries
    }
}
