//! The gRPC server: `SendMessage` and `ReadMessages` over a [`Room`], with health and reflection.

mod codec;
mod health;
mod read_messages;
mod send_message;
mod service;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tonic::service::Routes;
use tracing::{debug, error, info};

pub use self::health::check as health_check;
pub use self::settings::Settings;

use self::health::Serving;
use self::service::Messenger;
use crate::net::{self, Watcher};
use crate::proto;
use crate::room::Room;

/// A connection on which nothing has come for this long is pinged ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(25);
/// ... and closed if the answer takes longer than this. Without it a reader whose machine has vanished would stay for ever.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that wait in one stream for its reader's flow control before the body is asked for more. They are slices of the room's log,
/// which a stopped reader keeps alive beyond the retention: at most two of them, each up to 64 KiB or one larger message.
const SEND_BUFFER: usize = 64 * 1024;

/// Serves the chat on `listener` until `shutdown` completes; returns when everything has ended, at most
/// [`Settings::drain_deadline`] later.
///
/// At the shutdown health turns `NOT_SERVING`, new messages are refused, every reader gets what was accepted and then
/// `UNAVAILABLE`, and running calls finish.
pub async fn serve(listener: TcpListener, settings: &Settings, shutdown: impl Future<Output = ()>) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "server listening");
    }
    let room = Arc::new(Room::new(settings.retention_bytes.0));
    let serving = Serving::new();
    let routes = routes(&room, &serving, settings);
    let begin_drain = || {
        info!("draining");
        serving.end();
        room.close();
    };
    let connections =
        net::serve_connections(listener, shutdown, settings.drain_deadline, begin_drain, |stream, watcher| {
            serve_connection(stream, routes.clone(), watcher)
        });
    tokio::select! {
        () = connections => {}
        () = room.dispatch() => {}
    }
    info!("server stopped");
}

fn routes(room: &Arc<Room>, serving: &Serving, settings: &Settings) -> Routes {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::default()
        .add_service(Messenger::new(Arc::clone(room), settings.max_message_bytes.0))
        .add_service(serving.service());
    // Two versions of one protocol: new tools ask for v1, older ones for v1alpha.
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes = routes.add_service(v1).add_service(v1alpha),
        // Only for descriptors that do not parse, and these are part of the program.
        (Err(error), _) | (_, Err(error)) => error!(%error, "no reflection"),
    }
    routes.prepare()
}

async fn serve_connection(stream: TcpStream, routes: Routes, watcher: Watcher) {
    let peer = stream.peer_addr().ok();
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        // hyper allows 200 by default; a hub that reads for many users over one connection needs more.
        .max_concurrent_streams(u32::MAX)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    if let Err(error) = watcher.watch(connection).await {
        debug!(?peer, %error, "connection ended");
    }
}
