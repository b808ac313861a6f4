//! Messages on their way to the engine, in batches: while one is on its way the next one gathers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::warn;

use super::script::{self, Answer, Message, Outcome, Place};
use super::{ANSWER_TIMEOUT, CONNECT_PAUSE, Engine, Request, answered};
use crate::room::NotPosted;
use crate::send_time::SendTime;

/// Requests of one batch, which the engine does as one: nobody else gets an answer from it meanwhile.
const BATCH: usize = 256;
/// The bytes of messages with which a batch is full.
const BATCH_BYTES: usize = 512 * 1024;
/// For the replicas to confirm a batch.
const REPLICAS_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves requests; returns when nobody is left to make one.
pub(super) async fn write(engine: Arc<Engine>, mut requests: UnboundedReceiver<Request>) {
    loop {
        let mut connection = connect(&engine, &mut requests).await;
        loop {
            let first = tokio::select! {
                biased;
                // What goes out over a connection that is gone has an unknown outcome, and what goes out over a new one has not.
                () = engine.lost.notified() => break,
                first = requests.recv() => first,
            };
            let Some(first) = first else { return };
            let batch = gather(first, &mut requests);
            if !send(&engine, &mut connection, batch).await {
                break;
            }
        }
    }
}

/// Makes a connection, however long that takes. Once it is clear that the engine is away, requests are refused at once.
async fn connect(engine: &Engine, requests: &mut UnboundedReceiver<Request>) -> MultiplexedConnection {
    let mut away = false;
    loop {
        let attempt = engine.connect();
        tokio::pin!(attempt);
        let connected = loop {
            tokio::select! {
                biased;
                connected = &mut attempt => break connected,
                Some(request) = requests.recv(), if away => request.refuse(NotPosted::Away),
            }
        };
        if let Ok(connection) = connected {
            return connection;
        }
        away = true;
        let pause = tokio::time::sleep(CONNECT_PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                biased;
                () = &mut pause => break,
                Some(request) = requests.recv() => request.refuse(NotPosted::Away),
            }
        }
    }
}

fn gather(first: Request, requests: &mut UnboundedReceiver<Request>) -> Vec<Request> {
    let mut bytes = first.bytes();
    let mut batch = vec![first];
    while batch.len() < BATCH
        && bytes < BATCH_BYTES
        && let Ok(request) = requests.try_recv()
    {
        bytes += request.bytes();
        batch.push(request);
    }
    batch
}

/// Hands a batch to the engine, and its answer to those who wait for it. Gives whether the connection is still good.
async fn send(engine: &Engine, connection: &mut MultiplexedConnection, batch: Vec<Request>) -> bool {
    let messages = batch.iter().filter_map(Request::message);
    let call = script::call(connection, &engine.settings, engine.known(), messages);
    match answered(ANSWER_TIMEOUT, call).await {
        Ok(answer) => {
            let confirmed = confirm(engine, connection, &answer).await;
            hand_out(engine, batch, &answer, confirmed);
            confirmed.is_ok()
        }
        Err(error) => {
            // An error that the engine itself has sent came before the first message was in the stream.
            let refused = error.code().is_some();
            warn!(%error, refused, "the engine took no messages");
            for request in batch {
                request.refuse(if refused { NotPosted::Away } else { NotPosted::Unknown });
            }
            false
        }
    }
}

/// Waits until so many replicas as there must be have the batch.
async fn confirm(engine: &Engine, connection: &mut MultiplexedConnection, answer: &Answer) -> Result<(), NotPosted> {
    let replicas = engine.settings.replicas;
    if replicas == 0 || answer.results.is_empty() {
        return Ok(());
    }
    let mut wait = redis::cmd("WAIT");
    wait.arg(replicas).arg(u64::try_from(REPLICAS_TIMEOUT.as_millis()).unwrap_or(u64::MAX));
    match answered(REPLICAS_TIMEOUT + ANSWER_TIMEOUT, wait.query_async::<usize>(connection)).await {
        Ok(confirmed) if confirmed >= replicas => Ok(()),
        Ok(confirmed) => Err(NotPosted::TooFewReplicas(confirmed, replicas)),
        Err(_) => Err(NotPosted::Unknown),
    }
}

fn hand_out(engine: &Engine, batch: Vec<Request>, answer: &Answer, confirmed: Result<(), NotPosted>) {
    let mut results = answer.results.iter();
    for request in batch {
        match request {
            Request::Ask(end) => {
                // It fails when the caller is gone; so does the other one.
                let _ = end.send(Some(Place { epoch: answer.epoch, reached: answer.last }));
            }
            Request::Post { answer: to, .. } => {
                let result = match results.next() {
                    Some(Outcome::Posted(micros)) => confirmed.map(|()| {
                        engine.acknowledged.fetch_max(*micros, Ordering::Relaxed);
                        SendTime::of_micros(*micros)
                    }),
                    Some(Outcome::KeyTaken) => Err(NotPosted::KeyTaken),
                    Some(Outcome::OtherEpoch) => Err(NotPosted::OtherEpoch(answer.epoch)),
                    None => Err(NotPosted::Unknown),
                };
                let _ = to.send(result);
            }
        }
    }
}

impl Request {
    fn message(&self) -> Option<&Message> {
        match self {
            Self::Post { message, .. } => Some(message),
            Self::Ask(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        self.message().map_or(0, |message| message.author.len() + message.text.len())
    }

    fn refuse(self, reason: NotPosted) {
        match self {
            Self::Post { answer, .. } => drop(answer.send(Err(reason))),
            Self::Ask(end) => drop(end.send(None)),
        }
    }
}
