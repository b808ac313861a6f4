//! The task that reads the tail of the stream into the room, from the last message that it has.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redis::RedisResult;
use tracing::warn;

use super::pauses::{Pauses, RETRY_PAUSE};
use super::script::{Seen, Tip};
use super::shared::Shared;
use super::stream_reader::StreamReader;
use crate::process::test_panic;
use crate::room::{Room, StreamEnd};
use crate::send_time::SendTime;

/// Reads the stream, and connects again whenever Redis is away or refuses. Never returns.
pub(super) async fn follow(shared: &Shared) {
    let mut pauses = Pauses::default();
    let mut said_away = false;
    loop {
        let Err(error) = follow_once(shared).await;
        if shared.connected.send_replace(false) {
            shared.disconnects.fetch_add(1, Ordering::Relaxed);
            (pauses, said_away) = (Pauses::default(), false);
        }
        let redis = &shared.settings.url;
        let pause = if let Some(reply) = shared.error_reply(&error) {
            let mut news = false;
            shared.errors.send_modify(|errors| news = errors.note_reads(&reply));
            if news {
                warn!(%redis, error = %reply.text, "redis refuses to be read, will retry");
            }
            said_away = false;
            pauses.next()
        } else {
            shared.errors.send_modify(|errors| errors.reads = None);
            shared.connection_lost.notify_one();
            if !said_away {
                warn!(%redis, %error, "redis is away, will retry");
            }
            said_away = true;
            RETRY_PAUSE
        };
        tokio::time::sleep(pause).await;
    }
}

/// The reason why the messages of the stream do not follow those in the room.
enum Break {
    /// A new epoch has begun.
    OtherEpoch,
    /// Redis has lost messages that this server has, and has accepted others since.
    LostEntries,
    /// Messages after the last one in the room are gone.
    Gap,
}

async fn follow_once(shared: &Shared) -> RedisResult<Infallible> {
    let mut stream = StreamReader::connect(shared).await?;
    let tip = stream.tip(shared.seen()).await?;
    let is_current = |room: &Arc<Room>| room.epoch() == tip.position.epoch;
    let mut room = match shared.room().filter(is_current) {
        Some(room) => room,
        None => begin(&mut stream, &tip, StreamEnd::NewEpoch).await?,
    };
    loop {
        let found = read_until_break(&mut stream, &room).await?;
        let lost_entries = matches!(found, Break::LostEntries);
        let tip = stream.tip(Seen { lost_entries, ..shared.seen() }).await?;
        let missed = matches!(found, Break::Gap) && tip.position.epoch == room.epoch();
        let reason = if missed { StreamEnd::Missed } else { StreamEnd::NewEpoch };
        room = begin(&mut stream, &tip, reason).await?;
    }
}

/// Begins a room with the messages that the stream has, and ends the room before it.
async fn begin(stream: &mut StreamReader<'_>, tip: &Tip, reason: StreamEnd) -> RedisResult<Arc<Room>> {
    let epoch = stream.load(tip).await?;
    let shared = stream.shared;
    shared.latest_seen.fetch_max(tip.position.micros, Ordering::Relaxed);
    let room = Arc::clone(&epoch.room);
    let before = shared.epoch.send_replace(Some(epoch));
    room.show();
    if let Some(before) = before {
        let (before, now) = (before.room, room.epoch());
        warn!(before = %before.epoch(), %now, "messages are missing, the room begins anew");
        shared.new_epochs.fetch_add(1, Ordering::Relaxed);
        before.end(reason);
    }
    Ok(room)
}

/// Appends the messages of the stream to the room as long as each follows the one before.
async fn read_until_break(stream: &mut StreamReader<'_>, room: &Room) -> RedisResult<Break> {
    let shared = stream.shared;
    let end_of_room = || format!("{}-0", shared.reached());
    let mut cursor = end_of_room();
    test_panic("tail");
    loop {
        let raw = stream.read(room, &cursor).await?;
        let Some((id, _)) = raw.last() else {
            let tip = stream.tip(shared.seen()).await?;
            if tip.position.epoch != room.epoch() {
                return Ok(Break::OtherEpoch);
            }
            if tip.position.micros > shared.reached() {
                // The cursor is after an entry that was no message, and the entry is gone.
                cursor = end_of_room();
            }
            continue;
        };
        cursor.clone_from(id);
        let mut reached = shared.reached();
        let mut found = None;
        for entry in stream.entries(raw) {
            found = if entry.epoch != room.epoch() {
                Some(Break::OtherEpoch)
            } else if entry.previous < reached {
                Some(Break::LostEntries)
            } else if entry.previous > reached {
                Some(Break::Gap)
            } else {
                reached = entry.micros;
                room.append_at(entry.message, SendTime::of_micros(reached));
                continue;
            };
            break;
        }
        shared.latest_seen.fetch_max(reached, Ordering::Relaxed);
        shared.epoch.send_modify(|epoch| {
            if let Some(epoch) = epoch {
                epoch.reached = reached;
            }
        });
        if let Some(found) = found {
            return Ok(found);
        }
    }
}
