//! Which path is which call.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::time::Instant;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::read_messages::{self, Reading};
use crate::backend::Keeper;
use crate::net::{Budget, Guard};
use crate::process::test_panic;
use crate::proto;
use crate::room::Kept;
use crate::server::grpc::{health_and_reflection, response, send_message};
use crate::server::metrics;
use crate::server::metrics::Metrics;

/// Where the paths of the health service begin.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// All that can be called, over one room.
#[derive(Debug, Clone)]
pub(crate) struct Messenger {
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
    pub(crate) fn new(
        room: Arc<Keeper>,
        incoming: Budget,
        max_message_bytes: usize,
        metrics: Metrics,
        guard: Option<Arc<Guard>>,
        others: Routes,
    ) -> Self {
        Self { room, incoming, max_message_bytes, metrics, guard, others }
    }

    /// What the room keeps now.
    pub(crate) fn kept(&self) -> Kept {
        self.room.kept()
    }

    /// One call from beginning to end; or, of a call that goes on for as long as its caller likes, the beginning, and what goes on.
    /// Its connection began at `connected`.
    pub(crate) async fn call(
        self,
        connected: Instant,
        request: Request<RecvStream>,
        respond: &mut SendResponse<Bytes>,
    ) -> Option<Reading> {
        test_panic("call");
        let path = request.uri().path();
        let method = metrics::Method::at(path);
        let mut call = self.metrics.begin(method);
        // Before the token: a browser or a probe that comes to this port is told what is here, and no more.
        if let Some(status) = not_grpc(&request, method.is_known()) {
            // It fails when the caller is gone, and then nobody waits for it.
            let _ = respond.send_response(not_grpc_answer(status), true);
            call.end(Some(Code::Unknown));
            return None;
        }
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
            call.end(Box::pin(health_and_reflection::call(self.others, request, respond)).await);
            return None;
        };
        let share = self.incoming.share();
        match method {
            "/SendMessage" => {
                let (room, limit) = (&self.room, self.max_message_bytes);
                call.end(send_message::call(room, limit, share, &self.metrics, request, respond).await);
            }
            "/ReadMessages" => return read_messages::open(&self.room, share, connected, call, request, respond).await,
            _ => {
                let status = Status::unimplemented(format!("{} has no such method", proto::SERVICE));
                call.end(response::refuse(respond, status));
            }
        }
        None
    }
}

/// The HTTP status for a request that is not one of gRPC, and therefore has no place for gRPC's own status.
fn not_grpc<T>(request: &Request<T>, path_is_known: bool) -> Option<StatusCode> {
    let post = request.method() == Method::POST;
    if post && request.headers().get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes())) {
        return None;
    }
    Some(match (path_is_known, post) {
        (false, _) => StatusCode::NOT_FOUND,
        (true, false) => StatusCode::METHOD_NOT_ALLOWED,
        // "If Content-Type does not begin with application/grpc, gRPC servers SHOULD respond with HTTP status of 415."
        // https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
        (true, true) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
    })
}

/// Whether this is gRPC's media type. `application/grpc-web` begins in the same way and is another protocol.
fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    content_type.split_at_checked(GRPC.len()).is_some_and(|(grpc, rest)| {
        grpc.eq_ignore_ascii_case(GRPC) && matches!(rest, [] | [b'+' | b';' | b' ' | b'\t', ..])
    })
}

fn not_grpc_answer(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_media_type_of_grpc() {
        for yes in
            ["application/grpc", "application/grpc+proto", "Application/gRPC;charset=utf-8", "application/grpc ; x=y"]
        {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["", "application/grp", "application/grpc-web", "application/grpc-web+proto", "application/grpcs"] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }
}
