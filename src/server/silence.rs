//! Noticing that a peer is gone without a word.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection on which nothing has come for this long is pinged ...
const INTERVAL: Duration = Duration::from_secs(25);
/// ... and over if nothing comes for this long after it. Without that a reader whose machine has vanished would stay for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether anything has come since this was last asked.
pub(super) type Heard = Arc<AtomicBool>;

/// A socket that notes when it has brought something: any byte shows that the peer is there, also one that is too far behind to have
/// seen the ping.
#[derive(Debug)]
pub(super) struct Listening {
    stream: TcpStream,
    heard: Heard,
}

impl Listening {
    pub(super) fn new(stream: TcpStream) -> (Self, Heard) {
        let heard = Heard::default();
        (Self { stream, heard: Arc::clone(&heard) }, heard)
    }
}

/// Completes when the peer is gone.
pub(super) async fn detect(pings: Option<PingPong>, heard: Heard) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        tokio::time::sleep(INTERVAL).await;
        if heard.swap(false, Ordering::Relaxed) {
            continue;
        }
        // It fails while the last one is unanswered (then the peer has said something else), or when the connection is ending.
        let _ = pings.send_ping(Ping::opaque());
        let answer = tokio::time::timeout(PATIENCE, poll_fn(|cx| pings.poll_pong(cx))).await;
        if answer.is_err() && !heard.load(Ordering::Relaxed) {
            return;
        }
    }
}

impl AsyncRead for Listening {
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

impl AsyncWrite for Listening {
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
