//! HTTP/2 over a connection to a server: what drives it, and what makes a call.

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

/// What the server may have in flight to us, per stream and in all. The defaults of 64 KiB make a busy
/// stream wait for its window, and a reader that falls behind in small frames is cut; this client always
/// drains its stream, so large windows cost it nothing.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes of an answer's headers, uncompressed.
const HEADERS: u32 = 16 * 1024;
/// How long a connection that nobody uses any more has to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// The calls over one connection. It closes when the last clone is dropped and its calls have ended.
#[derive(Debug, Clone)]
pub(super) struct Session {
    requests: SendRequest<Bytes>,
    gate: Arc<Gate>,
    liveness: Arc<Liveness>,
}

impl Session {
    /// Begins, and gives what drives the connection until it ends. It is to be spawned.
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
            .max_header_list_size(HEADERS)
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

    /// Why no call can leave, if that is so for longer than a moment.
    pub(super) fn backpressure(&self) -> Option<Backpressure> {
        self.gate.backpressure(&self.requests)
    }

    /// Why a call had to wait last.
    pub(super) fn last_backpressure(&self) -> Option<Backpressure> {
        self.gate.last()
    }

    /// Waits until a call may leave.
    pub(super) async fn enter(&self) -> Slot {
        self.gate.enter(&self.requests).await
    }

    /// Makes a call.
    ///
    /// # Errors
    /// If the connection takes no more: the call has not left.
    pub(super) fn call(&mut self, request: Request<Body>, slot: Slot) -> Result<PendingCall, h2::Error> {
        let (mut head, body) = request.into_parts();
        head.version = Version::HTTP_2;
        let end = body.is_end_stream();
        let (answer, stream) = self.requests.send_request(Request::from_parts(head, ()), end)?;
        let sending: Option<Sending> = (!end).then(|| Box::pin(body::send(body, stream)) as Sending);
        Ok(PendingCall { answer, sending, slot: Some(slot), liveness: Arc::clone(&self.liveness) })
    }
}

/// A call that has been made. Dropped before its end, it is cancelled.
pub(super) struct PendingCall {
    answer: ResponseFuture,
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
        let answer = ready!(Pin::new(&mut call.answer).poll(cx))?;
        call.liveness.answered();
        let (sending, slot) = (call.sending.take(), call.slot.take());
        Poll::Ready(Ok(answer.map(|stream| ResponseBody::new(stream, sending, slot))))
    }
}

/// Drives the connection until it ends, its server is gone, or nobody uses it.
async fn drive(
    mut connection: h2::client::Connection<ObservedSocket<ServerPreface>, Bytes>,
    activity: Activity,
    mut users: watch::Receiver<()>,
    room: Arc<Notify>,
    liveness: Arc<Liveness>,
) -> Result<(), h2::Error> {
    let mut gone = pin!(liveness.ends(connection.ping_pong(), activity));
    let mut streams = UNKNOWN_STREAMS;
    let mut end = pin!(poll_fn(move |cx| {
        let end = Pin::new(&mut connection).poll(cx);
        // h2 tells nobody when the server's settings have come, or change.
        let now = connection.max_concurrent_send_streams();
        if std::mem::replace(&mut streams, now) != now {
            room.notify_one();
        }
        end
    }));
    tokio::select! {
        end = &mut end => end,
        gone = &mut gone => {
            match gone {
                Unresponsive::Silent => debug!("the server is silent"),
                Unresponsive::Stuck => debug!("the server takes nothing"),
            }
            Ok(())
        }
        _ = users.changed() => tokio::time::timeout(GOODBYE, end).await.unwrap_or(Ok(())),
    }
}
