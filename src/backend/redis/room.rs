//! A room in Redis, as one of its servers sees it.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::archive::Archive;
use super::driver::RedisDriver;
use super::request::{Post, Request};
use super::script::NewMessage;
use super::settings::Settings;
use super::shared::{Health, Shared};
use crate::backend::error::PostError;
use crate::room::{EncodedMessage, Epoch, Posted, Rejection, RoomLimits, Usage};

/// The bytes that a waiting message takes besides its text.
const MESSAGE_OVERHEAD: usize = 256;

/// A room in Redis.
pub struct RedisRoom {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: UnboundedSender<Request>,
    pub(super) archive: Arc<Archive>,
}

impl RedisRoom {
    /// The room and its driver.
    #[must_use]
    pub fn new(settings: Settings, limits: RoomLimits) -> (Arc<Self>, RedisDriver) {
        let shared = Arc::new(Shared::new(settings, limits));
        let (requests, received) = unbounded_channel();
        let archive = Arc::new(Archive::new(Arc::clone(&shared)));
        let driver = RedisDriver::new(Arc::clone(&shared), received);
        (Arc::new(Self { shared, requests, archive }), driver)
    }

    /// Posts a message; completes when it is acknowledged.
    ///
    /// # Errors
    /// See [`PostError`].
    pub(crate) async fn post(
        &self,
        epoch: Option<Epoch>,
        key: Option<&str>,
        message: EncodedMessage,
    ) -> Result<Posted, PostError> {
        let mut share = self.shared.waiting.share();
        let bytes = message.author_and_text().len() + MESSAGE_OVERHEAD;
        share.cover(bytes).map_err(|_| PostError::TooManyWaiting)?;
        // The share comes first: a room that closes waits until all shares are returned.
        if self.shared.is_closing() {
            return Err(Rejection::Closed.into());
        }
        let (answer, result) = oneshot::channel();
        let message = NewMessage { epoch, key: key.map(str::to_owned), message };
        let request = Request::Post(Post { message, answer, _share: share });
        self.requests.send(request).map_err(|_| PostError::Away)?;
        result.await.unwrap_or(Err(PostError::Unknown))
    }

    /// Accepts no further messages. Readers end once they have read all accepted messages.
    pub(crate) fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    /// How much this server keeps of the room.
    pub(crate) fn usage(&self) -> Usage {
        self.shared.room().map(|room| room.usage()).unwrap_or_default()
    }

    /// The state of this server's connection to Redis.
    pub(crate) fn health(&self) -> Health {
        self.shared.health()
    }
}

impl fmt::Debug for RedisRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRoom").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}
