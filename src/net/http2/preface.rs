//! The connection preface of an HTTP/2 server, by which a client knows that it has reached one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;

use crate::net::Socket;
use crate::net::transport::observed::{ObservedSocket, Observer};
use crate::process::test_panic;

/// The length of a frame's header.
const FRAME_HEADER: usize = 9;
/// The type of a SETTINGS frame, which is a server's first frame (RFC 9113, 3.4).
const SETTINGS: u8 = 4;

/// Waits for the header of the server's first frame. h2 does not report it: its handshake completes
/// before a byte has arrived, so any port that accepts connections would do.
#[derive(Debug)]
pub(super) struct ServerPreface {
    header: Vec<u8>,
    received: Option<oneshot::Sender<()>>,
}

impl ServerPreface {
    /// A socket that reports the server's preface. The receiver fails if the socket is dropped
    /// before.
    pub(super) fn watch(socket: Socket) -> (ObservedSocket<Self>, oneshot::Receiver<()>) {
        let (received, preface) = oneshot::channel();
        let observer = Self { header: Vec::with_capacity(FRAME_HEADER), received: Some(received) };
        (ObservedSocket { socket, observer }, preface)
    }

    fn look(&mut self, bytes: &[u8]) {
        if self.received.is_none() {
            return;
        }
        self.header.extend(bytes.iter().take(FRAME_HEADER - self.header.len()));
        // The header is length, type, flags and stream, which is 0 for the connection itself. Any
        // other first frame makes h2 fail, which reports the reason.
        if let [_, _, _, kind, _, stream @ ..] = &self.header[..]
            && stream.len() == 4
            && let Some(received) = self.received.take()
            && *kind == SETTINGS
            && stream == [0; 4]
        {
            // Fails only if nobody waits any more.
            let _ = received.send(());
        }
    }
}

impl Observer for ServerPreface {
    fn poll_read(&mut self, socket: &mut Socket, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(socket).poll_read(cx, buf);
        self.look(&buf.filled()[before..]);
        read
    }

    fn before_write(&mut self) {
        test_panic("client socket");
    }
}
