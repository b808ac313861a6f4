//! A TCP stream that can be watched while a library owns it, in the clear or under TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

/// The stream, and what those who watch it see.
#[derive(Debug)]
pub struct WatchedTcp {
    stream: TcpStream,
    signs: Arc<Signals>,
    // Its receivers see when it is dropped.
    _open: watch::Sender<()>,
}

/// Whether the peer gives and takes.
#[derive(Debug)]
pub struct Activity(Arc<Signals>);

#[derive(Debug, Default)]
struct Signals {
    /// Something has come.
    heard: AtomicBool,
    /// There is something to write that the kernel does not take ...
    stuck: AtomicBool,
    /// ... and it had taken some since somebody looked, or there was nothing.
    moved: AtomicBool,
    /// The kernel takes again what it did not take.
    freed: Notify,
}

/// Whether the kernel takes what is written.
#[derive(Debug)]
pub struct WriteState(Arc<Signals>);

/// Whether the socket is still there.
#[derive(Debug, Clone)]
pub struct CloseSignal(watch::Receiver<()>);

impl WatchedTcp {
    /// Takes the stream, and gives what there is to watch it by. That is below TLS: any byte that comes shows that the peer is there, and
    /// what it takes is what the kernel can send.
    #[must_use]
    pub fn new(stream: TcpStream) -> (Self, Activity, CloseSignal) {
        let signs = Arc::<Signals>::default();
        let (open, lifetime) = watch::channel(());
        (Self { stream, signs: Arc::clone(&signs), _open: open }, Activity(signs), CloseSignal(lifetime))
    }

    fn note_write<T>(&self, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let stuck = write.is_pending();
        if !stuck || !self.signs.stuck.load(Ordering::Relaxed) {
            self.signs.moved.store(true, Ordering::Relaxed);
        }
        if self.signs.stuck.load(Ordering::Relaxed) != stuck {
            self.signs.stuck.store(stuck, Ordering::Relaxed);
            if !stuck {
                self.signs.freed.notify_one();
            }
        }
        write
    }
}

impl Activity {
    /// What shows whether more can be written.
    #[must_use]
    pub fn outlet(&self) -> WriteState {
        WriteState(Arc::clone(&self.0))
    }

    /// Whether anything has come since this was last asked.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.0.heard.swap(false, Ordering::Relaxed)
    }

    /// Whether there was something to write all the time since this was last asked, and the peer took nothing of it.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let moved = self.0.moved.swap(false, Ordering::Relaxed);
        !moved && self.0.stuck.load(Ordering::Relaxed)
    }
}

impl WriteState {
    /// Whether there is something to write that the kernel does not take now.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.0.stuck.load(Ordering::Relaxed)
    }

    /// Completes when the kernel takes again what it did not take. For one that waits.
    pub async fn freed(&self) {
        self.0.freed.notified().await;
    }
}

impl CloseSignal {
    /// Completes when the socket is closed on our side: nothing more will come.
    pub async fn ended(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl AsyncRead for WatchedTcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut wire.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            wire.signs.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for WatchedTcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        let write = Pin::new(&mut wire.stream).poll_write(cx, bytes);
        wire.note_write(write)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        let write = Pin::new(&mut wire.stream).poll_write_vectored(cx, slices);
        wire.note_write(write)
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
