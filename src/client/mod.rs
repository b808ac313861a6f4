//! The client keeps one stream from the server open, and serves HTTP to people and programs.
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
pub use self::metrics::Metrics;
pub use self::settings::{HostNames, HostNamesError, HttpAccess, HttpSettings, ServerAccess, Settings};

use self::http::{Chat, EventStreams};
use self::inbox::history::History;
use self::inbox::postbox::Postbox;
use self::upstream::{Link, Sender};
use crate::net;
use crate::process;

/// File descriptors reserved for the client, so that HTTP callers cannot use up the one that it
/// needs to reconnect.
const RESERVED_FILES: usize = 16;

/// Serves the HTTP interface on `listener` until `shutdown` completes, and keeps the stream from
/// the server open meanwhile. Then waits for running requests, for at most
/// [`HttpSettings::http_drain_deadline`].
pub async fn serve(listener: TcpListener, settings: &Settings, metrics: &Metrics, shutdown: impl Future<Output = ()>) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, server = %settings.server_addr, "client listening");
    }
    let postbox = Arc::new(Postbox::new(settings.http.postbox_bytes.0));
    let history = Arc::new(History::new(settings.http.history_bytes.0));
    let mut link = Link::new(
        settings.server_addr.clone(),
        settings.access.credentials.clone(),
        Arc::clone(&postbox),
        Arc::clone(&history),
        metrics.clone(),
    );
    metrics.watch(&postbox);
    let draining = watch::Sender::new(false);
    let sender = Sender::new(link.state(), draining.subscribe(), settings.http.send_deadline);
    let streams = EventStreams::new(history, link.state(), draining.subscribe(), metrics.clone());
    let chat = Chat { postbox, sender, link: link.state(), metrics: metrics.clone() };
    let router = http::router(chat, streams, &settings.http);
    // The link has a task of its own, on the thread that reads the connection to the server. If the
    // link ran in this task, every message would wake another thread. Dropping the set ends its
    // tasks.
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { link.keep_open().await });
    tasks.spawn(net::reload_on_change(settings.files()));

    let free_files = process::file_limit().saturating_sub(RESERVED_FILES).max(1);
    let limits = net::ConnectionLimits {
        connections: settings.http.http_max_connections.min(free_files),
        drain: settings.http.http_drain_deadline,
    };
    let connections = net::serve_connections(
        listener,
        shutdown,
        limits,
        metrics.connections(),
        || {
            info!("draining");
            draining.send_replace(true);
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
        never = process::run_all(&mut tasks) => match never {},
    }
    info!("client stopped");
}
