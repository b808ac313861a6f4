//! What a sender is told at once while the engine refuses messages: not each of them is tried, and one now and then is.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::pauses::Pauses;
use super::refusal::Refusal;
use super::{Engine, Request};
use crate::room::NotPosted;

/// Whether messages are handed to the engine.
pub(super) struct Breaker {
    engine: Arc<Engine>,
    pauses: Pauses,
    /// When the next message is tried.
    until: Instant,
}

impl Breaker {
    pub(super) fn new(engine: &Arc<Engine>) -> Self {
        Self { engine: Arc::clone(engine), pauses: Pauses::default(), until: Instant::now() }
    }

    /// The engine has refused messages, or a connection for them.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        self.until = Instant::now() + self.pauses.next();
        let mut news = false;
        self.engine.refused.send_modify(|refused| news = refused.note_posts(refusal));
        if news {
            warn!(engine = %self.engine.settings.url, error = %refusal, "the engine takes no messages, will retry");
        }
    }

    /// The engine has taken messages.
    pub(super) fn taken(&mut self) {
        if self.engine.refused.borrow().posts.is_some() {
            self.pauses.reset();
            self.engine.refused.send_modify(|refused| refused.posts = None);
            info!(engine = %self.engine.settings.url, "the engine takes messages");
        }
    }

    /// The engine lets the server in again: the next message is tried, however short the pause was.
    pub(super) fn let_in(&mut self) {
        self.until = Instant::now();
        self.pauses.reset();
        self.engine.refused.send_modify(|refused| refused.posts = None);
    }

    /// When a message or a connection is to be tried again.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Why no message is tried now.
    fn closed_to(&self) -> Option<Refusal> {
        if Instant::now() >= self.until {
            return None;
        }
        self.engine.refused.borrow().posts.clone()
    }

    /// What of these is to be handed to the engine: all, or only the questions where the stream ends.
    pub(super) fn admit(&self, batch: Vec<Request>) -> Vec<Request> {
        let Some(refusal) = self.closed_to() else { return batch };
        let (posts, questions): (Vec<_>, Vec<_>) = batch.into_iter().partition(|request| request.message().is_some());
        for post in posts {
            post.refuse(NotPosted::Refused(refusal.clone()));
        }
        questions
    }
}
