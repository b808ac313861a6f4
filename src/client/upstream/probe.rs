//! Detects a server that answers pings but no calls. A proxy in between answers pings too, even if
//! its server hangs.

use std::time::Duration;

use futures_util::FutureExt;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::net::Connection;

/// How long the server may take to answer the health check. With the default deadline of a send
/// (5 s), the client leaves a hanging server within 12 s.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(6);

/// Completes when the server has left a call without an answer, and a health check after it too.
///
/// Use this only for our own server: others may have no health service, or answer late.
pub(super) async fn hangs(connection: &Connection) {
    // The stream is open, so an earlier doubt is settled.
    let _ = connection.doubted().now_or_never();
    loop {
        connection.doubted().await;
        // The time counts from when the call leaves. A server without room for the call may well
        // answer others.
        let reserved = connection.reserve().await;
        let mut health = HealthClient::with_origin(reserved, connection.origin());
        let answer = health.check(HealthCheckRequest::default());
        // Any answer counts, even an error.
        if tokio::time::timeout(HEALTH_TIMEOUT, answer).await.is_err() {
            return;
        }
    }
}
