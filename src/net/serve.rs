//! The life of a listener: accept, serve, drain.

use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

pub use hyper_util::server::graceful::Watcher;

/// How long to wait when a connection can't be accepted (no file descriptors left, mostly): the next try fails too until one
/// closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the connections of `listener`, each in a task of its own, until `shutdown` completes. Then the port closes,
/// `begin_drain` is called, and the connections get until `deadline` to finish what they are at; those that have not are dropped.
///
/// `serve` gets the connection and a [`Watcher`] that tells it when to finish.
pub async fn serve_connections<F>(
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    deadline: Duration,
    begin_drain: impl FnOnce(),
    serve: impl Fn(TcpStream, Watcher) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut acceptor = Acceptor { listener, next_try: Instant::now(), failing: false };
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            stream = acceptor.accept() => {
                connections.spawn(serve(stream, graceful.watcher()));
            }
            // Finished connections leave the set at once, or it would grow for as long as the program runs.
            Some(_) = connections.join_next() => {}
        }
    }
    drop(acceptor);
    begin_drain();
    if tokio::time::timeout(deadline, graceful.shutdown()).await.is_err() {
        while connections.try_join_next().is_some() {}
        warn!(connections = connections.len(), ?deadline, "drain deadline reached, dropping connections");
    }
    connections.shutdown().await;
}

/// A listener, and how its last try went.
struct Acceptor {
    listener: TcpListener,
    /// Not before this. Kept here and not in `accept`, which is dropped and called again whenever a connection ends.
    next_try: Instant,
    failing: bool,
}

impl Acceptor {
    /// The next connection. Both interfaces send small answers that somebody waits for, so Nagle's delay is off; a peer that is gone
    /// without a word is found by TCP's keepalive.
    async fn accept(&mut self) -> TcpStream {
        loop {
            tokio::time::sleep_until(self.next_try).await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if std::mem::take(&mut self.failing) {
                        info!("accepting connections again");
                    }
                    let options = stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_keepalive(true));
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
