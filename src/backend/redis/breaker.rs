//! A circuit breaker: while Redis refuses messages, the server refuses most messages at once, and
//! tries one now and then.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::error_reply::ErrorReply;
use super::pauses::Pauses;
use super::request::Request;
use super::shared::Shared;
use crate::backend::error::PostError;

/// Whether messages are sent to Redis.
pub(super) struct Breaker {
    shared: Arc<Shared>,
    pauses: Pauses,
    /// The time of the next try with a message.
    until: Instant,
}

impl Breaker {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), pauses: Pauses::default(), until: Instant::now() }
    }

    /// Notes that Redis has refused messages, or a connection for them.
    pub(super) fn note_refused(&mut self, error: &ErrorReply) {
        self.until = Instant::now() + self.pauses.next();
        let mut news = false;
        self.shared.errors.send_modify(|errors| news = errors.note_posts(error));
        if news {
            let (redis, error) = (&self.shared.settings.url, &error.text);
            warn!(%redis, %error, "redis refuses messages, will retry");
        }
    }

    /// Notes that Redis has accepted messages.
    pub(super) fn note_accepted(&mut self) {
        if self.shared.errors.borrow().posts.is_some() {
            self.pauses.reset();
            self.shared.errors.send_modify(|errors| errors.posts = None);
            info!(redis = %self.shared.settings.url, "redis accepts messages again");
        }
    }

    /// Notes that Redis lets this server connect again. The next message is tried at once.
    pub(super) fn note_connected(&mut self) {
        self.until = Instant::now();
        self.pauses.reset();
        self.shared.errors.send_modify(|errors| errors.posts = None);
    }

    /// The time of the next try with a message or a connection.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Refuses the messages of a batch if none is tried now. Returns the requests to be sent.
    pub(super) fn admit(&self, batch: Vec<Request>) -> Vec<Request> {
        let error = match &self.shared.errors.borrow().posts {
            Some(error) if Instant::now() < self.until => Arc::clone(&error.text),
            _ => return batch,
        };
        let (posts, questions): (Vec<_>, Vec<_>) = batch.into_iter().partition(|request| request.message().is_some());
        for post in posts {
            post.refuse(PostError::Refused(Arc::clone(&error)));
        }
        questions
    }
}
