//! What the programs count of themselves, for Prometheus: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! What is counted stands with what it counts ([`crate::server::Metrics`], [`crate::client::Metrics`]); here is where it is read, on a
//! port of its own: whoever may chat need not see how busy the server is.

mod format;
mod process;

use std::future::{pending, ready};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::info::Info;
use tokio::net::TcpListener;
use tracing::{debug, info};

pub use prometheus_client::registry::Registry;

use self::format::Format;
use self::process::Process;
use crate::net::{self, ConnectionLimits, ConnectionMetrics, ListenError};
use crate::process::panic_count;
use crate::settings::{VERSION, port};

/// Connections that are kept between two times that they are read. Those who read are few: one
/// Prometheus, or two.
const KEPT: usize = 16;
/// All connections. With more than [`KEPT`] of them each is closed after its answer, so that there is
/// always a free one.
const CONNECTIONS: usize = 64;

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
    registry.register(
        "messenger_panics",
        "Mistakes in the program that ended a call, a connection or a task",
        panic_count(),
    );
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
    let router = Router::new().route("/metrics", get(move |headers: HeaderMap| ready(numbers(&headers, &registry))));
    // Each connection has one of these, so their count is the connections'.
    let open = Arc::new(());
    let router = router.layer(middleware::from_fn(refuse_bad_hosts));
    let router = router.layer(middleware::map_response_with_state(Arc::downgrade(&open), close_if_many));
    let limits = ConnectionLimits { connections: CONNECTIONS, drain: Duration::ZERO };
    net::serve_connections(
        listener,
        pending(),
        limits,
        ConnectionMetrics::default(),
        || {},
        |stream, drain| {
            let (router, open) = (router.clone(), Arc::clone(&open));
            async move {
                if let Err(error) = net::serve_http1(stream, None, TowerToHyperService::new(router), drain).await {
                    debug!(%error, "connection ended");
                }
                drop(open);
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

async fn close_if_many(State(open): State<Weak<()>>, mut response: Response) -> Response {
    // One is the listener's.
    if open.strong_count() > KEPT + 1 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn numbers(headers: &HeaderMap, registry: &Registry) -> impl IntoResponse + use<> {
    let format = Format::accepted(headers);
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], format.encode(registry))
}
