//! The client: one stream from the server kept open for life, and an HTTP interface over it for people and programs.
//!
//! ```text
//! server ──ReadMessages──> link ──> postbox ──> POST /getAndFlushMessages
//!                             └───> history ──> GET /messages, which the page at GET / shows
//! server <──SendMessage─── sender <──────────── POST /sendMessage
//! ```

mod health_check;
pub(crate) mod http;
mod inbox;
mod metrics;
mod settings;
mod upstream;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info};

pub use self::health_check::check as health_check;
pub use self::http::hosts::HostNames;
pub use self::metrics::Metrics;
pub use self::settings::{HttpAccess, HttpSettings, ServerAccess, Settings};

use self::http::routes::Chat;
use self::http::sse::Streams;
use self::inbox::history::History;
use self::inbox::postbox::Postbox;
use self::upstream::link::Link;
use self::upstream::sender::Sender;
use crate::net::tls::{Acceptor, TlsError};
use crate::net::{self, Drain, WatchedTcp};
use crate::process;

/// Files that are never a caller's: whatever callers do, there is one for a new connection to the server.
const OWN_FILES: usize = 16;
/// How long a peer may take for the handshake of TLS.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that takes no byte of its answer for so long, or up to twice as long, gets no more of it.
const STUCK: Duration = Duration::from_secs(30);

/// Serves the HTTP interface on `listener` until `shutdown` completes, and keeps the stream to the server open meanwhile. Returns
/// when the running requests have ended, at most [`HttpSettings::http_drain_deadline`] after the shutdown.
pub async fn serve(listener: TcpListener, settings: &Settings, metrics: &Metrics, shutdown: impl Future<Output = ()>) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, server = %settings.server_addr, "client listening");
    }
    let postbox = Arc::new(Postbox::new(settings.http.postbox_bytes.0));
    let history = Arc::new(History::new(settings.http.history_bytes.0));
    let mut link = Link::new(
        settings.server_addr.clone(),
        settings.access.access.clone(),
        Arc::clone(&postbox),
        Arc::clone(&history),
        metrics.clone(),
    );
    metrics.watch(&postbox);
    let ending = watch::Sender::new(false);
    let sender = Sender::new(link.state(), ending.subscribe(), settings.http.send_deadline);
    let streams = Streams::new(history, link.state(), ending.subscribe(), metrics.clone());
    let chat = Chat { postbox, sender, link: link.state(), metrics: metrics.clone() };
    let router = http::routes::router(chat, streams, &settings.http);
    // A task of its own, which runs where the connection to the server does: in this one each message would wake another thread.
    // The set ends it when this function ends or is dropped.
    let mut stream = JoinSet::new();
    stream.spawn(async move { link.keep_open().await });
    stream.spawn(net::reload_on_change(settings.files()));

    let limits = net::ConnectionLimits {
        connections: settings.http.http_max_connections.min(process::file_limit().saturating_sub(OWN_FILES).max(1)),
        drain: settings.http.http_drain_deadline,
    };
    let connections = net::serve_connections(
        listener,
        shutdown,
        limits,
        metrics.connections(),
        || {
            info!("draining");
            ending.send_replace(true);
        },
        |stream, drain| {
            let (router, tls) = (router.clone(), settings.http.access.tls.clone());
            async move {
                if let Err(error) = serve_connection(stream, tls, router, drain).await {
                    debug!(%error, "connection ended");
                }
            }
        },
    );
    tokio::select! {
        () = connections => {}
        never = process::run_all(&mut stream) => match never {},
    }
    info!("client stopped");
}

/// Why a connection has ended otherwise than in good order.
#[derive(Debug, Error)]
enum ConnectionError {
    #[error("no TLS within {TLS_TIMEOUT:?}")]
    NoHandshake,
    #[error("no TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("the peer takes nothing of what is written to it")]
    Stuck,
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

async fn serve_connection(
    stream: TcpStream,
    tls: Option<Arc<Acceptor>>,
    router: Router,
    mut drain: Drain,
) -> Result<(), ConnectionError> {
    let (wire, pulse, _) = WatchedTcp::new(stream);
    let socket = match tls {
        None => wire.into(),
        Some(tls) => tokio::select! {
            // In a box, or every connection would have the room for it.
            handshake = tokio::time::timeout(TLS_TIMEOUT, Box::pin(tls.accept(wire))) => {
                handshake.map_err(|_| ConnectionError::NoHandshake)??
            }
            () = drain.begun() => return Ok(()),
        },
    };
    let mut stuck = pin!(async {
        loop {
            tokio::time::sleep(STUCK).await;
            if pulse.is_stuck() {
                return;
            }
        }
    });
    tokio::select! {
        served = net::serve_http1(socket, TowerToHyperService::new(router), drain) => Ok(served?),
        () = &mut stuck => Err(ConnectionError::Stuck),
    }
}
