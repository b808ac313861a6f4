//! `GET /metrics` for Prometheus, on a port of its own, so that the metrics can stay internal while
//! the chat is public.
//!
//! Each part of the program registers its own metrics in the [`Registry`].

mod format;
mod process;

use std::future::{pending, ready};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::info::Info;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, info};

pub use prometheus_client::registry::Registry;

use self::format::Format;
use self::process::Process;
use crate::net::{self, ConnectionLimits, ConnectionMetrics, ListenError};
use crate::process::panic_count;
use crate::settings::{VERSION, port};

/// How many connections stay open between requests. Few programs read metrics: one Prometheus, or
/// two.
const MAX_IDLE_CONNECTIONS: usize = 16;
/// How many connections may be open. Those beyond [`MAX_IDLE_CONNECTIONS`] are closed after their
/// answer, so that a new one can connect.
const MAX_CONNECTIONS: usize = 64;

/// The settings of the metrics port.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Metrics")]
#[group(skip)]
pub struct Settings {
    /// The port of GET /metrics for Prometheus. Without it there are no metrics. 0 takes a free
    /// port, and the log names it.
    #[arg(long, env = "MESSENGER_METRICS_PORT", value_name = "PORT", value_parser = port)]
    pub metrics_port: Option<u16>,

    /// The address that the metrics port listens on.
    #[arg(long, env = "MESSENGER_METRICS_BIND", value_name = "IP", default_value = "0.0.0.0")]
    pub metrics_bind: IpAddr,
}

/// A registry with the metrics of every program: its version, its panics, and its process.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register("messenger_build", "The version of this program", Info::new([("version", VERSION)]));
    registry.register(
        "messenger_panics",
        "Bugs in the program that ended a call, a connection or a task",
        panic_count(),
    );
    registry.register_collector(Box::new(Process::new()));
    registry
}

impl Settings {
    /// Opens the port, if the settings have one.
    ///
    /// # Errors
    /// If the address is in use or not available.
    pub fn listen(&self) -> Result<Option<TcpListener>, ListenError> {
        self.metrics_port.map(|port| net::listen(SocketAddr::new(self.metrics_bind, port))).transpose()
    }
}

/// Serves `GET /metrics` on `listener`, and never completes. It may be dropped at any time. Without
/// a listener it does nothing.
pub async fn serve(listener: Option<TcpListener>, registry: Registry) {
    let Some(listener) = listener else { return pending().await };
    if let Ok(address) = listener.local_addr() {
        info!(%address, "metrics listening");
    }
    let registry = Arc::new(registry);
    let router = Router::new().route("/metrics", get(move |headers: HeaderMap| ready(answer(&headers, &registry))));
    let router = router.layer(middleware::from_fn(refuse_bad_hosts));
    let closing_router = router.clone().layer(middleware::map_response(close));
    let idle = Arc::new(Semaphore::new(MAX_IDLE_CONNECTIONS));
    let limits = ConnectionLimits { connections: MAX_CONNECTIONS, drain: Duration::ZERO };
    net::serve_connections(
        listener,
        pending(),
        limits,
        ConnectionMetrics::default(),
        || {},
        |stream, drain| {
            let permit = Arc::clone(&idle).try_acquire_owned();
            let router = if permit.is_ok() { router.clone() } else { closing_router.clone() };
            async move {
                if let Err(error) = net::serve_http1(stream, None, TowerToHyperService::new(router), drain).await {
                    debug!(%error, "connection ended");
                }
                drop(permit);
            }
        },
    )
    .await;
}

async fn refuse_bad_hosts(request: Request, next: Next) -> Response {
    match net::requested_host(&request) {
        Ok(_) => next.run(request).await,
        Err(bad) => (StatusCode::BAD_REQUEST, bad.to_string()).into_response(),
    }
}

async fn close(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn answer(headers: &HeaderMap, registry: &Registry) -> impl IntoResponse + use<> {
    let format = Format::accepted(headers);
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], format.encode(registry))
}
