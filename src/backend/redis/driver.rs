//! The tasks of a room in Redis: one appends to the stream, one reads it, and one runs the rounds
//! of the current epoch's room.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::request::Request;
use super::shared::{EpochState, Shared};
use super::{append, tail};
use crate::process::run_all;

/// How long a room that closes waits for the last messages to come back from Redis.
const LAST_MESSAGES: Duration = Duration::from_millis(500);

/// The background work of a room in Redis.
#[derive(Debug)]
pub struct RedisDriver {
    shared: Arc<Shared>,
    requests: UnboundedReceiver<Request>,
}

impl RedisDriver {
    pub(super) fn new(shared: Arc<Shared>, requests: UnboundedReceiver<Request>) -> Self {
        Self { shared, requests }
    }

    /// Drives the room; never returns. Calls `ended` after each round, as
    /// [`Room::dispatch`](crate::room::Room::dispatch) does.
    pub(crate) async fn run(self, ended: impl Fn(Duration)) {
        let Self { shared, requests } = self;
        let mut tasks = JoinSet::new();
        tasks.spawn(append::append(Arc::clone(&shared), requests));
        let follower = Arc::clone(&shared);
        tasks.spawn(async move {
            tokio::select! {
                () = tail::follow(&follower) => {}
                () = close(&follower) => {}
            }
        });
        let mut epochs = shared.epoch.subscribe();
        loop {
            let room = epochs.borrow_and_update().as_ref().map(|epoch| Arc::clone(&epoch.room));
            let dispatch = async {
                match &room {
                    Some(room) => room.dispatch(&ended).await,
                    None => std::future::pending().await,
                }
            };
            let replaced = epochs.wait_for(|epoch| {
                let current = epoch.as_ref().map(|epoch| Arc::as_ptr(&epoch.room));
                current != room.as_ref().map(Arc::as_ptr)
            });
            tokio::select! {
                () = dispatch => {}
                _ = replaced => {}
                never = run_all(&mut tasks) => match never {},
            }
        }
    }
}

/// Closes the room when the server shuts down, after all messages that were acknowledged here have
/// come back from Redis.
async fn close(shared: &Shared) {
    let _ = shared.closing.subscribe().wait_for(|closing| *closing).await;
    let came_back = async {
        // Every message that waits here or at Redis has its result then.
        shared.waiting.all_returned().await;
        let acknowledged = shared.acknowledged.load(Ordering::Relaxed);
        let reached = |epoch: &Option<EpochState>| epoch.as_ref().is_none_or(|epoch| epoch.reached >= acknowledged);
        let _ = shared.epoch.subscribe().wait_for(reached).await;
    };
    let _ = tokio::time::timeout(LAST_MESSAGES, came_back).await;
    if let Some(room) = shared.room() {
        room.close();
    }
}
