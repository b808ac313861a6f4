//! The requests to the task that appends.

use tokio::sync::oneshot;

use super::script::{NewMessage, Tip};
use super::tip_query::TipQuery;
use crate::backend::error::{OpenError, PostError};
use crate::net::Share;
use crate::room::Posted;

/// A request to the task that appends.
#[derive(Debug)]
pub(super) enum Request {
    /// To post a message.
    Post(Post),
    /// To tell where the stream ends.
    Tip(TipQuery<Result<Tip, OpenError>>),
}

/// A message, and the sender that waits for its result.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) message: NewMessage,
    pub(super) answer: oneshot::Sender<Result<Posted, PostError>>,
    /// The memory that the message takes while it waits.
    pub(super) _share: Share,
}

impl Request {
    pub(super) fn message(&self) -> Option<&NewMessage> {
        match self {
            Self::Post(post) => Some(&post.message),
            Self::Tip(_) => None,
        }
    }

    pub(super) fn refuse(self, reason: PostError) {
        match self {
            // It fails when the sender is gone.
            Self::Post(post) => drop(post.answer.send(Err(reason))),
            Self::Tip(question) => question.answer(Err(match reason {
                PostError::Refused(error) => OpenError::Refused(error),
                _ => OpenError::Away,
            })),
        }
    }
}
