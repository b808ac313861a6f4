//! Accepts, serves and drains the connections of a listener.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::net::KeepalivePolicy;

/// The pause after a failed accept. The usual cause is that no file descriptor is left, and then
/// the next attempt fails too until a connection closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Tells a connection when to finish.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<bool>);

impl Drain {
    /// Completes when the drain begins: from then on a connection takes no further request, and
    /// closes when the running ones have ended.
    pub async fn begun(&mut self) {
        // An error means that the listener is gone, which ends its connections too.
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}

/// How many connections a port takes, and how long they may take to end.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at once. A connection above the limit is closed as soon as it is accepted;
    /// otherwise it would wait for another one to end, without knowing why.
    pub connections: usize,
    /// The time that connections get to end after the shutdown.
    pub drain: Duration,
}

/// The metrics of a port. Clones share their counters.
#[derive(Debug, Clone, Default)]
pub struct ConnectionMetrics {
    open: Gauge,
    accepted: Counter,
    refused: Counter,
}

impl ConnectionMetrics {
    /// Registers the metrics, with names that begin with `prefix`.
    pub fn register(&self, registry: &mut Registry, prefix: &str) {
        let name = |name| format!("{prefix}_{name}");
        registry.register(name("connections"), "Open connections", self.open.clone());
        registry.register(name("connections_accepted"), "Connections that were accepted", self.accepted.clone());
        registry.register(name("connections_refused"), "Connections above the limit", self.refused.clone());
    }
}

/// Serves the connections of `listener`, each in its own task, until `shutdown` completes. Then the
/// port closes, `begin_drain` is called, and the connections get until the drain limit to finish.
/// Those that have not finished by then are dropped.
///
/// `serve` gets a connection and the [`Drain`] that it must obey.
pub async fn serve_connections<F>(
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    limits: ConnectionLimits,
    metrics: ConnectionMetrics,
    begin_drain: impl FnOnce(),
    serve: impl Fn(TcpStream, Drain) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let draining = watch::Sender::new(false);
    let mut connections = JoinSet::new();
    let mut listener = RetryingListener { listener, next_try: Instant::now(), failing: false };
    let mut full = false;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            stream = listener.accept() => {
                let was_full = std::mem::replace(&mut full, connections.len() >= limits.connections);
                if full {
                    metrics.refused.inc();
                    if !was_full {
                        warn!(limit = limits.connections, "too many connections, closing new ones");
                    }
                    continue;
                }
                connections.spawn(serve(stream, Drain(draining.subscribe())));
                metrics.accepted.inc();
            }
            // Finished connections leave the set at once, or it would grow without bound. A panic
            // is logged and counted where it happens.
            Some(_) = connections.join_next() => {}
        }
        metrics.open.set(i64::try_from(connections.len()).unwrap_or(i64::MAX));
    }
    drop(listener);
    begin_drain();
    draining.send_replace(true);
    let deadline = limits.drain;
    if tokio::time::timeout(deadline, async { while connections.join_next().await.is_some() {} }).await.is_err() {
        warn!(connections = connections.len(), ?deadline, "drain deadline reached, dropping connections");
    }
    connections.shutdown().await;
}

/// A listener that pauses after a failed accept.
struct RetryingListener {
    listener: TcpListener,
    /// Kept here and not in `accept`, which is cancelled and called again whenever a connection
    /// ends.
    next_try: Instant,
    failing: bool,
}

impl RetryingListener {
    /// Accepts the next connection, without Nagle's delay and with a keepalive.
    async fn accept(&mut self) -> TcpStream {
        loop {
            tokio::time::sleep_until(self.next_try).await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if std::mem::take(&mut self.failing) {
                        info!("accepting connections again");
                    }
                    let options = stream.set_nodelay(true).and_then(|()| KeepalivePolicy::ACCEPTED.apply(&stream));
                    // An error means that the peer has closed the connection already.
                    if options.is_ok() {
                        return stream;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        warn!(%error, "can't accept connections");
                    }
                    self.next_try = Instant::now() + ACCEPT_PAUSE;
                }
            }
        }
    }
}
