//! Health and reflection, served by tonic. They are called seldom, so a call may cost more here.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tower_service::Service;
use tracing::error;

use super::deadline::{deadline, deadline_exceeded, within};
use super::response::{self, CallerGone};
use crate::proto;

/// The largest request, in bytes. Each has only a name. tonic's default would let each caller fill
/// 4 MiB of memory.
const MAX_REQUEST: usize = 4096;

/// The routes to health and reflection. Any other path is `UNIMPLEMENTED`.
pub(in crate::server) fn routes(health: HealthServer<impl Health>) -> Routes {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::default().add_service(health.max_decoding_message_size(MAX_REQUEST));
    // Newer tools ask for v1, older ones for v1alpha.
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            routes = routes
                .add_service(v1.max_decoding_message_size(MAX_REQUEST))
                .add_service(v1alpha.max_decoding_message_size(MAX_REQUEST));
        }
        // The descriptors are part of the program, so this would be a bug.
        (Err(error), _) | (_, Err(error)) => error!(%error, "reflection is off"),
    }
    routes.prepare()
}

/// Runs one call. Returns the code that it ended with, or `None` if the caller is gone.
pub(super) async fn call(
    routes: Routes,
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Code> {
    let deadline = match deadline(request.headers()) {
        Ok(deadline) => deadline,
        Err(status) => return response::refuse(respond, status),
    };
    let mut open_stream = None;
    if let Ok(code) = within(deadline, answer(routes, request, respond, &mut open_stream)).await {
        return code;
    }
    let status = deadline_exceeded("");
    match open_stream {
        None => response::refuse(respond, status),
        Some(mut stream) => stream.send_trailers(response::trailers(&status)).ok().map(|()| status.code()),
    }
}

/// Answers a call. Sets `open_stream` when the headers of the response have left.
async fn answer(
    mut routes: Routes,
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
    open_stream: &mut Option<SendStream<Bytes>>,
) -> Option<Code> {
    let request = request.map(|stream| Body::new(RequestBody(stream)));
    let Ok::<Response<Body>, Infallible>(response) = routes.call(request).await.map_err(|error| match error {});
    let (head, mut body) = response.into_parts();
    let mut code = code(&head.headers);
    let stream = open_stream.insert(respond.send_response(Response::from_parts(head, ()), body.is_end_stream()).ok()?);
    while !body.is_end_stream()
        && let Ok(Some(frame)) = poll_fn(|cx| poll_frame(&mut body, stream, cx)).await
    {
        let sent = match frame.into_data() {
            Ok(data) => stream.send_data(data, body.is_end_stream()),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                code = self::code(&trailers);
                stream.send_trailers(trailers)
            }
        };
        sent.ok()?;
    }
    code
}

fn code(headers: &HeaderMap) -> Option<Code> {
    Status::from_header_map(headers).map(|status| status.code())
}

/// Waits until the caller takes more of a response, and then for the next frame of it.
fn poll_frame(
    body: &mut Body,
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Frame<Bytes>>, CallerGone>> {
    if stream.poll_reset(cx).is_ready() {
        return Poll::Ready(Err(CallerGone));
    }
    ready!(response::poll_capacity(stream, cx))?;
    match ready!(Pin::new(body).poll_frame(cx)) {
        Some(Ok(frame)) => Poll::Ready(Ok(Some(frame))),
        // tonic turns every error of a body into a status.
        Some(Err(_)) | None => Poll::Ready(Ok(None)),
    }
}

/// The body of a request in the form that tonic takes.
struct RequestBody(RecvStream);

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let stream = &mut self.get_mut().0;
        match ready!(stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // This fails only for more bytes than have arrived.
                let _ = stream.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => stream
                .poll_trailers(cx)
                .map(|trailers| trailers.transpose().map(|trailers| trailers.map(Frame::trailers))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
