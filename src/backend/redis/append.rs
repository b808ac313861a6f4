//! The task that appends messages to the stream, in batches: while one batch is under way, the next
//! one gathers.

use std::sync::Arc;

use redis::RedisResult;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::ack::{Acknowledger, AppendedBatch};
use super::breaker::Breaker;
use super::connection::RedisConnection;
use super::error_reply::ErrorReply;
use super::pauses::RETRY_PAUSE;
use super::queue::Queue;
use super::request::Request;
use super::script::{self, PostResult, ScriptReply};
use super::shared::Shared;
use crate::backend::error::PostError;
use crate::process::test_panic;

/// Serves requests. Returns when all senders of requests are gone.
pub(super) async fn append(shared: Arc<Shared>, requests: UnboundedReceiver<Request>) {
    let (mut queue, mut breaker) = (Queue::new(requests), Breaker::new(&shared));
    let mut next_try = Instant::now();
    loop {
        // A Redis that accepts connections and closes them must not make this a busy loop.
        tokio::time::sleep_until(next_try).await;
        next_try = Instant::now() + RETRY_PAUSE;
        let (mut connection, mut acknowledger) = connect(&shared, &mut queue, &mut breaker).await;
        loop {
            let first = tokio::select! {
                biased;
                // Before requests: a batch sent over a broken connection has an unknown outcome.
                () = shared.connection_lost.notified() => break,
                () = acknowledger.ended() => break,
                () = connection.ended() => break,
                first = queue.next() => first,
                () = connection.idle() => {
                    if connection.answers().await && acknowledger.answers().await {
                        continue;
                    }
                    break;
                }
            };
            let Some(first) = first else { return };
            test_panic("append");
            let batch = breaker.admit(queue.batch(first));
            if batch.is_empty() {
                continue;
            }
            if !(connection.is_alive().await && acknowledger.is_alive().await) {
                // Nothing of the batch was sent, so a new connection may send it.
                queue.put_back(batch);
                break;
            }
            match send(&shared, &mut connection, batch).await {
                Sent::Appended(batch, reply) => {
                    note_results(&shared, &mut breaker, &reply);
                    if let Some(appended) = AppendedBatch::new(batch, reply) {
                        acknowledger.acknowledge(appended);
                    }
                }
                Sent::Refused(batch, error) => {
                    queue.put_back(refuse(batch, &mut breaker, &error));
                    // Another Redis may be the master by now.
                    break;
                }
                Sent::Unknown => break,
            }
        }
    }
}

/// Connects, however long that takes. Refuses requests meanwhile, once Redis is known to be away or
/// to refuse connections.
async fn connect(shared: &Arc<Shared>, queue: &mut Queue, breaker: &mut Breaker) -> (RedisConnection, Acknowledger) {
    let (mut reason, mut connected) = (None, shared.connected.subscribe());
    let mut was_refused = false;
    loop {
        let attempt = async {
            let mut connection = shared.connect().await?;
            let acknowledger = Acknowledger::start(shared, &mut connection).await?;
            RedisResult::Ok((connection, acknowledger))
        };
        let error = match refuse_until(queue, &mut reason, &mut connected, attempt).await {
            Ok(connections) => {
                if was_refused {
                    breaker.note_connected();
                }
                return connections;
            }
            Err(error) => error,
        };
        let retry = if let Some(error) = shared.error_reply(&error) {
            was_refused = true;
            breaker.note_refused(&error);
            reason = Some(PostError::Refused(error.text));
            breaker.until()
        } else {
            // The task that reads the stream logs that Redis is away.
            reason = Some(PostError::Away);
            Instant::now() + RETRY_PAUSE
        };
        let mut again = shared.connected.subscribe();
        let pause = async {
            let connected = async { while again.changed().await.is_ok() && !*again.borrow_and_update() {} };
            let _ = tokio::time::timeout_at(retry, connected).await;
        };
        refuse_until(queue, &mut reason, &mut connected, pause).await;
    }
}

/// Waits for the event, and refuses requests if there is a reason. Once the stream is being read
/// again, requests wait instead: readers may know already that Redis is back.
async fn refuse_until<T>(
    queue: &mut Queue,
    reason: &mut Option<PostError>,
    connected: &mut watch::Receiver<bool>,
    event: impl Future<Output = T>,
) -> T {
    tokio::pin!(event);
    loop {
        tokio::select! {
            biased;
            done = &mut event => return done,
            Ok(()) = connected.changed() => {
                if *connected.borrow_and_update() {
                    *reason = None;
                }
            }
            Some((request, reason)) = async { Some((queue.next().await?, reason.clone()?)) },
                if reason.is_some() => request.refuse(reason),
        }
    }
}

/// The outcome of sending a batch.
enum Sent {
    /// Redis has a result for each request.
    Appended(Vec<Request>, ScriptReply),
    /// Redis has done nothing.
    Refused(Vec<Request>, ErrorReply),
    /// The outcome is unknown, and the senders were told so. The connection is not used again.
    Unknown,
}

/// Sends a batch to Redis.
async fn send(shared: &Shared, connection: &mut RedisConnection, batch: Vec<Request>) -> Sent {
    shared.tip_queries.note_sent();
    let messages = batch.iter().filter_map(Request::message);
    let reply = script::call(connection, &shared.settings, shared.seen(), messages).await;
    connection.note_use();
    let error = match reply {
        Ok(reply) => return Sent::Appended(batch, reply),
        Err(error) => error,
    };
    // Redis sends an error only before the first message is in the stream.
    if let Some(error) = shared.error_reply(&error) {
        return Sent::Refused(batch, error);
    }
    warn!(%error, "redis did not answer, the outcome of messages is unknown");
    for request in batch {
        request.refuse(PostError::Unknown);
    }
    Sent::Unknown
}

/// Notes whether Redis accepts messages. It may refuse some, such as one whose key has another
/// type.
fn note_results(shared: &Shared, breaker: &mut Breaker, reply: &ScriptReply) {
    let mut refused = None;
    for result in &reply.results {
        match result {
            PostResult::Posted(_) | PostResult::PostedBefore(_) => return breaker.note_accepted(),
            PostResult::Refused(error) => refused = Some(ErrorReply::new(error, &shared.settings)),
            PostResult::KeyTaken | PostResult::OtherEpoch => {}
        }
    }
    if let Some(error) = refused {
        shared.error_counters.count(&error);
        breaker.note_refused(&error);
    }
}

/// Refuses the messages of a batch, and returns its tip queries, which Redis may still answer. If
/// the batch has no messages, Redis has refused its tip queries.
fn refuse(batch: Vec<Request>, breaker: &mut Breaker, error: &ErrorReply) -> Vec<Request> {
    let reason = PostError::Refused(Arc::clone(&error.text));
    let (posts, questions): (Vec<_>, Vec<_>) = batch.into_iter().partition(|request| request.message().is_some());
    if posts.is_empty() {
        for question in questions {
            question.refuse(reason.clone());
        }
        return Vec::new();
    }
    breaker.note_refused(error);
    for post in posts {
        post.refuse(reason.clone());
    }
    questions
}
