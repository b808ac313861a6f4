//! Loads a new room with the newest messages of the stream.

use redis::RedisResult;
use std::sync::Arc;

use super::connection::{ANSWER_TIMEOUT, within};
use super::entry::{Entry, RawEntries};
use super::script::Tip;
use super::shared::EpochState;
use super::stream_reader::StreamReader;
use crate::backend::environment::ENVIRONMENT;
use crate::room::Room;
use crate::send_time::SendTime;

/// How many bytes of messages a server reads when it starts.
const LOADED: usize = 16 * 1024 * 1024;

impl StreamReader<'_> {
    /// Loads a room with the newest messages up to the tip, none missing among them. Reads from the
    /// end, so the server is ready soon however long the stream is. A reader that begins further
    /// back gets older messages through a backfill.
    pub(super) async fn load(&mut self, tip: &Tip) -> RedisResult<EpochState> {
        let (epoch, end) = (tip.position.epoch, tip.position.micros);
        let enough = LOADED.min(self.shared.limits.retention);
        let (mut newest_first, mut bytes) = (Vec::<Entry>::new(), 0);
        let mut from = format!("{end}-0");
        'stream: while bytes < enough {
            let mut range = redis::cmd("XREVRANGE");
            range.arg(self.shared.settings.stream()).arg(&from).arg("-");
            range.arg("COUNT").arg(self.count);
            let range = range.query_async(&mut self.connection.commands);
            let raw: RawEntries = within(ANSWER_TIMEOUT, range).await?;
            let Some((id, _)) = raw.last() else { break };
            from = format!("({id}");
            for entry in self.entries(raw) {
                // Entries before this one were trimmed, perhaps while the stream was read. A gap
                // after an entry of an earlier epoch does not count: messages that the earlier
                // epoch lost are not missing in the next one.
                let is_gap = |next: &Entry| next.previous != entry.micros && next.epoch == entry.epoch;
                if newest_first.last().is_some_and(is_gap) {
                    break 'stream;
                }
                bytes += entry.message.author_and_text().len();
                newest_first.push(entry);
            }
        }
        let is_current = |entry: &&Entry| entry.epoch == epoch;
        let birth = newest_first.last().map_or(end, |oldest| oldest.previous);
        let earlier = newest_first.iter().find(|entry| !is_current(entry));
        let earlier_until = earlier.map_or(0, |entry| entry.micros);
        let begin = newest_first.iter().rev().find(is_current).map_or(end, |first| first.previous);
        let complete = bytes < enough || earlier_until > 0;
        let birth = SendTime::of_micros(birth);
        let room = Arc::new(Room::new(self.shared.limits, epoch, birth, ENVIRONMENT));
        for entry in newest_first.into_iter().rev() {
            room.append_at(entry.message, SendTime::of_micros(entry.micros));
        }
        Ok(EpochState { room, earlier_until, begin, complete, reached: end })
    }
}
