//! What runs for as long as the room lives: one task writes, one reads, and the rounds of whichever room is the one now.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::backend::redis::{Engine, Life, MAX_WAITING, Request, append, tail};
use crate::process::run_all;

/// For what was acknowledged to come back from the engine, when the room is closed.
const LAST_MESSAGES: Duration = Duration::from_millis(500);

/// What must run for the room to live.
#[derive(Debug)]
pub struct Driver {
    pub(super) engine: Arc<Engine>,
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
}

impl Driver {
    /// Keeps the room alive; never returns. `ended` is told of each round, as by [`Room::dispatch`](crate::room::Room::dispatch).
    pub async fn run(self, ended: impl Fn(Duration)) {
        let Self { engine, requests } = self;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(append::write(Arc::clone(&engine), requests));
        let follower = Arc::clone(&engine);
        tasks.spawn(async move {
            tokio::select! {
                () = tail::follow(&follower) => {}
                () = drained(&follower) => {}
            }
        });
        let mut lives = engine.life.subscribe();
        loop {
            let room = lives.borrow_and_update().as_ref().map(|life| Arc::clone(&life.room));
            let dispatch = async {
                match &room {
                    Some(room) => room.dispatch(&ended).await,
                    None => std::future::pending().await,
                }
            };
            let other = lives.wait_for(|life| {
                let now = life.as_ref().map(|life| Arc::as_ptr(&life.room));
                now != room.as_ref().map(Arc::as_ptr)
            });
            tokio::select! {
                () = dispatch => {}
                _ = other => {}
                never = run_all(&mut tasks) => match never {},
            }
        }
    }
}

/// Completes when the room is closed, and its readers have what was acknowledged here: it comes back to them through the engine.
async fn drained(engine: &Engine) {
    // The sender is the engine's own.
    let _ = engine.closing.subscribe().wait_for(|closing| *closing).await;
    let came_back = async {
        // All that waits, here and at the engine, has been answered.
        let _ = engine.waiting.acquire_many(MAX_WAITING).await;
        let acknowledged = engine.acknowledged.load(Ordering::Relaxed);
        let reached = |life: &Option<Life>| life.as_ref().is_none_or(|life| life.reached >= acknowledged);
        let _ = engine.life.subscribe().wait_for(reached).await;
    };
    let _ = tokio::time::timeout(LAST_MESSAGES, came_back).await;
    if let Some(room) = engine.room() {
        room.close();
    }
}
