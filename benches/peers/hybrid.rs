//! The messenger's own room behind stock libraries: hyper serves the connections, tonic serves the
//! unary call, and only the body of `ReadMessages` is ours.
//!
//! The comparison with this peer says what the server's own HTTP/2 layer (`src/server/http2`) is
//! worth. The peer has the same limits, keepalive and drain. It leaves out TLS, the token, metrics,
//! deadlines, resuming, and the budget for requests that are not complete yet, so it does less
//! work.

use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Limited};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use messenger::backend::{Backend, PostError};
use messenger::net::{self, ConnectionLimits, ConnectionMetrics, Drain};
use messenger::process::{self, Signals};
use messenger::proto::{
    EPOCH, IDEMPOTENCY_KEY, POSITION, SERVICE, SendMessageRequest, SendMessageResponse,
};
use messenger::room::{EncodedMessage, Frames, Posted, Reader, Room, RoomLimits, Start};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

const RETENTION: usize = 64 * 1024 * 1024;
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
const MAX_READ_REQUEST: usize = 4096;

/// The response of a call: tonic's body, or the messages of a reader.
type Answer = Response<Either<tonic::body::Body, Messages>>;

/// The two calls over one room.
#[derive(Clone)]
struct Chat {
    room: Arc<Room>,
    as_tasks: bool,
}

/// The endless body of `ReadMessages`: the bytes of the room's log as they are.
struct Messages {
    reader: Reader,
    is_over: bool,
}

/// One call of a connection.
type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The executor of one connection's calls. hyper usually runs each call as a task of its own. By
/// default this one keeps them for the task of the connection, as the messenger's server does.
#[derive(Clone)]
struct Calls {
    as_tasks: bool,
    begun: Arc<Mutex<Vec<Call>>>,
}

fn main() -> ExitCode {
    process::run("peer-hybrid", run())
}

async fn run() -> anyhow::Result<()> {
    let port: u16 = std::env::var("MESSENGER_SERVER_PORT")?.parse()?;
    process::raise_file_limit();
    let signals = Signals::catch(false)?;
    let listener = net::listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
    let limits = RoomLimits { retention: RETENTION, keys: 500_000 };
    let (Backend::Memory(room), driver) = Backend::new(None, limits)? else { return Ok(()) };
    let limits = ConnectionLimits { connections: 100_000, drain: Duration::from_millis(1500) };
    let chat =
        Chat { room: Arc::clone(&room), as_tasks: std::env::args().any(|arg| arg == "tasks") };
    let connections = net::serve_connections(
        listener,
        signals.shutdown(),
        limits,
        ConnectionMetrics::default(),
        || room.close(),
        |stream, drain| serve(stream, drain, chat.clone()),
    );
    tokio::select! {
        () = connections => {}
        () = driver.run(|_| {}) => {}
    }
    Ok(())
}

/// Serves one connection, with the limits of `src/server/http2/connection.rs`.
async fn serve(stream: TcpStream, mut drain: Drain, chat: Chat) {
    let calls = Calls { as_tasks: chat.as_tasks, begun: Arc::default() };
    let service = service_fn(move |request| {
        let chat = chat.clone();
        async move { Ok::<_, Infallible>(chat.call(request).await) }
    });
    let connection = http2::Builder::new(calls.clone())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(25))
        .keep_alive_timeout(Duration::from_secs(10))
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_concurrent_streams(100_000)
        .max_header_list_size(16 * 1024)
        .max_pending_accept_reset_streams(1000)
        .max_local_error_reset_streams(100_000)
        .max_send_buf_size(64 * 1024)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut drain = pin!(drain.begun().fuse());
    let mut running = FuturesUnordered::new();
    let result = poll_fn(|cx| {
        if drain.as_mut().poll(cx).is_ready() {
            connection.as_mut().graceful_shutdown();
        }
        loop {
            // Before the connection, so that the answers of all calls leave in one write.
            while let Poll::Ready(Some(())) = running.poll_next_unpin(cx) {}
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            let begun = calls.take();
            if begun.is_empty() {
                return Poll::Pending;
            }
            running.extend(begun);
        }
    });
    if let Err(error) = result.await {
        tracing::debug!(%error, "connection ended");
    }
}

impl Calls {
    /// The calls that have begun since the last call of this function.
    fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Calls {
    fn execute(&self, call: F) {
        if self.as_tasks {
            tokio::spawn(call);
        } else {
            self.begun.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(call));
        }
    }
}

impl Chat {
    async fn call(self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().strip_prefix('/');
        match path.and_then(|path| path.strip_prefix(SERVICE)) {
            Some("/SendMessage") => {
                let codec = ProstCodec::<SendMessageResponse, SendMessageRequest>::default();
                let mut grpc = Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE);
                grpc.unary(self, request).await.map(Either::Left)
            }
            Some("/ReadMessages") => match self.read_messages(request.into_body()).await {
                Ok(response) => response.map(Either::Right),
                Err(status) => status.into_http().map(Either::Left),
            },
            _ => Status::unimplemented("no such method").into_http().map(Either::Left),
        }
    }

    async fn read_messages(self, request: Incoming) -> Result<Response<Messages>, Status> {
        // The request has no fields.
        let request = Limited::new(request, MAX_READ_REQUEST).collect().await;
        request.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let opened = self.room.open(Start::Now);
        let opened = opened.map_err(|error| Status::internal(error.to_string()))?;
        let mut response = Response::new(Messages { reader: opened.reader, is_over: false });
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        for (name, text) in
            [(EPOCH, opened.epoch.to_string()), (POSITION, opened.position.to_string())]
        {
            // Hexadecimal digits and times always make a value.
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
        Ok(response)
    }
}

impl UnaryService<SendMessageRequest> for Chat {
    type Response = SendMessageResponse;
    type Future = Ready<Result<tonic::Response<SendMessageResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<SendMessageRequest>) -> Self::Future {
        let (metadata, _, SendMessageRequest { author, text }) = request.into_parts();
        let message = EncodedMessage::new(author, text);
        if message.outgoing_size() > MAX_MESSAGE {
            return ready(Err(Status::resource_exhausted("author and text are too long")));
        }
        let key = metadata.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok());
        let time = match key {
            Some(key) => self.room.post_once(key, message).map(Posted::time),
            None => self.room.post(message),
        };
        ready(match time {
            Ok(time) => {
                Ok(tonic::Response::new(SendMessageResponse { send_time: Some(time.into()) }))
            }
            Err(rejection) => Err(PostError::from(rejection).into()),
        })
    }
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        if this.reader.is_waiting() {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(match ready!(this.reader.poll_read(cx)) {
            Ok(Frames { bytes, .. }) => Frame::data(bytes),
            Err(end) => {
                this.is_over = true;
                let mut trailers = HeaderMap::new();
                // Only a message with control characters fails, and ours has none.
                let _ = Status::from(end).add_header(&mut trailers);
                Frame::trailers(trailers)
            }
        })))
    }
}
