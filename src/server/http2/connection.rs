//! One connection: a task that runs all of its calls.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{keepalive, wakers};
use crate::net::tls::Acceptor;
use crate::net::{self, ConnectionError, Drain};
use crate::process::{catch_panic, test_panic};
use crate::server::grpc::read_messages::MessageStream;
use crate::server::grpc::router::{CallOutcome, Router};

/// How many bytes a peer may have in flight to the server, per stream and in total: enough for many
/// senders over a slow network.
const RECEIVE_WINDOW: u32 = 1024 * 1024;
/// The largest headers of a request, in uncompressed bytes.
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// How many calls a peer may cancel before the server looks at them. More than that looks like the
/// "rapid reset" attack and ends the connection. h2's default of 20 is too low for a proxy whose
/// client leaves with that many calls open.
const MAX_CANCELLED_CALLS: usize = 1000;
/// How many calls h2 remembers, each for a second, after they ended before their request was
/// complete. It ignores late frames of these calls. A late frame of any other call is an error of
/// the peer.
const MAX_ENDED_EARLY: usize = 1000;
/// How many errors of the peer a connection survives. h2's default of 1024 is too low for a proxy
/// that sends a hundred messages over the size limit: it would lose the connection, with all its
/// readers.
const MAX_PEER_ERRORS: usize = 100_000;
/// Memory for the overhead of DATA frames that h2 has read and the calls have not. h2 counts 256
/// bytes for each short frame, and ends the connection at this bound. h2 reads everything that has
/// arrived before the calls are polled, so this bound allows about 65,000 short calls at once. With
/// h2's default, half of the window, a client with 2,200 open sends was cut off when the server was
/// busy for a moment.
const UNREAD_FRAME_BUDGET: usize = 16 * 1024 * 1024;
/// Bytes that wait in one stream for its reader's flow control. Above this the stream takes nothing
/// more from the room. It then holds at most two slices of the room's log, each up to 64 KiB or one
/// larger message.
const SEND_BUFFER: usize = 64 * 1024;

/// A future that runs on a connection. Message streams are many and long-lived, so they are stored
/// by value. The others are boxed, or each stream would take as much memory as the largest of them.
enum ConnectionFuture {
    Stream(MessageStream),
    Boxed(Pin<Box<dyn Future<Output = Event> + Send>>),
}

enum Event {
    CallEnded,
    CallPanicked,
    StreamOpened(MessageStream),
    DrainBegun,
    PeerDead(ConnectionError),
}

/// Serves all calls of one connection, until the peer closes it or, during a drain, until the last
/// call ends.
///
/// A peer may have up to `max_calls` calls open. With more, HTTP/2 makes it wait.
pub(in crate::server) async fn serve(
    stream: TcpStream,
    tls: Option<Arc<Acceptor>>,
    router: Router,
    max_calls: u32,
    mut drain: Drain,
) -> Result<(), ConnectionError> {
    let http2 = |socket| async move {
        // Taken before the server's first frame leaves.
        let connected = Instant::now();
        Ok((http2_settings(max_calls).handshake::<_, Bytes>(socket).await?, connected))
    };
    let Some(((mut http2, connected), activity)) = net::handshake(stream, tls, &mut drain, http2).await? else {
        return Ok(());
    };

    // This polls only the futures in it that were woken.
    let mut running = FuturesUnordered::new();
    let keepalive = keepalive::watch(http2.ping_pong(), activity);
    running.push(ConnectionFuture::boxed(keepalive.map(Event::PeerDead)));
    running.push(ConnectionFuture::boxed(async move {
        drain.begun().await;
        Event::DrainBegun
    }));

    let (scheduler, calls_half, http2_half) = wakers::split();
    let mut pass = || {
        if calls_half.take_woken() {
            while let Poll::Ready(Some(event)) = running.poll_next_unpin(&mut calls_half.context()) {
                match event {
                    Event::CallEnded => {}
                    Event::CallPanicked => router.check_room(),
                    Event::StreamOpened(stream) => running.push(ConnectionFuture::Stream(stream)),
                    Event::DrainBegun => {
                        http2.graceful_shutdown();
                        http2_half.wake();
                    }
                    Event::PeerDead(error) => return Poll::Ready(Err(error)),
                }
            }
        }
        // Polled after the calls, so that the frames of all calls leave in one write.
        if http2_half.take_woken() {
            while let Poll::Ready(accepted) = http2.poll_accept(&mut http2_half.context()) {
                let Some((request, respond)) = accepted.transpose()? else { return Poll::Ready(Ok(())) };
                test_panic("connection");
                running.push(ConnectionFuture::boxed(call(router.clone(), connected, request, respond)));
                calls_half.wake();
            }
        }
        Poll::Pending
    };
    poll_fn(|cx| scheduler.poll(cx, &mut pass, [&calls_half, &http2_half])).await
}

/// Runs one call, up to the headers of its response if it opens a stream. A panic resets this call
/// only.
async fn call(
    router: Router,
    connected: Instant,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Event {
    match catch_panic(router.call(connected, request, &mut respond)).await {
        Some(CallOutcome::Ended) => Event::CallEnded,
        Some(CallOutcome::Streams(stream)) => Event::StreamOpened(stream),
        None => {
            // gRPC's INTERNAL, whether the headers have left or not.
            respond.send_reset(Reason::INTERNAL_ERROR);
            Event::CallPanicked
        }
    }
}

impl ConnectionFuture {
    fn boxed(future: impl Future<Output = Event> + Send + 'static) -> Self {
        Self::Boxed(Box::pin(future))
    }
}

impl Future for ConnectionFuture {
    type Output = Event;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        match self.get_mut() {
            Self::Stream(stream) => {
                let Ok(polled) = catch_unwind(AssertUnwindSafe(|| stream.poll_send(cx))) else {
                    stream.reset();
                    return Poll::Ready(Event::CallPanicked);
                };
                polled.map(|()| Event::CallEnded)
            }
            Self::Boxed(future) => future.as_mut().poll(cx),
        }
    }
}

fn http2_settings(max_calls: u32) -> server::Builder {
    let mut settings = server::Builder::new();
    settings
        .initial_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .max_concurrent_streams(max_calls)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(MAX_CANCELLED_CALLS)
        .max_concurrent_reset_streams(MAX_ENDED_EARLY)
        .max_local_error_reset_streams(Some(MAX_PEER_ERRORS))
        .data_frame_budget(UNREAD_FRAME_BUDGET)
        .max_send_buffer_size(SEND_BUFFER);
    settings
}
