//! The gRPC server: `SendMessage` and `ReadMessages` over a [`Room`](crate::room::Room), with
//! health and reflection.
//!
//! The server uses the h2 crate directly, and one task for each connection with all its calls. A
//! web framework and a gRPC library would add a task, a box and a queue to each call, which cost
//! more than the chat itself.

pub(crate) mod grpc;
mod health_check;
mod http2;
mod metrics;
mod settings;

use std::sync::Arc;

use tokio::net::TcpListener;
use tracing::{debug, info};

pub use self::health_check::check as health_check;
pub use self::metrics::Metrics;
pub use self::settings::{AccessSettings, RedisSettings, Settings};

use self::grpc::health::HealthState;
use self::grpc::health_and_reflection;
use self::grpc::router::Router;
use crate::backend::Backend;
use crate::net;
use crate::process::NoRandomness;

/// Serves the chat on `listener` until `shutdown` completes. Returns when everything has ended, at
/// most [`Settings::drain_deadline`] later.
///
/// At the shutdown health becomes `NOT_SERVING`, and the server refuses new messages. Every reader
/// gets what was accepted and then `UNAVAILABLE`, and running calls finish.
///
/// # Errors
/// [`NoRandomness`], at once, because the room's epoch is a random number.
pub async fn serve(
    listener: TcpListener,
    settings: &Settings,
    metrics: &Metrics,
    shutdown: impl Future<Output = ()>,
) -> Result<(), NoRandomness> {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "server listening");
    }
    let (room, driver) = Backend::new(settings.redis.settings(), settings.room_limits())?;
    let room = Arc::new(room);
    metrics.set_room(&room);
    let health = HealthState::new();
    let router = Router {
        room: Arc::clone(&room),
        incoming: settings.incoming_budget(),
        max_message_bytes: settings.max_message_bytes.0,
        metrics: metrics.clone(),
        guard: settings.access.guard.clone(),
        health_and_reflection: health_and_reflection::routes(health.service()),
    };
    let max_calls = settings.max_calls();
    let limits = net::ConnectionLimits { connections: settings.max_connections, drain: settings.drain_deadline };
    let begin_drain = || {
        info!("draining");
        health.end();
        room.close();
    };
    let connections =
        net::serve_connections(listener, shutdown, limits, metrics.connections(), begin_drain, |stream, drain| {
            let (router, tls) = (router.clone(), settings.access.tls.clone());
            async move {
                let peer = stream.peer_addr().ok();
                if let Err(error) = http2::connection::serve(stream, tls, router, max_calls, drain).await {
                    debug!(?peer, %error, "connection ended");
                }
            }
        });
    tokio::select! {
        () = connections => {}
        () = driver.run(|lag| metrics.round_ended(lag)) => {}
        () = net::reload_on_change(settings.files()) => {}
    }
    info!("server stopped");
    Ok(())
}
