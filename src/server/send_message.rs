//! `SendMessage`: one message into the room.

use std::future::{Ready, ready};
use std::sync::Arc;

use tonic::metadata::MetadataValue;
use tonic::server::UnaryService;
use tonic::{Request, Response, Status};

use crate::proto::{NOT_ACCEPTED, SendMessageRequest, SendMessageResponse};
use crate::room::{Closed, Draft, Room};

/// The call, for tonic's [`tonic::server::Grpc::unary`].
#[derive(Debug, Clone)]
pub(super) struct SendMessage {
    pub(super) room: Arc<Room>,
    pub(super) max_message_bytes: usize,
}

impl UnaryService<SendMessageRequest> for SendMessage {
    type Response = SendMessageResponse;
    type Future = Ready<Result<Response<SendMessageResponse>, Status>>;

    fn call(&mut self, request: Request<SendMessageRequest>) -> Self::Future {
        ready(self.post(request.into_inner()).map(Response::new))
    }
}

impl SendMessage {
    fn post(&self, request: SendMessageRequest) -> Result<SendMessageResponse, Status> {
        let draft = Draft::new(request.author, request.text);
        let size = draft.outgoing_size();
        if size > self.max_message_bytes {
            return Err(Status::resource_exhausted(format!(
                "author and text are too long: {size} bytes as a message to readers, the limit is {}",
                self.max_message_bytes
            )));
        }
        let time = self.room.post(draft)?;
        Ok(SendMessageResponse { send_time: Some(time.into()) })
    }
}

impl From<Closed> for Status {
    fn from(closed: Closed) -> Self {
        let mut status = Self::unavailable(closed.to_string());
        status.metadata_mut().insert(NOT_ACCEPTED, MetadataValue::from_static("true"));
        status
    }
}
