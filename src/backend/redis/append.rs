//! Messages on their way to the engine, in batches: while one is on its way the next one gathers.

use std::sync::Arc;

use redis::RedisResult;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::breaker::Breaker;
use super::connection::Connection;
use super::queue::Queue;
use super::script::{self, Answer, Message, Outcome};
use super::{ANSWER_TIMEOUT, CONNECT_PAUSE, Engine, Refusal, Request, answered};
use crate::backend::NotOpened;
use crate::backend::redis::ack::{Confirmer, Taken};
use crate::process::test_panic;
use crate::room::NotPosted;

/// Serves requests; returns when nobody is left to make one.
pub(super) async fn write(engine: Arc<Engine>, requests: UnboundedReceiver<Request>) {
    let (mut queue, mut breaker) = (Queue::new(requests), Breaker::new(&engine));
    let mut next_try = Instant::now();
    loop {
        // An engine that lets us in and goes at once must not make this a loop without a pause.
        tokio::time::sleep_until(next_try).await;
        next_try = Instant::now() + CONNECT_PAUSE;
        let (mut connection, mut confirmer) = connect(&engine, &mut queue, &mut breaker).await;
        loop {
            let first = tokio::select! {
                biased;
                // What goes out over a connection that is gone has an unknown outcome, and what goes out over a new one has not.
                () = engine.lost.notified() => break,
                () = confirmer.ended() => break,
                () = connection.ended() => break,
                first = queue.next() => first,
                () = connection.idle() => {
                    if connection.answers().await && confirmer.answers().await {
                        continue;
                    }
                    break;
                }
            };
            let Some(first) = first else { return };
            test_panic("writer");
            let batch = breaker.admit(queue.batch(first));
            if batch.is_empty() {
                continue;
            }
            if !(connection.is_alive().await && confirmer.is_alive().await) {
                // Nothing of it has gone out, so it surely has not been done.
                queue.put_back(batch);
                break;
            }
            match send(&engine, &mut connection, batch).await {
                Sent::Taken(batch, answer) => {
                    note(&engine, &mut breaker, &answer);
                    if let Some(taken) = Taken::new(batch, answer) {
                        confirmer.confirm(taken);
                    }
                }
                Sent::Refused(batch, refusal) => {
                    queue.put_back(refuse(batch, &mut breaker, &refusal));
                    // Another engine may be the one to write to by now.
                    break;
                }
                Sent::Unknown => break,
            }
        }
    }
}

/// Makes connections, however long that takes. Once it is clear that the engine is away, or lets nobody in, requests are refused at once.
async fn connect(engine: &Arc<Engine>, queue: &mut Queue, breaker: &mut Breaker) -> (Connection, Confirmer) {
    let (mut away, mut there) = (None, engine.there.subscribe());
    let mut let_in = true;
    loop {
        let attempt = async {
            let mut connection = engine.connect().await?;
            let confirmer = Confirmer::start(engine, &mut connection).await?;
            RedisResult::Ok((connection, confirmer))
        };
        let error = match meanwhile(queue, &mut away, &mut there, attempt).await {
            Ok(connected) => {
                if !let_in {
                    breaker.let_in();
                }
                return connected;
            }
            Err(error) => error,
        };
        let retry = if let Some(refusal) = engine.refusal(&error) {
            let_in = false;
            breaker.refused(&refusal);
            away = Some(NotPosted::Refused(refusal));
            breaker.until()
        } else {
            // That it is away is said where the stream is read.
            away = Some(NotPosted::Away);
            Instant::now() + CONNECT_PAUSE
        };
        let mut again = engine.there.subscribe();
        let pause = async {
            let there = async { while again.changed().await.is_ok() && !*again.borrow_and_update() {} };
            let _ = tokio::time::timeout_at(retry, there).await;
        };
        meanwhile(queue, &mut away, &mut there, pause).await;
    }
}

/// Waits for the event, and refuses requests for as long as the engine is away. When its stream is being read again it is there: readers may
/// have been told so already, and what comes then waits for the connection.
async fn meanwhile<T>(
    queue: &mut Queue,
    away: &mut Option<NotPosted>,
    there: &mut watch::Receiver<bool>,
    event: impl Future<Output = T>,
) -> T {
    tokio::pin!(event);
    loop {
        tokio::select! {
            biased;
            done = &mut event => return done,
            Ok(()) = there.changed() => {
                if *there.borrow_and_update() {
                    *away = None;
                }
            }
            Some((request, reason)) = async { Some((queue.next().await?, away.clone()?)) }, if away.is_some() => {
                request.refuse(reason);
            }
        }
    }
}

/// What has become of a batch.
enum Sent {
    /// The engine has answered for each request of it.
    Taken(Vec<Request>, Answer),
    /// The engine has done nothing of it.
    Refused(Vec<Request>, Refusal),
    /// Nobody knows, and those who wait for it have been told so. The connection is no longer good.
    Unknown,
}

/// Hands a batch to the engine.
async fn send(engine: &Engine, connection: &mut Connection, batch: Vec<Request>) -> Sent {
    engine.asking.goes_out();
    let messages = batch.iter().filter_map(Request::message);
    let call = script::call(connection, &engine.settings, engine.known(), messages);
    let answer = answered(ANSWER_TIMEOUT, call).await;
    connection.note_use();
    match answer {
        Ok(answer) => Sent::Taken(batch, answer),
        Err(error) => {
            // An error that the engine itself has sent came before the first message was in the stream.
            if let Some(refusal) = engine.refusal(&error) {
                return Sent::Refused(batch, refusal);
            }
            warn!(%error, "the engine took no messages");
            for request in batch {
                request.refuse(NotPosted::Unknown);
            }
            Sent::Unknown
        }
    }
}

/// Notes whether the engine takes messages. It may refuse some of them, such as one whose key holds something else.
fn note(engine: &Engine, breaker: &mut Breaker, answer: &Answer) {
    let mut refused = None;
    for outcome in &answer.results {
        match outcome {
            Outcome::Posted(_) | Outcome::PostedBefore(_) => return breaker.taken(),
            Outcome::Refused(says) => refused = Some(Refusal::new(says, &engine.settings)),
            Outcome::KeyTaken | Outcome::OtherEpoch => {}
        }
    }
    if let Some(refusal) = refused {
        engine.refusals.count(&refusal);
        breaker.refused(&refusal);
    }
}

/// Refuses the messages of a batch. Gives the questions in it, which the engine may answer all the same; those that were alone, it does not.
fn refuse(batch: Vec<Request>, breaker: &mut Breaker, refusal: &Refusal) -> Vec<Request> {
    let (posts, questions): (Vec<_>, Vec<_>) = batch.into_iter().partition(|request| request.message().is_some());
    if posts.is_empty() {
        for question in questions {
            question.refuse(NotPosted::Refused(refusal.clone()));
        }
        return Vec::new();
    }
    breaker.refused(refusal);
    for post in posts {
        post.refuse(NotPosted::Refused(refusal.clone()));
    }
    questions
}

impl Request {
    pub(super) fn message(&self) -> Option<&Message> {
        match self {
            Self::Post { message, .. } => Some(message),
            Self::Ask(_) => None,
        }
    }

    pub(super) fn refuse(self, reason: NotPosted) {
        match self {
            Self::Post { answer, .. } => drop(answer.send(Err(reason))),
            Self::Ask(question) => question.answer(Err(match reason {
                NotPosted::Refused(refusal) => NotOpened::Refused(refusal),
                _ => NotOpened::Away,
            })),
        }
    }
}
