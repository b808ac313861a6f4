//! Routes a request to the call that its path names.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::time::Instant;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::read_messages::{self, MessageStream};
use super::{health_and_reflection, response, send_message};
use crate::backend::Backend;
use crate::net::{Budget, Guard};
use crate::process::test_panic;
use crate::proto;
use crate::server::metrics::{GrpcMethod, Metrics};

/// How the paths of the health service begin.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// Everything that a call needs. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::server) struct Router {
    pub(in crate::server) room: Arc<Backend>,
    /// Bounds the memory of incomplete requests.
    pub(in crate::server) incoming: Budget,
    pub(in crate::server) max_message_bytes: usize,
    pub(in crate::server) metrics: Metrics,
    /// Checks the token, if the server has one.
    pub(in crate::server) guard: Option<Arc<Guard>>,
    pub(in crate::server) health_and_reflection: Routes,
}

/// The state of a call after [`Router::call`].
pub(in crate::server) enum CallOutcome {
    /// The call has ended.
    Ended,
    /// The call continues as a stream of messages.
    Streams(MessageStream),
}

impl Router {
    /// Checks that a call which panicked has left the room usable. If it has not, this ends the
    /// program.
    pub(in crate::server) fn check_room(&self) {
        let _ = self.room.usage();
    }

    /// Runs a call over a connection that was opened at `connected`.
    pub(in crate::server) async fn call(
        self,
        connected: Instant,
        request: Request<RecvStream>,
        respond: &mut SendResponse<Bytes>,
    ) -> CallOutcome {
        test_panic("call");
        let path = request.uri().path();
        let method = GrpcMethod::at(path);
        let mut call = self.metrics.begin(method);
        // This check comes before the token, so that a browser or a probe learns what this port is,
        // and nothing else.
        if let Some(status) = not_grpc(&request, method.is_known()) {
            // This fails only if the caller is gone.
            let _ = respond.send_response(http_answer(status), true);
            call.end(Some(Code::Unknown));
            return CallOutcome::Ended;
        }
        // This check comes before the message is received. Health needs no token, because
        // orchestrators have none.
        if let Some(guard) = &self.guard
            && !path.starts_with(HEALTH)
            && let Err(error) = guard.admit(request.headers())
        {
            call.end(response::refuse(respond, Status::unauthenticated(error.to_string())));
            return CallOutcome::Ended;
        }
        let code = match path.strip_prefix('/').and_then(|path| path.strip_prefix(proto::SERVICE)) {
            Some("/ReadMessages") => {
                let share = self.incoming.share();
                let stream = read_messages::open(&self.room, share, connected, call, request, respond).await;
                return stream.map_or(CallOutcome::Ended, CallOutcome::Streams);
            }
            Some("/SendMessage") => {
                let (limit, share) = (self.max_message_bytes, self.incoming.share());
                send_message::call(&self.room, limit, share, &self.metrics, request, respond).await
            }
            Some(_) => {
                let status = Status::unimplemented(format!("{} has no such method", proto::SERVICE));
                response::refuse(respond, status)
            }
            // Boxed to keep the other calls small.
            None => Box::pin(health_and_reflection::call(self.health_and_reflection, request, respond)).await,
        };
        call.end(code);
        CallOutcome::Ended
    }
}

/// The HTTP status for a request that is not gRPC, or `None` for one that is.
fn not_grpc<T>(request: &Request<T>, path_is_known: bool) -> Option<StatusCode> {
    let post = request.method() == Method::POST;
    if post && request.headers().get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes())) {
        return None;
    }
    Some(match (path_is_known, post) {
        (false, _) => StatusCode::NOT_FOUND,
        (true, false) => StatusCode::METHOD_NOT_ALLOWED,
        // "If Content-Type does not begin with application/grpc, gRPC servers SHOULD respond with
        // HTTP status of 415."
        // https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
        (true, true) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
    })
}

/// Whether this is the media type of gRPC. `application/grpc-web` is another protocol.
fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    content_type.split_at_checked(GRPC.len()).is_some_and(|(grpc, rest)| {
        grpc.eq_ignore_ascii_case(GRPC) && matches!(rest, [] | [b'+' | b';' | b' ' | b'\t', ..])
    })
}

fn http_answer(status: StatusCode) -> Response<()> {
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
    fn only_the_media_type_of_grpc_is_grpc() {
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
