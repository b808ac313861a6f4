//! Messages on their way to the engine, in batches: while one is on its way the next one gathers.

use std::sync::Arc;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tracing::warn;

use super::confirm::{Confirmer, Taken};
use super::script::{self, Message};
use super::{ANSWER_TIMEOUT, CONNECT_PAUSE, Engine, Request, answered};
use crate::room::NotPosted;

/// Requests of one batch, which the engine does as one: nobody else gets an answer from it meanwhile.
const BATCH: usize = 256;
/// The bytes of messages with which a batch is full.
const BATCH_BYTES: usize = 512 * 1024;

/// Serves requests; returns when nobody is left to make one.
pub(super) async fn write(engine: Arc<Engine>, mut requests: UnboundedReceiver<Request>) {
    loop {
        let (mut connection, confirmer) = connect(&engine, &mut requests).await;
        loop {
            let first = tokio::select! {
                biased;
                // What goes out over a connection that is gone has an unknown outcome, and what goes out over a new one has not.
                () = engine.lost.notified() => break,
                () = confirmer.ended() => break,
                first = requests.recv() => first,
            };
            let Some(first) = first else { return };
            let batch = gather(first, &mut requests);
            if !send(&engine, &mut connection, &confirmer, batch).await {
                break;
            }
        }
    }
}

/// Makes connections, however long that takes. Once it is clear that the engine is away, requests are refused at once.
async fn connect(
    engine: &Arc<Engine>,
    requests: &mut UnboundedReceiver<Request>,
) -> (MultiplexedConnection, Confirmer) {
    let (mut away, mut there) = (false, engine.there.subscribe());
    loop {
        let attempt = async {
            let mut connection = engine.connect().await?;
            let confirmer = Confirmer::start(engine, &mut connection).await?;
            RedisResult::Ok((connection, confirmer))
        };
        match meanwhile(requests, &mut away, &mut there, attempt).await {
            Ok(connected) => return connected,
            // That it is away is said where the stream is read.
            Err(error) if error.code().is_some() && !away => warn!(%error, "the engine takes no messages"),
            Err(_) => {}
        }
        away = true;
        meanwhile(requests, &mut away, &mut there, tokio::time::sleep(CONNECT_PAUSE)).await;
    }
}

/// Waits for the event, and refuses requests for as long as the engine is away. When its stream is being read again it is there: readers may
/// have been told so already, and what comes then waits for the connection.
async fn meanwhile<T>(
    requests: &mut UnboundedReceiver<Request>,
    away: &mut bool,
    there: &mut watch::Receiver<bool>,
    event: impl Future<Output = T>,
) -> T {
    tokio::pin!(event);
    loop {
        tokio::select! {
            biased;
            done = &mut event => return done,
            Ok(()) = there.changed() => *away &= !*there.borrow_and_update(),
            Some(request) = requests.recv(), if *away => request.refuse(NotPosted::Away),
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
async fn send(
    engine: &Engine,
    connection: &mut MultiplexedConnection,
    confirmer: &Confirmer,
    batch: Vec<Request>,
) -> bool {
    let messages = batch.iter().filter_map(Request::message);
    let call = script::call(connection, &engine.settings, engine.known(), messages);
    match answered(ANSWER_TIMEOUT, call).await {
        Ok(answer) => {
            if let Some(taken) = Taken::new(batch, answer) {
                confirmer.confirm(taken);
            }
            true
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
