//! Reading while an answer is written, to see that the peer has closed its side.
//!
//! hyper does not read then, and an answer that has no end would have its peer's place until something
//! is written to it. What comes is kept for hyper, and is little: the next request.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Socket;

/// Bytes that are read ahead. With more than that unread, the close is not seen.
const LIMIT: usize = 1024;

/// The socket, as hyper has it.
pub(super) struct ReadAhead {
    socket: Socket,
    read: BytesMut,
    /// Nothing more will come.
    ended: bool,
    peer: Peer,
}

/// What is known of the peer of a connection.
#[derive(Debug, Clone)]
pub struct Peer(Arc<PeerState>);

#[derive(Debug, Default)]
struct PeerState {
    /// A byte has come since this was last cleared.
    heard: AtomicBool,
    /// Somebody wants to know of the close.
    asked: AtomicBool,
    closed: AtomicBool,
    waker: AtomicWaker,
}

impl ReadAhead {
    pub(super) fn new(socket: Socket) -> (Self, Peer) {
        let peer = Peer(Arc::default());
        (Self { socket, read: BytesMut::new(), ended: false, peer: peer.clone() }, peer)
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        while !self.ended && self.read.len() < LIMIT {
            let mut piece = [0; LIMIT];
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.socket).poll_read(cx, &mut piece) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => self.read.extend_from_slice(piece.filled()),
                // A connection that is broken has nothing more to say either.
                Poll::Ready(_) => {
                    self.ended = true;
                    self.peer.0.closed.store(true, Ordering::Relaxed);
                    self.peer.0.waker.wake();
                }
            }
            // If hyper has begun to read meanwhile, it waits for the socket, which has nothing now.
            cx.waker().wake_by_ref();
        }
    }
}

impl Peer {
    /// Completes when the peer has closed its side of the connection. Either it is gone, which shows when
    /// something is written to it, or it still reads. To be asked for while an answer is on its way.
    pub async fn closed(&self) {
        self.0.asked.store(true, Ordering::Relaxed);
        poll_fn(|cx| {
            self.0.waker.register(cx.waker());
            if self.0.closed.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether anything has come since this was last asked.
    pub(super) fn heard(&self) -> bool {
        self.0.heard.swap(false, Ordering::Relaxed)
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let ahead = self.get_mut();
        let before = buf.filled().len();
        if !ahead.read.is_empty() {
            let count = ahead.read.len().min(buf.remaining());
            buf.put_slice(&ahead.read[..count]);
            ahead.read.advance(count);
        } else if !ahead.ended {
            ready!(Pin::new(&mut ahead.socket).poll_read(cx, buf))?;
        }
        if buf.filled().len() > before {
            ahead.peer.0.heard.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// hyper calls this whenever it has written all that there is, also while it waits for more to write.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ahead = self.get_mut();
        if ahead.peer.0.asked.load(Ordering::Relaxed) {
            ahead.read_ahead(cx);
        }
        Pin::new(&mut ahead.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
