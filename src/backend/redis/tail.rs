//! Messages on their way from the engine: one connection that reads the stream, from the last message seen.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::RedisResult;
use tracing::{info, warn};

use super::connection::Connection;
use super::entry::{Entry, Raw, RawStreams};
use super::pauses::Pauses;
use super::script::{self, Answer, Known};
use super::{ANSWER_TIMEOUT, CONNECT_PAUSE, Engine, Life, answered};
use crate::process::test_panic;
use crate::room::{Draft, End, Room};
use crate::send_time::SendTime;

/// How long the engine waits for a message before it says that there is none. Then it is asked whether it still has all that it had.
const BLOCK: Duration = Duration::from_secs(1);
/// About how much is read at once.
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;
/// How much of the stream a server that starts reads of what is there already, in bytes of messages.
const LOADED: usize = 16 * 1024 * 1024;
/// How many messages at least and at most, whatever their size.
const AT_LEAST: usize = 16;
const AT_MOST: usize = 1024;

/// Reads the stream into the room, and again whenever the engine has been away, or refuses to let it be read. Never returns.
pub(super) async fn follow(engine: &Engine) {
    let mut pauses = Pauses::default();
    let mut said_away = false;
    loop {
        let Err(error) = follow_once(engine).await;
        if engine.there.send_replace(false) {
            engine.losses.fetch_add(1, Ordering::Relaxed);
            (pauses, said_away) = (Pauses::default(), false);
        }
        let pause = if let Some(refusal) = engine.refusal(&error) {
            let mut news = false;
            engine.refused.send_modify(|refused| news = refused.note_reads(&refusal));
            if news {
                warn!(engine = %engine.settings.url, error = %refusal, "the engine refuses its stream, will retry");
            }
            said_away = false;
            pauses.next()
        } else {
            engine.refused.send_modify(|refused| refused.reads = None);
            engine.lost.notify_one();
            if !said_away {
                warn!(engine = %engine.settings.url, %error, "the engine is away, will retry");
            }
            said_away = true;
            CONNECT_PAUSE
        };
        tokio::time::sleep(pause).await;
    }
}

async fn follow_once(engine: &Engine) -> RedisResult<Infallible> {
    let mut stream = Stream { engine, connection: engine.connect().await?, count: AT_LEAST, strangers: false };
    let mut now = stream.join(engine.known()).await?;
    let same = |room: &Arc<Room>| room.epoch() == now.epoch;
    let mut room = match engine.room().filter(same) {
        Some(room) => room,
        None => stream.begin(&now, End::Anew).await?,
    };
    loop {
        match stream.read(&room).await? {
            Cut::OtherEpoch => {
                now = stream.join(engine.known()).await?;
                room = stream.begin(&now, End::Anew).await?;
            }
            Cut::Rewound => {
                now = stream.join(Known { rewound: true, ..engine.known() }).await?;
                room = stream.begin(&now, End::Anew).await?;
            }
            Cut::Gap => {
                now = stream.join(engine.known()).await?;
                let why = if now.epoch == room.epoch() { End::Missed } else { End::Anew };
                room = stream.begin(&now, why).await?;
            }
        }
    }
}

/// The stream, over one connection.
struct Stream<'a> {
    engine: &'a Engine,
    connection: Connection,
    /// How many messages to ask for.
    count: usize,
    /// It was said that there is something else in the stream.
    strangers: bool,
}

/// Why the messages of the stream no longer follow those in the room.
enum Cut {
    /// A new epoch has begun.
    OtherEpoch,
    /// The engine has lost what this server has seen, and taken other messages instead.
    Rewound,
    /// Between the last message seen and the next one, some are gone.
    Gap,
}

impl Stream<'_> {
    /// Asks which epoch it is, and where the stream ends. A new epoch begins if the engine has nothing, or less than is known of it.
    async fn join(&mut self, known: Known) -> RedisResult<Answer> {
        let call = script::call(&mut self.connection, &self.engine.settings, known, std::iter::empty());
        answered(ANSWER_TIMEOUT, call).await
    }

    /// Begins a life of the room with what the stream has, and ends the one before.
    async fn begin(&mut self, now: &Answer, why: End) -> RedisResult<Arc<Room>> {
        let life = self.load(now).await?;
        self.engine.floor.fetch_max(now.last, Ordering::Relaxed);
        let room = Arc::clone(&life.room);
        let before = self.engine.life.send_replace(Some(life));
        room.show();
        if let Some(before) = before {
            warn!(before = %before.room.epoch(), now = %now.epoch, "messages are missing: the room begins anew");
            self.engine.beginnings.fetch_add(1, Ordering::Relaxed);
            before.room.end(why);
        }
        Ok(room)
    }

    /// A room with the newest messages that the stream has up to its end, and none missing among them. Read from the end, so that a server
    /// is there at once however long the stream is: whoever comes from further back is given the rest of it.
    async fn load(&mut self, now: &Answer) -> RedisResult<Life> {
        let enough = LOADED.min(self.engine.limits.retention);
        let (mut newest_first, mut bytes) = (Vec::<Entry>::new(), 0);
        let mut from = format!("{}-0", now.last);
        'stream: while bytes < enough {
            let mut range = redis::cmd("XREVRANGE");
            range.arg(self.engine.settings.stream()).arg(&from).arg("-").arg("COUNT").arg(self.count);
            let raw: Raw = answered(ANSWER_TIMEOUT, range.query_async(&mut self.connection.commands)).await?;
            let Some((id, _)) = raw.last() else { break };
            from = format!("({id}");
            for entry in self.entries(raw) {
                // What came before it is gone, perhaps while it was read. But what an epoch has lost in an engine that went backwards is
                // no gap in the next one.
                let is_missing = |next: &Entry| next.previous != entry.micros && next.epoch == entry.epoch;
                if newest_first.last().is_some_and(is_missing) {
                    break 'stream;
                }
                bytes += entry.author.len() + entry.text.len();
                newest_first.push(entry);
            }
        }
        let birth = newest_first.last().map_or(now.last, |oldest| oldest.previous);
        let room = Room::in_epoch(self.engine.limits, now.epoch, SendTime::of_micros(birth));
        let before = newest_first.iter().find(|entry| entry.epoch != now.epoch).map_or(0, |entry| entry.micros);
        let first = newest_first.iter().rev().find(|entry| entry.epoch == now.epoch);
        let begin = first.map_or(now.last, |entry| entry.previous);
        let whole = bytes < enough || before > 0;
        newest_first.into_iter().rev().for_each(|entry| entry.append_to(&room));
        Ok(Life { room: Arc::new(room), before, begin, whole, reached: now.last })
    }

    /// Appends what comes to the room, for as long as it follows what is there.
    async fn read(&mut self, room: &Arc<Room>) -> RedisResult<Cut> {
        let mut cursor = self.reached();
        test_panic("follower");
        loop {
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT").arg(self.count);
            // The first answer must come at once: it shows that the stream can be read.
            if *self.engine.there.borrow() {
                read.arg("BLOCK").arg(BLOCK.as_millis().to_string());
            }
            read.arg("STREAMS").arg(self.engine.settings.stream()).arg(&cursor);
            let raw: RawStreams =
                answered(BLOCK + ANSWER_TIMEOUT, read.query_async(&mut self.connection.commands)).await?;
            self.note_there(room);
            let Some((_, raw)) = raw.and_then(|streams| streams.into_iter().next()) else {
                let now = self.join(self.engine.known()).await?;
                if now.epoch != room.epoch() {
                    return Ok(Cut::OtherEpoch);
                }
                if now.last > self.reached_micros() {
                    // It was read on behind something that is no message, and is gone.
                    cursor = self.reached();
                }
                continue;
            };
            if let Some((id, _)) = raw.last() {
                cursor.clone_from(id);
            }
            let mut reached = self.reached_micros();
            let mut cut = None;
            for entry in self.entries(raw) {
                cut = if entry.epoch != room.epoch() {
                    Some(Cut::OtherEpoch)
                } else if entry.previous < reached {
                    Some(Cut::Rewound)
                } else if entry.previous > reached {
                    Some(Cut::Gap)
                } else {
                    reached = entry.micros;
                    entry.append_to(room);
                    continue;
                };
                break;
            }
            self.engine.floor.fetch_max(reached, Ordering::Relaxed);
            self.engine.life.send_modify(|life| {
                if let Some(life) = life {
                    life.reached = reached;
                }
            });
            if let Some(cut) = cut {
                return Ok(cut);
            }
        }
    }

    /// The engine lets the stream be read.
    fn note_there(&self, room: &Room) {
        let engine = self.engine;
        if !*engine.there.borrow() {
            engine.refused.send_modify(|refused| refused.reads = None);
            engine.there.send_replace(true);
            info!(engine = %engine.settings.url, epoch = %room.epoch(), "the engine is there");
        }
    }

    fn reached_micros(&self) -> u64 {
        self.engine.life.borrow().as_ref().map_or(0, |life| life.reached)
    }

    fn reached(&self) -> String {
        format!("{}-0", self.reached_micros())
    }

    /// The messages among these entries.
    fn entries(&mut self, raw: Raw) -> Vec<Entry> {
        let count = raw.len();
        let mut bytes = 0;
        let mut entries = Vec::with_capacity(count);
        for (id, fields) in raw {
            bytes += fields.iter().map(Vec::len).sum::<usize>();
            if let Some(entry) = Entry::new(&id, fields) {
                entries.push(entry);
            } else if !self.strangers {
                self.strangers = true;
                warn!(%id, "the stream has something that is no message, which nobody gets");
            }
        }
        self.count = (BYTES_AT_ONCE * count / bytes.max(1)).clamp(AT_LEAST, AT_MOST);
        entries
    }
}

impl Entry {
    fn append_to(self, room: &Room) {
        room.append_at(Draft::new(self.author, self.text), SendTime::of_micros(self.micros));
    }
}
