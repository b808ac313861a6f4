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

use std::sync::Arc;

use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
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
use crate::net;
use crate::process;

/// Files that are never a caller's: whatever callers do, there is one for a new connection to the server.
const OWN_FILES: usize = 16;

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
                let service = TowerToHyperService::new(router);
                if let Err(error) = net::serve_http1(stream, tls, service, drain).await {
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
