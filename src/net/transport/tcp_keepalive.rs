//! Finding peers that vanish without a word: a machine that is switched off, a network that is gone, a
//! NAT that forgets. Without this the kernel asks after two hours of silence, and sends what nobody
//! acknowledges again for a quarter of an hour; all that time the peer has its place.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How the kernel finds out that the other end of a connection is gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepalivePolicy {
    /// How long nothing may come before it asks, and then how often.
    pub(crate) silent: Duration,
    pub(crate) probe: Duration,
    /// How many of its questions may stay unanswered. Windows has a number of its own; older ones, and
    /// Wine, take no other.
    pub(crate) probes: u32,
    /// How long what was sent may be unacknowledged, questions included, where the system has such a time.
    /// This covers a peer that acknowledges, but takes nothing, too.
    pub(crate) unacknowledged: Duration,
}

impl KeepalivePolicy {
    /// For accepted connections: a peer that vanishes is found within 90 s, on each port, whatever the
    /// connection was at. 60 s is longer than a network is away for a moment, such as while a telephone
    /// changes its cell. The interfaces themselves end a connection that takes nothing a little earlier,
    /// where they have something to write to it (docs/limits.md).
    pub(crate) const ACCEPTED: Self = Self {
        silent: Duration::from_secs(30),
        probe: Duration::from_secs(10),
        probes: 6,
        unacknowledged: Duration::from_mins(1),
    };

    /// Lets the kernel end this connection when the other end is gone.
    ///
    /// # Errors
    /// If the connection has gone already.
    pub(crate) fn watch(self, stream: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        let keepalive = TcpKeepalive::new().with_time(self.silent).with_interval(self.probe);
        #[cfg(not(any(target_os = "openbsd", target_os = "redox", target_os = "solaris", windows)))]
        let keepalive = keepalive.with_retries(self.probes);
        socket.set_tcp_keepalive(&keepalive)?;
        #[cfg(any(target_os = "android", target_os = "linux"))]
        socket.set_tcp_user_timeout(Some(self.unacknowledged))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::net::{ConnectionLimits, ConnectionMetrics, serve_connections};

    #[tokio::test]
    async fn each_accepted_connection_is_watched() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (accepted, mut connections) = mpsc::unbounded_channel();
        let limits = ConnectionLimits { connections: 1, drain: Duration::ZERO };
        tokio::spawn(serve_connections(
            listener,
            pending(),
            limits,
            ConnectionMetrics::default(),
            || {},
            move |stream, _| {
                let _ = accepted.send(stream);
                async {}
            },
        ));
        let _peer = TcpStream::connect(address).await.expect("a connection");
        let stream = connections.recv().await.expect("a connection");
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("the option"));
        #[cfg(target_os = "linux")]
        {
            let KeepalivePolicy { silent, probe, probes, unacknowledged } = KeepalivePolicy::ACCEPTED;
            assert_eq!(socket.tcp_keepalive_time().expect("the option"), silent);
            assert_eq!(socket.tcp_keepalive_interval().expect("the option"), probe);
            assert_eq!(socket.tcp_keepalive_retries().expect("the option"), probes);
            assert_eq!(socket.tcp_user_timeout().expect("the option"), Some(unacknowledged));
        }
    }
}
