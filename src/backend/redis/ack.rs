//! Acknowledging messages: at once when Redis has them, or when they are as safe as the settings
//! ask.
//!
//! Waiting for replicas and disks blocks a connection, so it is not the one that appends. While one
//! wait is under way, the next batches gather, and one wait then covers all of them. So a slow disk
//! does not slow the stream down.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::warn;

use super::connection::{ANSWER_TIMEOUT, RedisConnection, within};
use super::error_reply::ErrorReply;
use super::request::{Post, Request};
use super::script::{PostResult, ScriptReply};
use super::shared::Shared;
use crate::backend::error::PostError;
use crate::room::{Posted, Rejection};
use crate::send_time::SendTime;

/// How long the replicas may take to confirm.
const REPLICAS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long replicas and disks may take together: `appendfsync everysec` takes a second, or two on
/// a busy disk.
const DISKS_TIMEOUT: Duration = Duration::from_secs(3);

/// Acknowledges batches that Redis has appended.
pub(super) enum Acknowledger {
    /// At once.
    AtOnce(Arc<Shared>),
    /// When Redis has confirmed over this connection that they are safe.
    Confirmed(RedisConnection, UnboundedSender<AppendedBatch>),
}

/// A batch of messages that Redis has appended.
pub(super) struct AppendedBatch {
    posts: Vec<Post>,
    reply: ScriptReply,
}

impl Acknowledger {
    /// An acknowledger for what is appended over this connection.
    ///
    /// # Errors
    /// If there is no second connection to the same Redis, or Redis can't confirm.
    pub(super) async fn start(shared: &Arc<Shared>, appends: &mut RedisConnection) -> RedisResult<Self> {
        let on_disk = shared.settings.on_disk;
        if shared.settings.replicas == 0 && !on_disk {
            return Ok(Self::AtOnce(Arc::clone(shared)));
        }
        let mut waits = shared.connect().await?;
        // Another Redis in the place of the first would confirm messages that it does not have.
        if run_id(appends).await? != run_id(&mut waits).await? {
            let changed = "another redis has taken its place meanwhile";
            return Err(RedisError::from((ErrorKind::Client, changed)));
        }
        // A Redis that can't confirm, or does not let us ask, says so before it has a message.
        let mut probe = redis::cmd(if on_disk { "WAITAOF" } else { "WAIT" });
        if on_disk {
            probe.arg(1);
        }
        probe.arg(0).arg(1);
        within(ANSWER_TIMEOUT, probe.exec_async(&mut waits.commands)).await?;
        let (sender, batches) = unbounded_channel();
        // When the task ends for any reason, its receiver is dropped, and `ended` completes.
        tokio::spawn(confirm_batches(Arc::clone(shared), waits.clone(), batches));
        Ok(Self::Confirmed(waits, sender))
    }

    /// Acknowledges a batch now or later, or tells its senders that the outcome is unknown.
    pub(super) fn acknowledge(&mut self, batch: AppendedBatch) {
        match self {
            Self::AtOnce(shared) => batch.acknowledge(shared, &Ok(())),
            Self::Confirmed(waits, batches) => {
                waits.note_use();
                // If the task has ended, this drops the batch, and its senders learn that the
                // outcome is unknown.
                let _ = batches.send(batch);
            }
        }
    }

    /// Completes when the acknowledger can confirm no further batch.
    pub(super) async fn ended(&self) {
        match self {
            Self::AtOnce(_) => std::future::pending().await,
            Self::Confirmed(waits, batches) => {
                tokio::select! {
                    () = batches.closed() => {}
                    () = waits.ended() => {}
                }
            }
        }
    }

    /// Whether Redis can be asked to confirm. Asks for an answer if nothing was posted for long.
    pub(super) async fn is_alive(&mut self) -> bool {
        match self {
            Self::AtOnce(_) => true,
            Self::Confirmed(waits, _) => waits.is_alive().await,
        }
    }

    /// Whether Redis answers over the connection that confirms.
    pub(super) async fn answers(&mut self) -> bool {
        match self {
            Self::AtOnce(_) => true,
            Self::Confirmed(waits, _) => waits.answers().await,
        }
    }
}

/// The name of this run of the Redis process.
async fn run_id(connection: &mut RedisConnection) -> RedisResult<Option<String>> {
    let mut info = redis::cmd("INFO");
    let info = info.arg("server").query_async(&mut connection.commands);
    let info: String = within(ANSWER_TIMEOUT, info).await?;
    let id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    Ok(id.map(|id| id.trim().to_owned()))
}

async fn confirm_batches(
    shared: Arc<Shared>,
    mut waits: RedisConnection,
    mut batches: UnboundedReceiver<AppendedBatch>,
) {
    while let Some(first) = batches.recv().await {
        let mut all = vec![first];
        while let Ok(next) = batches.try_recv() {
            all.push(next);
        }
        let last = all.iter().map(|batch| batch.reply.tip.position.micros).max();
        let confirmed = confirm(&shared, &mut waits, last.unwrap_or_default()).await;
        for batch in all {
            batch.acknowledge(&shared, &confirmed);
        }
        if confirmed.is_err() {
            // Another Redis may be the master by now.
            return;
        }
    }
}

/// Waits until everything up to `last` is as safe as the settings ask.
async fn confirm(shared: &Shared, waits: &mut RedisConnection, last: u64) -> Result<(), PostError> {
    let (required, on_disk) = (shared.settings.replicas, shared.settings.on_disk);
    let mut wait = redis::pipe();
    // Redis waits for what was written over the same connection. This write comes after all others.
    wait.cmd("HSET").arg(shared.settings.state()).arg("waited").arg(last).ignore();
    let timeout = if on_disk {
        wait.cmd("WAITAOF").arg(1);
        DISKS_TIMEOUT
    } else {
        wait.cmd("WAIT");
        REPLICAS_TIMEOUT
    };
    wait.arg(required).arg(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let (timeout, commands) = (timeout + ANSWER_TIMEOUT, &mut waits.commands);
    let counts = if on_disk {
        let answer = wait.query_async::<((usize, usize),)>(commands);
        within(timeout, answer).await.map(|(counts,)| counts)
    } else {
        within(timeout, wait.query_async::<(usize,)>(commands)).await.map(|(count,)| (1, count))
    };
    match counts {
        Ok((0, _)) => Err(PostError::NotOnDisk),
        Ok((_, confirmed)) if confirmed < required => Err(PostError::TooFewReplicas { confirmed, required }),
        Ok(_) => Ok(()),
        Err(error) => {
            shared.error_reply(&error);
            warn!(%error, "redis can't confirm messages");
            Err(PostError::Unknown)
        }
    }
}

impl AppendedBatch {
    /// Answers the tip queries of a batch that was appended. Returns its messages, if it has any.
    pub(super) fn new(batch: Vec<Request>, reply: ScriptReply) -> Option<Self> {
        let mut posts = Vec::with_capacity(batch.len());
        for request in batch {
            match request {
                Request::Tip(question) => question.answer(Ok(reply.tip)),
                Request::Post(post) => posts.push(post),
            }
        }
        (!posts.is_empty()).then_some(Self { posts, reply })
    }

    fn acknowledge(self, shared: &Shared, confirmed: &Result<(), PostError>) {
        let mut results = self.reply.results.into_iter();
        for post in self.posts {
            let note = |micros| {
                confirmed.clone()?;
                shared.acknowledged.fetch_max(micros, Ordering::Relaxed);
                // No server may post at an earlier time, also if this one is cut off before the
                // message comes back in the stream.
                shared.latest_seen.fetch_max(micros, Ordering::Relaxed);
                Ok(SendTime::of_micros(micros))
            };
            let result = match results.next() {
                Some(PostResult::Posted(micros)) => note(micros).map(Posted::Now),
                Some(PostResult::PostedBefore(micros)) => note(micros).map(Posted::Before),
                Some(PostResult::Refused(error)) => {
                    Err(PostError::Refused(ErrorReply::new(&error, &shared.settings).text))
                }
                Some(PostResult::KeyTaken) => Err(Rejection::KeyTaken.into()),
                Some(PostResult::OtherEpoch) => Err(Rejection::OtherEpoch(self.reply.tip.position.epoch).into()),
                None => Err(PostError::Unknown),
            };
            // It fails when the sender is gone.
            let _ = post.answer.send(result);
        }
    }
}
