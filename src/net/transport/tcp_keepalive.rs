//! Detects peers that vanish without closing their connections: a machine that loses power, a
//! network that fails, a NAT that forgets. By default the kernel probes after two hours of silence,
//! and retransmits for a quarter of an hour. All that time the connection of the peer counts
//! against the limit.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// The time after which the kernel closes the connection of a silent peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepalivePolicy {
    /// How long the peer may be silent before the first probe.
    pub(crate) idle: Duration,
    /// The time between probes.
    pub(crate) interval: Duration,
    /// How many probes may stay unanswered. Windows has a fixed number.
    #[cfg_attr(windows, allow(dead_code))]
    pub(crate) probes: u32,
    /// How long sent data and probes may stay unacknowledged, on systems that have such a timeout.
    /// It also covers a peer that acknowledges probes but has no room for data.
    #[cfg_attr(not(any(target_os = "android", target_os = "linux")), allow(dead_code))]
    pub(crate) unacknowledged: Duration,
}

impl KeepalivePolicy {
    /// For accepted connections: a peer that vanishes is detected within 90 s. The last 60 s bridge
    /// a short network outage, such as a phone that changes its cell.
    pub(crate) const ACCEPTED: Self = Self {
        idle: Duration::from_secs(30),
        interval: Duration::from_secs(10),
        probes: 6,
        unacknowledged: Duration::from_mins(1),
    };

    /// Lets the kernel close this connection when the peer is gone.
    ///
    /// # Errors
    /// If the connection is closed already.
    pub(crate) fn apply(self, stream: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        let keepalive = TcpKeepalive::new().with_time(self.idle).with_interval(self.interval);
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
            let KeepalivePolicy { idle, interval, probes, unacknowledged } = KeepalivePolicy::ACCEPTED;
            assert_eq!(socket.tcp_keepalive_time().expect("the option"), idle);
            assert_eq!(socket.tcp_keepalive_interval().expect("the option"), interval);
            assert_eq!(socket.tcp_keepalive_retries().expect("the option"), probes);
            assert_eq!(socket.tcp_user_timeout().expect("the option"), Some(unacknowledged));
        }
    }
}
