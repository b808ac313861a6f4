//! The first frame of an HTTP/2 server, by which a client knows that it has reached one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::net::Socket;
use crate::process::test_panic;

/// Bytes of a frame's head.
const HEAD: usize = 9;
/// The type of a SETTINGS frame, with which a server must begin (RFC 9113, 3.4).
const SETTINGS: u8 = 4;

/// A socket that tells when the server's first frame has begun. h2 does not say: its handshake is over
/// before anything has come, so any port that takes connections would do.
#[derive(Debug)]
pub(super) struct ServerPreface {
    socket: Socket,
    head: Vec<u8>,
    greeted: Option<oneshot::Sender<()>>,
}

impl ServerPreface {
    /// The socket, and what completes when the server has begun as one of HTTP/2 does. It fails when the
    /// socket is dropped before.
    pub(super) fn new(socket: Socket) -> (Self, oneshot::Receiver<()>) {
        let (greeted, greeting) = oneshot::channel();
        (Self { socket, head: Vec::with_capacity(HEAD), greeted: Some(greeted) }, greeting)
    }

    /// Looks at bytes that have come.
    fn look(&mut self, bytes: &[u8]) {
        if self.greeted.is_none() {
            return;
        }
        self.head.extend(bytes.iter().take(HEAD - self.head.len()));
        // Length, type, flags, and the stream, which is the connection itself. With another beginning the
        // connection fails, and says why.
        if let [_, _, _, kind, _, stream @ ..] = &self.head[..]
            && stream.len() == 4
            && let Some(greeted) = self.greeted.take()
            && *kind == SETTINGS
            && stream == [0; 4]
        {
            // It fails when nobody waits any more.
            let _ = greeted.send(());
        }
    }
}

impl AsyncRead for ServerPreface {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buf);
        this.look(&buf.filled()[before..]);
        read
    }
}

impl AsyncWrite for ServerPreface {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        test_panic("client socket");
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        test_panic("client socket");
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
