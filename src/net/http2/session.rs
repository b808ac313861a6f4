//! The HTTP/2 session of a connection to a server: the task that drives it, and the start of calls.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{Request, Response, Version};
use http_body::Body as _;
use tokio::sync::{Notify, watch};
use tonic::body::Body;
use tracing::debug;

use super::body::{self, ResponseBody, Sending};
use super::gate::{Backpressure, Gate, Slot, UNKNOWN_STREAMS};
use super::liveness::{Liveness, Unresponsive};
use super::preface::ServerPreface;
use crate::net::Activity;
use crate::net::transport::observed::ObservedSocket;

/// How much the server may send ahead on a stream. With the default of 64 KiB a busy stream waits
/// for its window, and a reader that falls behind in small frames is cut. This client always drains
/// its stream, so a large window costs nothing.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// How much the server may send ahead on all streams together.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// The largest headers of a response, uncompressed, in bytes.
const HEADERS_MAX: u32 = 16 * 1024;
/// How long a connection without users may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The calls over one connection. It closes when the last clone is dropped and its calls have
/// ended.
#[derive(Debug, Clone)]
pub(super) struct Session {
    requests: SendRequest<Bytes>,
    gate: Arc<Gate>,
    liveness: Arc<Liveness>,
}

impl Session {
    /// Starts the session, and returns it with the future that drives it, which the caller must
    /// spawn.
    ///
    /// # Errors
    /// If the socket fails at once.
    pub(super) async fn start(
        socket: ObservedSocket<ServerPreface>,
        activity: Activity,
    ) -> Result<(Self, impl Future<Output = Result<(), h2::Error>> + use<>), h2::Error> {
        let (requests, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS_MAX)
            .initial_max_send_streams(UNKNOWN_STREAMS)
            .enable_push(false)
            .handshake(socket)
            .await?;
        let room = Arc::<Notify>::default();
        let (gate, users) = Gate::new(activity.write_state(), Arc::clone(&room));
        let liveness = Arc::<Liveness>::default();
        let driver = drive(connection, activity, users, room, Arc::clone(&liveness));
        Ok((Self { requests, gate, liveness }, driver))
    }

    pub(super) fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// The reason why calls can't start, if that state lasts.
    pub(super) fn backpressure(&self) -> Option<Backpressure> {
        self.gate.backpressure(&self.requests)
    }

    /// The reason why the latest delayed call had to wait.
    pub(super) fn last_backpressure(&self) -> Option<Backpressure> {
        self.gate.last_backpressure()
    }

    /// Waits until a call may start.
    pub(super) async fn enter(&self) -> Slot {
        self.gate.enter(&self.requests).await
    }

    /// Starts a call.
    ///
    /// # Errors
    /// If the connection takes no more calls. Nothing has been sent then.
    pub(super) fn call(&mut self, request: Request<Body>, slot: Slot) -> Result<PendingCall, h2::Error> {
        let (mut head, body) = request.into_parts();
        head.version = Version::HTTP_2;
        let end = body.is_end_stream();
        let (response, stream) = self.requests.send_request(Request::from_parts(head, ()), end)?;
        let sending: Option<Sending> = (!end).then(|| Box::pin(body::send(body, stream)) as Sending);
        Ok(PendingCall { response, sending, slot: Some(slot), liveness: Arc::clone(&self.liveness) })
    }
}

/// A call that waits for its response. Dropping it cancels the call.
pub(super) struct PendingCall {
    response: ResponseFuture,
    sending: Option<Sending>,
    slot: Option<Slot>,
    liveness: Arc<Liveness>,
}

impl Future for PendingCall {
    type Output = Result<Response<ResponseBody>, h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.get_mut();
        if call.sending.as_mut().is_some_and(|sending| sending.as_mut().poll(cx).is_ready()) {
            call.sending = None;
        }
        let response = ready!(Pin::new(&mut call.response).poll(cx))?;
        call.liveness.answered();
        let (sending, slot) = (call.sending.take(), call.slot.take());
        Poll::Ready(Ok(response.map(|stream| ResponseBody::new(stream, sending, slot))))
    }
}

/// Drives the connection until it ends, the server is unresponsive, or nobody uses the connection.
async fn drive(
    mut connection: h2::client::Connection<ObservedSocket<ServerPreface>, Bytes>,
    activity: Activity,
    mut users: watch::Receiver<()>,
    room: Arc<Notify>,
    liveness: Arc<Liveness>,
) -> Result<(), h2::Error> {
    let mut unresponsive = pin!(liveness.watch(connection.ping_pong(), activity));
    let mut streams = UNKNOWN_STREAMS;
    let mut end = pin!(poll_fn(move |cx| {
        let end = Pin::new(&mut connection).poll(cx);
        // h2 does not report when the server's settings arrive or change.
        let now = connection.max_concurrent_send_streams();
        if std::mem::replace(&mut streams, now) != now {
            room.notify_one();
        }
        end
    }));
    tokio::select! {
        end = &mut end => end,
        reason = &mut unresponsive => {
            match reason {
                Unresponsive::Silent => debug!("server is silent, closing the connection"),
                Unresponsive::Stuck => debug!("server does not read, closing the connection"),
            }
            Ok(())
        }
        _ = users.changed() => tokio::time::timeout(CLOSE_TIMEOUT, end).await.unwrap_or(Ok(())),
    }
}
