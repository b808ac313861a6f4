//! The life of a listener: accept, serve, drain.

use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::warn;

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
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            stream = accept(&listener) => {
                connections.spawn(serve(stream, graceful.watcher()));
            }
            // Finished connections leave the set at once, or it would grow for as long as the program runs.
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    begin_drain();
    if tokio::time::timeout(deadline, graceful.shutdown()).await.is_err() {
        while connections.try_join_next().is_some() {}
        warn!(connections = connections.len(), ?deadline, "drain deadline reached, dropping connections");
    }
    connections.shutdown().await;
}

/// The next connection. Both interfaces send small answers that somebody waits for, so Nagle's delay is off.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if stream.set_nodelay(true).is_ok() => return stream,
            // Already gone again.
            Ok(_) => {}
            Err(error) => {
                warn!(%error, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
