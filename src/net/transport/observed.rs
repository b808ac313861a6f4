//! A socket with an observer of its traffic.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;

/// Observes the traffic of a socket, and may change the bytes that are read.
pub(crate) trait Observer {
    /// Reads from the socket into `buf`.
    fn poll_read(&mut self, socket: &mut Socket, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Called before each write.
    fn before_write(&mut self) {}

    /// Called before each flush.
    fn before_flush(&mut self, _socket: &mut Socket, _cx: &mut Context<'_>) {}
}

/// The socket, as an HTTP library reads and writes it.
#[derive(Debug)]
pub(crate) struct ObservedSocket<O> {
    pub(crate) socket: Socket,
    pub(crate) observer: O,
}

impl<O: Observer + Unpin> AsyncRead for ObservedSocket<O> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { socket, observer } = self.get_mut();
        observer.poll_read(socket, cx, buf)
    }
}

impl<O: Observer + Unpin> AsyncWrite for ObservedSocket<O> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { socket, observer } = self.get_mut();
        observer.before_write();
        Pin::new(socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { socket, observer } = self.get_mut();
        observer.before_write();
        Pin::new(socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, observer } = self.get_mut();
        observer.before_flush(socket, cx);
        Pin::new(socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
