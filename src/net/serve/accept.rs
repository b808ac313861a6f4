//! The life of a listener: accept, serve, drain.

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

/// How long to wait when a connection can't be accepted (no file descriptors left, mostly): the next try fails too until one
/// closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Tells a connection when to finish.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<bool>);

impl Drain {
    /// Completes when the drain begins: from then on a connection takes no further request, and ends with the last that is running.
    pub async fn begun(&mut self) {
        // An error means that the listener's side is gone, which is an end too.
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}

/// How many connections there may be, and how long they may take to end.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at once. One more is closed as soon as it is made: it would wait for somebody else's end otherwise, and not know why.
    pub connections: usize,
    /// From the shutdown on.
    pub drain: Duration,
}

/// What a port counts. Clones are the same counters.
#[derive(Debug, Clone, Default)]
pub struct ConnectionMetrics {
    open: Gauge,
    accepted: Counter,
    refused: Counter,
}

impl ConnectionMetrics {
    /// Lets them be read, under names that begin with `prefix`.
    pub fn register(&self, registry: &mut Registry, prefix: &str) {
        let name = |name| format!("{prefix}_{name}");
        registry.register(name("connections"), "Connections that are open", self.open.clone());
        registry.register(name("connections_accepted"), "Connections that were let in", self.accepted.clone());
        registry.register(name("connections_refused"), "Connections over the limit", self.refused.clone());
    }
}

/// Serves the connections of `listener`, each in a task of its own, until `shutdown` completes. Then the port closes,
/// `begin_drain` is called, and the connections get until the limit to finish what they are at; those that have not are dropped.
///
/// `serve` gets the connection and the [`Drain`] to watch meanwhile.
pub async fn serve_connections<F>(
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    limits: ConnectionLimits,
    counts: ConnectionMetrics,
    begin_drain: impl FnOnce(),
    serve: impl Fn(TcpStream, Drain) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let draining = watch::Sender::new(false);
    let mut connections = JoinSet::new();
    let mut acceptor = RetryingListener { listener, next_try: Instant::now(), failing: false };
    let mut full = false;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            stream = acceptor.accept() => {
                let was_full = std::mem::replace(&mut full, connections.len() >= limits.connections);
                if full {
                    counts.refused.inc();
                    if !was_full {
                        warn!(limit = limits.connections, "too many connections, closing new ones");
                    }
                    continue;
                }
                connections.spawn(serve(stream, Drain(draining.subscribe())));
                counts.accepted.inc();
            }
            // Finished connections leave the set at once, or it would grow for as long as the program runs. One that has panicked is
            // logged and counted already, and nobody else's matter.
            Some(_) = connections.join_next() => {}
        }
        counts.open.set(i64::try_from(connections.len()).unwrap_or(i64::MAX));
    }
    drop(acceptor);
    begin_drain();
    draining.send_replace(true);
    let deadline = limits.drain;
    if tokio::time::timeout(deadline, async { while connections.join_next().await.is_some() {} }).await.is_err() {
        warn!(connections = connections.len(), ?deadline, "drain deadline reached, dropping connections");
    }
    connections.shutdown().await;
}

/// A listener, and how its last try went.
struct RetryingListener {
    listener: TcpListener,
    /// Not before this. Kept here and not in `accept`, which is dropped and called again whenever a connection ends.
    next_try: Instant,
    failing: bool,
}

impl RetryingListener {
    /// The next connection. Both interfaces send small answers that somebody waits for, so Nagle's delay is off; a peer that is gone
    /// without a word is found by the kernel.
    async fn accept(&mut self) -> TcpStream {
        loop {
            tokio::time::sleep_until(self.next_try).await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if std::mem::take(&mut self.failing) {
                        info!("accepting connections again");
                    }
                    let options = stream.set_nodelay(true).and_then(|()| KeepalivePolicy::ACCEPTED.watch(&stream));
                    if options.is_ok() {
                        return stream;
                    }
                    // It has gone again already.
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
