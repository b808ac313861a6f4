//! Which path is which call.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tonic::service::Routes;
use tonic::{Code, Status};

use super::metrics::{self, Metrics};
use super::read_messages::{self, Reading};
use super::{response, send_message, standard};
use crate::net::{Budget, Guard};
use crate::proto;
use crate::room::Keeper;

/// Where the paths of the health service begin.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// All that can be called, over one room.
#[derive(Debug, Clone)]
pub(super) struct Messenger {
    room: Arc<Keeper>,
    incoming: Budget,
    max_message_bytes: usize,
    metrics: Metrics,
    /// Where a token is asked for.
    guard: Option<Arc<Guard>>,
    /// Health and reflection.
    others: Routes,
}

impl Messenger {
    pub(super) fn new(
        room: Arc<Keeper>,
        incoming: Budget,
        max_message_bytes: usize,
        metrics: Metrics,
        guard: Option<Arc<Guard>>,
        others: Routes,
    ) -> Self {
        Self { room, incoming, max_message_bytes, metrics, guard, others }
    }

    /// One call from beginning to end; or, of a call that goes on for as long as its caller likes, the beginning, and what goes on.
    pub(super) async fn call(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Option<Reading> {
        let path = request.uri().path();
        let mut call = self.metrics.begin(metrics::Method::at(path));
        // Before anything is read of a message. Whether the server is well is nobody's secret, and whoever asks has no token.
        if let Some(guard) = &self.guard
            && !path.starts_with(HEALTH)
            && let Err(no_token) = guard.admit(request.headers())
        {
            call.end(response::refuse(respond, Status::unauthenticated(no_token.to_string())));
            return None;
        }
        let Some(method) = path.strip_prefix('/').and_then(|path| path.strip_prefix(proto::SERVICE)) else {
            // In a box, or every call would be as large as this.
            call.end(Box::pin(standard::call(self.others, request, respond)).await);
            return None;
        };
        if let Some(response) = not_grpc(&request) {
            // It fails when the caller is gone, and then nobody waits for it.
            let _ = respond.send_response(response, true);
            call.end(Some(Code::Unknown));
            return None;
        }
        let share = self.incoming.share();
        match method {
            "/SendMessage" => {
                let (room, limit) = (&self.room, self.max_message_bytes);
                call.end(send_message::call(room, limit, share, &self.metrics, request, respond).await);
            }
            "/ReadMessages" => return read_messages::open(&self.room, share, call, request, respond).await,
            _ => {
                let status = Status::unimplemented(format!("{} has no such method", proto::SERVICE));
                call.end(response::refuse(respond, status));
            }
        }
        None
    }
}

/// The answer to a request that is not one of gRPC, which has no place for a status.
fn not_grpc(request: &Request<RecvStream>) -> Option<Response<()>> {
    let mut response = Response::new(());
    if request.method() != Method::POST {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Some(response);
    }
    // "If Content-Type does not begin with application/grpc, gRPC servers SHOULD respond with HTTP status of 415."
    // https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
    if !request.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Some(response);
    }
    None
}
