//! What the programs count of themselves, for Prometheus: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! What is counted stands with what it counts ([`crate::server::Metrics`], [`crate::client::Metrics`]); here is where it is read, on a
//! port of its own: whoever may chat need not see how busy the server is.

mod process;

use std::future::{pending, ready};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use clap::Args;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use tokio::net::TcpListener;
use tracing::{debug, info};

pub use prometheus_client::registry::Registry;

use self::process::Process;
use crate::net::{self, Counts, Limits, ListenError};
use crate::settings::{VERSION, port};

/// Those who read are few: one Prometheus, or two.
const CONNECTIONS: usize = 16;
/// How long a connection may be silent between two times that it is read.
const IDLE: Duration = Duration::from_mins(5);
/// The version of the format that the numbers are in.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where the numbers are read.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Metrics")]
#[group(skip)]
pub struct Settings {
    /// TCP port at which Prometheus reads /metrics. Without it there is none; 0 takes any free one, which the log then names.
    #[arg(long, env = "MESSENGER_METRICS_PORT", value_name = "PORT", value_parser = port)]
    pub metrics_port: Option<u16>,

    /// Address of that port.
    #[arg(long, env = "MESSENGER_METRICS_BIND", value_name = "IP", default_value = "0.0.0.0")]
    pub metrics_bind: IpAddr,
}

/// A registry with what every program has: which version it is, and what it takes of the machine.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register("messenger_build", "The version of this program", Info::new([("version", VERSION)]));
    registry.register_collector(Box::new(Process::new()));
    registry
}

impl Settings {
    /// Opens the port, if there is to be one.
    ///
    /// # Errors
    /// [`ListenError`], which names the address.
    pub fn listen(&self) -> Result<Option<TcpListener>, ListenError> {
        self.metrics_port.map(|port| net::listen(SocketAddr::new(self.metrics_bind, port))).transpose()
    }
}

/// Answers `GET /metrics` on `listener`, for as long as this is polled; nothing is to be finished when it no longer is. Without a listener
/// it does nothing. Never completes.
pub async fn serve(listener: Option<TcpListener>, registry: Registry) {
    let Some(listener) = listener else { return pending().await };
    if let Ok(address) = listener.local_addr() {
        info!(%address, "metrics listening");
    }
    let registry = Arc::new(registry);
    let router = Router::new().route("/metrics", get(move || ready(numbers(&registry))));
    let limits = Limits { connections: CONNECTIONS, drain: Duration::ZERO };
    net::serve_connections(
        listener,
        pending(),
        limits,
        Counts::default(),
        || {},
        |stream, _| {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
            async move {
                if let Err(error) = connection.await {
                    debug!(%error, "connection ended");
                }
            }
        },
    )
    .await;
}

fn numbers(registry: &Registry) -> impl IntoResponse + use<> {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = text::encode(&mut text, registry);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text)
}
