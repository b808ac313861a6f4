//! Asking a server that left a call without an answer whether it answers any. Pings do not tell: a proxy
//! in between answers them, whatever its server does.

use std::time::Duration;

use futures_util::FutureExt;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::net::Connection;

/// How long the server may take to say how it is. With the usual deadline of a send (5 s) the next server has
/// the client within 12 s of the moment at which this one stopped answering.
const PATIENCE: Duration = Duration::from_secs(6);

/// Completes when the server has left a call without an answer, and the question after it too. Only for
/// our own server: a foreign one need not have a health service, nor answer at once.
pub(crate) async fn hangs(connection: &Connection) {
    // What was in doubt while the stream was opened is not: it is open.
    let _ = connection.doubted().now_or_never();
    loop {
        connection.doubted().await;
        // Time counts from when the question leaves: a server that has no room for it is another matter.
        let reserved = connection.reserve().await;
        let mut health = HealthClient::with_origin(reserved, connection.origin());
        // Any answer will do, also one that says no.
        let answer = health.check(HealthCheckRequest::default());
        if tokio::time::timeout(PATIENCE, answer).await.is_err() {
            return;
        }
    }
}
