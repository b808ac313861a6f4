//! The gRPC server: `SendMessage` and `ReadMessages` over a [`Room`](crate::room::Room), with health and reflection.
//!
//! A connection is one task with all of its calls in it (`connection.rs`), straight on the h2 crate: what a web framework and a gRPC
//! framework do for every call besides, a task, a box and a queue each, costs more than all that the chat itself does.

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
pub use self::settings::{Access, Engine, Settings};

use self::grpc::router::Messenger;
use self::health_check::Serving;
use crate::backend::Keeper;
use crate::net;
use crate::process::NoRandomness;

/// Serves the chat on `listener` until `shutdown` completes; returns when everything has ended, at most
/// [`Settings::drain_deadline`] later.
///
/// At the shutdown health turns `NOT_SERVING`, new messages are refused, every reader gets what was accepted and then
/// `UNAVAILABLE`, and running calls finish.
///
/// # Errors
/// [`NoRandomness`], at once: without random numbers the room has no epoch.
pub async fn serve(
    listener: TcpListener,
    settings: &Settings,
    metrics: &Metrics,
    shutdown: impl Future<Output = ()>,
) -> Result<(), NoRandomness> {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "server listening");
    }
    let (keeper, driver) = Keeper::new(settings.engine.settings(), settings.limits())?;
    let (keeper, calls) = (Arc::new(keeper), settings.max_calls());
    let serving = Serving::new();
    let messenger = Messenger::new(
        Arc::clone(&keeper),
        settings.incoming(),
        settings.max_message_bytes.0,
        metrics.clone(),
        settings.access.guard.clone(),
        grpc::health_and_reflection::routes(serving.service()),
    );
    metrics.watch(&keeper);
    let limits = net::ConnectionLimits { connections: settings.max_connections, drain: settings.drain_deadline };
    let begin_drain = || {
        info!("draining");
        serving.end();
        keeper.close();
    };
    let connections =
        net::serve_connections(listener, shutdown, limits, metrics.connections(), begin_drain, |stream, drain| {
            let (messenger, tls) = (messenger.clone(), settings.access.tls.clone());
            async move {
                let peer = stream.peer_addr().ok();
                if let Err(error) = http2::connection::serve(stream, tls, messenger, calls, drain).await {
                    debug!(?peer, %error, "connection ended");
                }
            }
        });
    tokio::select! {
        () = connections => {}
        () = driver.run(|lag| metrics.round(lag)) => {}
        () = net::reload_on_change(settings.files()) => {}
    }
    info!("server stopped");
    Ok(())
}
