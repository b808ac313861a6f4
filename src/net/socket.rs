//! A TCP stream that can be watched while a library owns it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// The stream, as HTTP/2 reads and writes it.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    heard: Arc<AtomicBool>,
    // Its receivers see when it is dropped.
    _open: watch::Sender<()>,
}

/// Whether something has come.
#[derive(Debug)]
pub struct Pulse(Arc<AtomicBool>);

/// Whether the socket is still there.
#[derive(Debug, Clone)]
pub struct Lifetime(watch::Receiver<()>);

impl Socket {
    /// Takes the stream, and gives what there is to watch it by.
    #[must_use]
    pub fn new(stream: TcpStream) -> (Self, Pulse, Lifetime) {
        let heard = Arc::<AtomicBool>::default();
        let (open, lifetime) = watch::channel(());
        (Self { stream, heard: Arc::clone(&heard), _open: open }, Pulse(heard), Lifetime(lifetime))
    }
}

impl Pulse {
    /// Whether anything has come since this was last asked.
    #[must_use]
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Lifetime {
    /// Completes when the socket is closed on our side: nothing more will come.
    pub async fn ended(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut socket.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            socket.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
