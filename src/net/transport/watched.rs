//! A TCP stream that can be watched while a library owns it.
//!
//! It watches below TLS. Any byte that arrives shows that the peer is there, and a write is pending
//! only while the kernel takes no more bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

/// The stream, which keeps its watchers up to date.
#[derive(Debug)]
pub struct WatchedTcp {
    stream: TcpStream,
    state: Arc<TcpState>,
    // Its receivers see when it is dropped.
    _open: watch::Sender<()>,
}

/// Whether the peer sends and reads.
#[derive(Debug)]
pub struct Activity(Arc<TcpState>);

/// Whether the kernel takes what is written.
#[derive(Debug)]
pub struct WriteState(Arc<TcpState>);

/// Tells when the socket is closed on our side.
#[derive(Debug, Clone)]
pub struct CloseSignal(watch::Receiver<()>);

#[derive(Debug, Default)]
struct TcpState {
    /// A byte has arrived.
    heard: AtomicBool,
    /// A write is pending, because the kernel takes no more.
    blocked: AtomicBool,
    /// Whether a write has succeeded, or none was pending, since the last call of
    /// [`Activity::is_stuck`].
    progressed: AtomicBool,
    /// A write was pending and is no longer.
    unblocked: Notify,
}

impl WatchedTcp {
    /// Takes the stream, and returns it with its watchers.
    #[must_use]
    pub fn new(stream: TcpStream) -> (Self, Activity, CloseSignal) {
        let state = Arc::<TcpState>::default();
        let (open, closed) = watch::channel(());
        (Self { stream, state: Arc::clone(&state), _open: open }, Activity(state), CloseSignal(closed))
    }

    fn note_write<T>(&self, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let (blocked, was_blocked) = (write.is_pending(), self.state.blocked.load(Ordering::Relaxed));
        if !(blocked && was_blocked) {
            self.state.progressed.store(true, Ordering::Relaxed);
        }
        if blocked != was_blocked {
            self.state.blocked.store(blocked, Ordering::Relaxed);
            if !blocked {
                self.state.unblocked.notify_one();
            }
        }
        write
    }
}

impl Activity {
    /// A view of the same stream that shows whether more can be written.
    #[must_use]
    pub fn write_state(&self) -> WriteState {
        WriteState(Arc::clone(&self.0))
    }

    /// Whether a byte has arrived since the last call.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.0.heard.swap(false, Ordering::Relaxed)
    }

    /// Whether a write was pending since the last call, without any progress.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let progressed = self.0.progressed.swap(false, Ordering::Relaxed);
        !progressed && self.0.blocked.load(Ordering::Relaxed)
    }

    /// Completes when a write was pending for `limit` without any progress, at the latest after
    /// twice that time.
    pub async fn stuck(&self, limit: Duration) {
        loop {
            tokio::time::sleep(limit).await;
            if self.is_stuck() {
                return;
            }
        }
    }
}

impl WriteState {
    /// Whether a write is pending, because the kernel takes no more.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.0.blocked.load(Ordering::Relaxed)
    }

    /// Completes when a write is no longer pending. Only one task may wait for it.
    pub async fn unblocked(&self) {
        self.0.unblocked.notified().await;
    }
}

impl CloseSignal {
    /// Completes when the socket is closed on our side: nothing more will arrive.
    pub async fn closed(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl AsyncRead for WatchedTcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let watched = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut watched.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            watched.state.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for WatchedTcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let watched = self.get_mut();
        let write = Pin::new(&mut watched.stream).poll_write(cx, bytes);
        watched.note_write(write)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let watched = self.get_mut();
        let write = Pin::new(&mut watched.stream).poll_write_vectored(cx, slices);
        watched.note_write(write)
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
