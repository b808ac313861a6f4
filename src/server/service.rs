//! The service `mes_grpc.MessengerServer` as tower sees it: which path is which call.
//!
//! This is what tonic would generate, written out because one of the two calls has a body of its own.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Status};
use tower_service::Service;

use super::codec::StrictCodec;
use super::read_messages::{Accept, ReaderBody};
use super::send_message::SendMessage;
use crate::proto;
use crate::room::Room;

/// The most bytes of a request to `ReadMessages`: it has no fields, but a newer caller may send some that are unknown here.
const MAX_READ_REQUEST: usize = 4096;

/// Both calls over one room.
#[derive(Debug, Clone)]
pub(super) struct Messenger {
    room: Arc<Room>,
    max_message_bytes: usize,
}

impl Messenger {
    pub(super) fn new(room: Arc<Room>, max_message_bytes: usize) -> Self {
        Self { room, max_message_bytes }
    }

    async fn call(self, request: Request<Body>) -> Response<Body> {
        // "If Content-Type does not begin with application/grpc, gRPC servers SHOULD respond with HTTP status of 415."
        // https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
        if !request.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        match request.uri().path() {
            "/mes_grpc.MessengerServer/SendMessage" => self.send_message(request).await,
            "/mes_grpc.MessengerServer/ReadMessages" => self.read_messages(request).await,
            _ => Status::unimplemented(format!("{} has no such method", proto::SERVICE)).into_http(),
        }
    }

    async fn send_message(self, request: Request<Body>) -> Response<Body> {
        let limit = self.max_message_bytes;
        let call = SendMessage { room: self.room, max_message_bytes: limit };
        let response = Grpc::new(StrictCodec::new()).max_decoding_message_size(limit).unary(call, request).await;
        // tonic answers OUT_OF_RANGE to a message over the limit; the code that gRPC has for it is RESOURCE_EXHAUSTED.
        // https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() == Code::OutOfRange => {
                Status::resource_exhausted(format!("author and text are too long: the limit is {limit} bytes"))
                    .into_http()
            }
            _ => response,
        }
    }

    async fn read_messages(self, request: Request<Body>) -> Response<Body> {
        let timeout = match timeout(request.headers()) {
            Ok(timeout) => timeout,
            Err(status) => return status.into_http(),
        };
        let response = Grpc::new(StrictCodec::new())
            .max_decoding_message_size(MAX_READ_REQUEST)
            .server_streaming(Accept, request)
            .await;
        if Status::from_header_map(response.headers()).is_some() {
            return response;
        }
        // The headers go out as soon as this returns, before any message: whoever has seen them is subscribed.
        let reader = self.room.subscribe();
        response.map(|_| Body::new(ReaderBody::new(reader, timeout)))
    }
}

impl Service<Request<Body>> for Messenger {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let messenger = self.clone();
        Box::pin(async move { Ok(messenger.call(request).await) })
    }
}

impl NamedService for Messenger {
    const NAME: &'static str = proto::SERVICE;
}

/// The caller's deadline: `grpc-timeout`, at most 8 digits and a unit.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let parse = || {
        let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        match unit {
            "H" => Some(Duration::from_secs(number * 3600)),
            "M" => Some(Duration::from_secs(number * 60)),
            "S" => Some(Duration::from_secs(number)),
            "m" => Some(Duration::from_millis(number)),
            "u" => Some(Duration::from_micros(number)),
            "n" => Some(Duration::from_nanos(number)),
            _ => None,
        }
    };
    match parse() {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(Status::invalid_argument(format!(
            "grpc-timeout {value:?} is not a number of at most 8 digits and a unit"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<Option<Duration>, Status> {
        timeout(&HeaderMap::from_iter([("grpc-timeout".parse().expect("a name"), value.parse().expect("a value"))]))
    }

    #[test]
    fn reads_every_unit_of_a_timeout() {
        assert!(matches!(timeout(&HeaderMap::new()), Ok(None)));
        for (value, millis) in
            [("2H", 7_200_000), ("3M", 180_000), ("4S", 4_000), ("5m", 5), ("6000u", 6), ("99999999n", 99)]
        {
            assert_eq!(parse(value).expect(value).map(|timeout| timeout.as_millis()), Some(millis));
        }
    }

    #[test]
    fn refuses_what_is_no_timeout() {
        for value in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "1.5S", "5 S"] {
            assert_eq!(parse(value).expect_err(value).code(), Code::InvalidArgument);
        }
    }
}
