//! One connection: a task that has all of its calls in it.

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

use crate::net::tls::Acceptor;
use crate::net::{self, ConnectionError, Drain};
use crate::process::{catch_panic, test_panic};
use crate::server::grpc::read_messages::Reading;
use crate::server::grpc::router::Messenger;
use crate::server::http2::keepalive;
use crate::server::http2::wakers::turns;

/// What a peer may have in flight to us, per stream and in all: enough for many senders at once over a slow network.
const RECEIVE_WINDOW: u32 = 1024 * 1024;
/// Bytes of a request's headers, uncompressed.
const HEADERS: u32 = 16 * 1024;
/// Calls that a peer may cancel in one breath, before they were looked at. More look like the "rapid reset" attack, and end the
/// connection; h2's own bound of 20 is reached by a proxy whose one client with that many calls goes away.
const CANCELLED_AT_ONCE: usize = 1000;
/// Calls that have ended before all of their request had come (refused, or cancelled) and whose late frames are still known for what they
/// are, for a second. What comes for others counts as a mistake of the peer ...
const ENDED_EARLY: usize = 1000;
/// ... of which it may make so many before the connection ends, in all its life. With h2's own bound of 1024 a hub that sends a hundred
/// messages which are too long loses the connection, with all its readers.
const MISTAKES: usize = 100_000;
/// Bytes of memory that DATA frames may take besides what is in them, from when they are read to when their calls are: h2 counts 256 for
/// each short one, and ends the connection over this. All that has come is read before the calls have their turn, so this is how many
/// short calls may arrive in one breath: about 65,000. With h2's own bound, half of the window, a client with 2,200 sends under way was
/// cut off whenever we were busy for a moment, with all of its calls.
const UNREAD_FRAMES: usize = 16 * 1024 * 1024;
/// Bytes that wait in one stream for its reader's flow control before the room is asked for more: at most two slices of the room's log,
/// each up to 64 KiB or one larger message.
const SEND_BUFFER: usize = 64 * 1024;

/// What runs on a connection. Readers are many and stay, so each is in here as it is; all else is in a box, or a reader would be as large
/// as the largest of them.
enum Running {
    Reader(Reading),
    Other(Pin<Box<dyn Future<Output = Event> + Send>>),
}

enum Event {
    CallEnded,
    /// Only that call is over.
    CallPanicked,
    ReaderOpened(Reading),
    DrainBegun,
    PeerGone(ConnectionError),
}

/// Serves every call that comes over `stream`, until the peer goes or, once the drain has begun, until the last call has ended.
///
/// It has at most `calls` calls at once; a caller with more waits with them, as HTTP/2 has it.
pub(crate) async fn serve(
    stream: TcpStream,
    tls: Option<Arc<Acceptor>>,
    messenger: Messenger,
    calls: u32,
    mut drain: Drain,
) -> Result<(), ConnectionError> {
    let http2 = |socket| async move {
        // Before the first frame to the peer.
        let connected = Instant::now();
        Ok((settings(calls).handshake::<_, Bytes>(socket).await?, connected))
    };
    let Some(((mut http2, connected), activity)) = net::handshake(stream, tls, &mut drain, http2).await? else {
        return Ok(());
    };

    // Each in it is polled only when it was woken itself, however many there are.
    let mut running = FuturesUnordered::new();
    let silence = keepalive::detect(http2.ping_pong(), activity);
    running.push(Running::new(silence.map(Event::PeerGone)));
    running.push(Running::new(async move {
        drain.begun().await;
        Event::DrainBegun
    }));

    let (turns, calls_side, http2_side) = turns();
    let mut turn = || {
        if calls_side.is_due() {
            while let Poll::Ready(Some(event)) = running.poll_next_unpin(&mut calls_side.context()) {
                match event {
                    Event::CallEnded => {}
                    // If it has left the room half changed, this ends the program.
                    Event::CallPanicked => drop(messenger.kept()),
                    Event::ReaderOpened(reading) => running.push(Running::Reader(reading)),
                    Event::DrainBegun => {
                        http2.graceful_shutdown();
                        http2_side.wake();
                    }
                    Event::PeerGone(error) => return Poll::Ready(Err(error)),
                }
            }
        }
        // After the calls: what all of them have to say leaves in one write.
        if http2_side.is_due() {
            while let Poll::Ready(accepted) = http2.poll_accept(&mut http2_side.context()) {
                let Some((request, respond)) = accepted.transpose()? else { return Poll::Ready(Ok(())) };
                test_panic("connection");
                running.push(Running::new(call(messenger.clone(), connected, request, respond)));
                calls_side.wake();
            }
        }
        Poll::Pending
    };
    poll_fn(|cx| turns.poll(cx, &mut turn, [&calls_side, &http2_side])).await
}

/// One call, or what goes on of it. If it panics its caller is told so, and all others of the connection go on.
async fn call(
    messenger: Messenger,
    connected: Instant,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Event {
    if let Some(reading) = catch_panic(messenger.call(connected, request, &mut respond)).await {
        return reading.map_or(Event::CallEnded, Event::ReaderOpened);
    }
    // gRPC's INTERNAL, whether the headers have left or not.
    respond.send_reset(Reason::INTERNAL_ERROR);
    Event::CallPanicked
}

impl Running {
    fn new(other: impl Future<Output = Event> + Send + 'static) -> Self {
        Self::Other(Box::pin(other))
    }
}

impl Future for Running {
    type Output = Event;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        match self.get_mut() {
            Self::Reader(reading) => {
                let Ok(polled) = catch_unwind(AssertUnwindSafe(|| reading.poll_send(cx))) else {
                    reading.reset();
                    return Poll::Ready(Event::CallPanicked);
                };
                polled.map(|()| Event::CallEnded)
            }
            Self::Other(other) => other.as_mut().poll(cx),
        }
    }
}

fn settings(calls: u32) -> server::Builder {
    let mut settings = server::Builder::new();
    settings
        .initial_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .max_concurrent_streams(calls)
        .max_header_list_size(HEADERS)
        .max_pending_accept_reset_streams(CANCELLED_AT_ONCE)
        .max_concurrent_reset_streams(ENDED_EARLY)
        .max_local_error_reset_streams(Some(MISTAKES))
        .data_frame_budget(UNREAD_FRAMES)
        .max_send_buffer_size(SEND_BUFFER);
    settings
}
