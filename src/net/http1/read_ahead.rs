//! Reading while a response is written, to see that the peer has closed its side.
//!
//! hyper does not read then, so an endless response would keep its peer's place until something is
//! written to it. The bytes that arrive early, at most the next request, are kept for hyper.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, ReadBuf};

use crate::net::Socket;
use crate::net::transport::observed::{ObservedSocket, Observer};

/// How many bytes are read ahead. With more than that unread, the close is not seen.
const LIMIT: usize = 1024;

/// Reads ahead for hyper.
#[derive(Debug)]
pub(super) struct ReadAhead {
    bytes: BytesMut,
    /// The peer has closed its side, or the connection has failed.
    ended: bool,
    peer: Peer,
}

/// The peer of a connection, as far as a handler may know it.
#[derive(Debug, Clone)]
pub struct Peer(Arc<PeerState>);

#[derive(Debug, Default)]
struct PeerState {
    /// A byte has arrived since this was last cleared.
    heard: AtomicBool,
    /// A handler waits for the close, so the connection must read ahead.
    awaited: AtomicBool,
    closed: AtomicBool,
    waker: AtomicWaker,
}

/// A socket that reads ahead when a handler waits for [`Peer::closed`].
pub(super) fn read_ahead(socket: Socket) -> (ObservedSocket<ReadAhead>, Peer) {
    let peer = Peer(Arc::default());
    let observer = ReadAhead { bytes: BytesMut::new(), ended: false, peer: peer.clone() };
    (ObservedSocket { socket, observer }, peer)
}

impl Peer {
    /// Completes when the peer has closed its side of the connection. Either it is gone, which the
    /// next write shows, or it still reads. To be called while a response is being written.
    pub async fn closed(&self) {
        self.0.awaited.store(true, Ordering::Relaxed);
        poll_fn(|cx| {
            self.0.waker.register(cx.waker());
            if self.0.closed.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether a byte has arrived since the last call.
    pub(super) fn heard(&self) -> bool {
        self.0.heard.swap(false, Ordering::Relaxed)
    }
}

impl Observer for ReadAhead {
    fn poll_read(&mut self, socket: &mut Socket, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if !self.bytes.is_empty() {
            let count = self.bytes.len().min(buf.remaining());
            buf.put_slice(&self.bytes[..count]);
            self.bytes.advance(count);
        } else if !self.ended {
            ready!(Pin::new(socket).poll_read(cx, buf))?;
        }
        if buf.filled().len() > before {
            self.peer.0.heard.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    /// hyper flushes whenever it has written everything, also while it waits for more to write.
    fn before_flush(&mut self, socket: &mut Socket, cx: &mut Context<'_>) {
        if !self.peer.0.awaited.load(Ordering::Relaxed) {
            return;
        }
        while !self.ended && self.bytes.len() < LIMIT {
            let mut piece = [0; LIMIT];
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut *socket).poll_read(cx, &mut piece) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => self.bytes.extend_from_slice(piece.filled()),
                // A failed connection counts as closed.
                Poll::Ready(_) => {
                    self.ended = true;
                    self.peer.0.closed.store(true, Ordering::Relaxed);
                    self.peer.0.waker.wake();
                }
            }
            // If hyper waits for the socket meanwhile, it must look here instead.
            cx.waker().wake_by_ref();
        }
    }
}
