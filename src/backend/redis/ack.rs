//! What the engine has taken is acknowledged: at once, or when it is as safe as is asked for.
//!
//! Waiting for replicas and disks holds up the connection that waits, so it is not the one that writes. While one wait is on its way the
//! batches behind it gather, and the next wait is for all of them: however long a disk takes, it does not slow the stream down.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::warn;

use super::connection::Connection;
use super::script::{Answer, Outcome, Place, StreamEnd};
use super::{ANSWER_TIMEOUT, Engine, Refusal, Request, answered};
use crate::room::{NotPosted, Posted};
use crate::send_time::SendTime;

/// For the replicas to confirm.
const REPLICAS_TIMEOUT: Duration = Duration::from_secs(1);
/// For the disks as well: `appendfsync everysec` is a second, or two on a busy disk.
const DISKS_TIMEOUT: Duration = Duration::from_secs(3);

/// Acknowledges batches that the engine has taken.
pub(super) enum Confirmer {
    /// As they come.
    AtOnce(Arc<Engine>),
    /// When they are safe, which the engine says over this connection.
    Waiting(Connection, UnboundedSender<Taken>),
}

/// A batch that the engine has taken.
pub(super) struct Taken {
    batch: Vec<Request>,
    answer: Answer,
}

impl Confirmer {
    /// For what is written over this connection.
    ///
    /// # Errors
    /// If there is no second one to the same engine.
    pub(super) async fn start(engine: &Arc<Engine>, writes: &mut Connection) -> RedisResult<Self> {
        if engine.settings.replicas == 0 && !engine.settings.on_disk {
            return Ok(Self::AtOnce(Arc::clone(engine)));
        }
        let mut waits = engine.connect().await?;
        // One that has taken the place of the first would confirm what it never had.
        if run(writes).await? != run(&mut waits).await? {
            return Err(RedisError::from((ErrorKind::Client, "the engine has changed while it was connected to")));
        }
        // An engine that can't do that, or does not let us, says so now, before it has a message.
        let probe = if engine.settings.on_disk {
            redis::cmd("WAITAOF").arg(1).arg(0).arg(1).to_owned()
        } else {
            redis::cmd("WAIT").arg(0).arg(1).to_owned()
        };
        answered(ANSWER_TIMEOUT, probe.exec_async(&mut waits.commands)).await?;
        let (sender, taken) = unbounded_channel();
        // When it ends, however that comes, its receiver goes, and the writer begins anew (`ended`).
        tokio::spawn(wait(Arc::clone(engine), waits.clone(), taken));
        Ok(Self::Waiting(waits, sender))
    }

    /// Acknowledges a batch, sooner or later, or says that its outcome is unknown.
    pub(super) fn confirm(&mut self, taken: Taken) {
        match self {
            Self::AtOnce(engine) => taken.acknowledge(engine, &Ok(())),
            // If it has ended, the senders see that nobody will answer.
            Self::Waiting(waits, waiting) => {
                waits.note_use();
                let _ = waiting.send(taken);
            }
        }
    }

    /// Completes when it confirms nothing any more.
    pub(super) async fn ended(&self) {
        match self {
            Self::AtOnce(_) => std::future::pending().await,
            Self::Waiting(waits, waiting) => {
                tokio::select! {
                    () = waiting.closed() => {}
                    () = waits.ended() => {}
                }
            }
        }
    }

    /// Whether the engine can be asked to confirm: it is asked for an answer if nothing was posted for long.
    pub(super) async fn is_alive(&mut self) -> bool {
        match self {
            Self::AtOnce(_) => true,
            Self::Waiting(waits, _) => waits.is_alive().await,
        }
    }

    /// Whether the engine answers where it confirms.
    pub(super) async fn answers(&mut self) -> bool {
        match self {
            Self::AtOnce(_) => true,
            Self::Waiting(waits, _) => waits.answers().await,
        }
    }
}

/// The name of this life of the engine's process.
async fn run(connection: &mut Connection) -> RedisResult<Option<String>> {
    let info: String =
        answered(ANSWER_TIMEOUT, redis::cmd("INFO").arg("server").query_async(&mut connection.commands)).await?;
    Ok(info.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().to_owned()))
}

async fn wait(engine: Arc<Engine>, mut waits: Connection, mut taken: UnboundedReceiver<Taken>) {
    while let Some(first) = taken.recv().await {
        let mut all = vec![first];
        while let Ok(next) = taken.try_recv() {
            all.push(next);
        }
        let last = all.iter().map(|taken| taken.answer.last).max().unwrap_or_default();
        let confirmed = confirmed(&engine, &mut waits, last).await;
        for taken in all {
            taken.acknowledge(&engine, &confirmed);
        }
        if confirmed.is_err() {
            // The engine may be another one by now.
            return;
        }
    }
}

/// Waits until everything up to `last` is as safe as it must be.
async fn confirmed(engine: &Engine, waits: &mut Connection, last: u64) -> Result<(), NotPosted> {
    let replicas = engine.settings.replicas;
    let mut wait = redis::pipe();
    // The engine waits for what was written over the connection that waits, so there is a write: all that came before is before it.
    wait.cmd("HSET").arg(engine.settings.state()).arg("waited").arg(last).ignore();
    let timeout = if engine.settings.on_disk {
        wait.cmd("WAITAOF").arg(1);
        DISKS_TIMEOUT
    } else {
        wait.cmd("WAIT");
        REPLICAS_TIMEOUT
    };
    wait.arg(replicas).arg(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let timeout = timeout + ANSWER_TIMEOUT;
    let counts = if engine.settings.on_disk {
        answered(timeout, wait.query_async::<((usize, usize),)>(&mut waits.commands)).await.map(|(counts,)| counts)
    } else {
        answered(timeout, wait.query_async::<(usize,)>(&mut waits.commands)).await.map(|(count,)| (1, count))
    };
    match counts {
        Ok((0, _)) => Err(NotPosted::NotOnDisk),
        Ok((_, confirmed)) if confirmed < replicas => Err(NotPosted::TooFewReplicas(confirmed, replicas)),
        Ok(_) => Ok(()),
        Err(error) => {
            engine.refusal(&error);
            warn!(%error, "the engine can't confirm messages");
            Err(NotPosted::Unknown)
        }
    }
}

impl Taken {
    /// What of a batch has to be acknowledged, if anything has: those who only ask where the stream ends are answered now.
    pub(super) fn new(batch: Vec<Request>, answer: Answer) -> Option<Self> {
        let mut posts = Vec::with_capacity(batch.len());
        let place = Place { epoch: answer.epoch, reached: answer.last };
        let stream_end = StreamEnd { place, clock: answer.clock };
        for request in batch {
            match request {
                // It fails when the caller is gone.
                Request::Ask(question) => question.answer(Ok(stream_end)),
                post @ Request::Post { .. } => posts.push(post),
            }
        }
        (!posts.is_empty()).then_some(Self { batch: posts, answer })
    }

    fn acknowledge(self, engine: &Engine, confirmed: &Result<(), NotPosted>) {
        let mut results = self.answer.results.iter();
        for request in self.batch {
            let Request::Post { answer, .. } = request else { continue };
            let result = match results.next() {
                Some(outcome @ (Outcome::Posted(micros) | Outcome::PostedBefore(micros))) => {
                    confirmed.clone().map(|()| {
                        engine.acknowledged.fetch_max(*micros, Ordering::Relaxed);
                        // No server may go back behind it, also if its stream breaks before it brings the message.
                        engine.floor.fetch_max(*micros, Ordering::Relaxed);
                        let time = SendTime::of_micros(*micros);
                        if matches!(outcome, Outcome::Posted(_)) { Posted::Now(time) } else { Posted::Before(time) }
                    })
                }
                Some(Outcome::Refused(says)) => Err(NotPosted::Refused(Refusal::new(says, &engine.settings))),
                Some(Outcome::KeyTaken) => Err(NotPosted::KeyTaken),
                Some(Outcome::OtherEpoch) => Err(NotPosted::OtherEpoch(self.answer.epoch)),
                None => Err(NotPosted::Unknown),
            };
            // It fails when the caller is gone.
            let _ = answer.send(result);
        }
    }
}
