//! Opening a reader of a room in Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backfill::RedisBackfill;
use super::request::Request;
use super::room::RedisRoom;
use super::script::{StreamPosition, Tip};
use super::shared::EpochState;
use crate::backend::error::OpenError;
use crate::room::{FuturePosition, Opened, Reader, Room, Start};
use crate::send_time::SendTime;

/// How long a stream may take to open: Redis tells where the stream ends, and this server must read
/// up to there.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

impl RedisRoom {
    /// Opens a reader, which gets no message that any server has accepted before. For that Redis is
    /// asked where the stream ends, and this server first reads up to there.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(crate) async fn open(&self, start: Start) -> Result<Opened, OpenError> {
        // Messages that this server has can be resumed whether Redis is there or not.
        if let Start::After(epoch, after) = start
            && let Some(state) = self.shared.epoch().filter(|state| state.room.epoch() == epoch)
            && let Ok(opened) = state.room.open(start)
        {
            return self.resume(state, after, opened).await;
        }
        let mut errors = self.shared.errors.subscribe();
        let opened = async {
            tokio::select! {
                biased;
                Ok(_) = errors.wait_for(|errors| errors.reads.is_some()) => {
                    Err(self.shared.open_error())
                }
                opened = self.open_at_tip(start) => opened,
            }
        };
        tokio::time::timeout(OPEN_TIMEOUT, opened).await.unwrap_or(Err(OpenError::Away))
    }

    /// Checks what this server has for a reader against what the reader has read and what the
    /// stream has. The server alone does not know of everything that was lost, and may have less
    /// than the stream.
    async fn resume(&self, state: EpochState, after: SendTime, opened: Opened) -> Result<Opened, OpenError> {
        if opened.resumed == Some(true) {
            // If this server has no such message, Redis has lost it while no server was there to
            // notice. What else was lost is unknown.
            return Ok(Opened { resumed: Some(state.has(after)), ..opened });
        }
        let room = state.room;
        let backfill = RedisBackfill::after(&self.archive, Arc::clone(&room), after);
        match tokio::time::timeout(OPEN_TIMEOUT, backfill).await {
            Ok(Ok(Some(backfill))) => Ok(behind(room, backfill, after, true)),
            Ok(Ok(None)) => Ok(opened),
            // Whether messages are missing is unknown. The reader may try again.
            Ok(Err(_)) | Err(_) => Err(self.shared.open_error()),
        }
    }

    async fn open_at_tip(&self, start: Start) -> Result<Opened, OpenError> {
        let asked = Instant::now();
        loop {
            if self.shared.is_closing() {
                return Err(OpenError::Closed);
            }
            let send = |question| drop(self.requests.send(Request::Tip(question)));
            let tip = self.shared.tip_queries.ask(send).await.unwrap_or(Err(OpenError::Away))?;
            let end = tip.position.micros;
            let state = self.reach(tip.position).await.ok_or(OpenError::Away)?;
            match start {
                Start::Now => {
                    if let Some(opened) = state.room.open_after(SendTime::of_micros(end)) {
                        return Ok(opened);
                    }
                    // The room has moved past the tip and dropped messages after it. Ask again, or
                    // the reader would begin with a gap.
                }
                Start::Ago(time) => {
                    let since = since(&state, &tip, time + asked.elapsed());
                    return self.open_since(state, since).await;
                }
                Start::After(epoch, after) if epoch == tip.position.epoch => {
                    if after > SendTime::of_micros(end) {
                        return Err(FuturePosition.into());
                    }
                    let opened = match state.room.open(start) {
                        Ok(opened) => opened,
                        // The room ends before the tip, which is the time of a message that was
                        // lost when the epoch began.
                        Err(future) => {
                            let opened = state.room.open_after(after).ok_or(future)?;
                            Opened { resumed: Some(true), ..opened }
                        }
                    };
                    return self.resume(state, after, opened).await;
                }
                Start::After(_, after) => {
                    // The stream may still have messages of earlier epochs. The reader has read
                    // them up to its position.
                    let read = after.min(SendTime::of_micros(state.earlier_until));
                    if state.earlier_until > 0
                        && let Some(rest) = state.room.open_after(read)
                    {
                        return Ok(Opened { resumed: Some(false), ..rest });
                    }
                    return Ok(state.room.open(start)?);
                }
            }
        }
    }

    /// Opens a reader of everything after this time, or of the oldest messages that the stream has.
    async fn open_since(&self, state: EpochState, since: SendTime) -> Result<Opened, OpenError> {
        let room = state.room;
        if let Some(opened) = room.open_after(since) {
            return Ok(Opened { resumed: Some(true), ..opened });
        }
        match RedisBackfill::since(&self.archive, Arc::clone(&room), since).await {
            Ok(Some((backfill, position))) => Ok(behind(room, backfill, position, position == since)),
            Ok(None) => Ok(room.open(Start::After(room.epoch(), since))?),
            Err(_) => Err(OpenError::Away),
        }
    }

    /// Waits until this server has read up to this position.
    async fn reach(&self, position: StreamPosition) -> Option<EpochState> {
        let is_there = |state: &EpochState| state.room.epoch() == position.epoch && state.reached >= position.micros;
        let mut states = self.shared.epoch.subscribe();
        let state = states.wait_for(|state| state.as_ref().is_some_and(is_there)).await.ok()?;
        state.clone()
    }
}

/// The time `ago` before now, by the clock of Redis, which gives messages their times.
fn since(state: &EpochState, tip: &Tip, ago: Duration) -> SendTime {
    let end = tip.position.micros;
    let micros = SendTime::of_micros(tip.clock.max(end)).minus(ago).as_micros().min(end);
    // Before its first message an epoch has nothing that could be missing.
    SendTime::of_micros(if state.complete { micros.max(state.begin) } else { micros })
}

fn behind(room: Arc<Room>, backfill: RedisBackfill, position: SendTime, resumed: bool) -> Opened {
    let epoch = room.epoch();
    let reader = Reader::behind(room, Box::new(backfill));
    Opened { reader, epoch, position, resumed: Some(resumed) }
}
