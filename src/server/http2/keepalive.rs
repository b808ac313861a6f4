//! Closes connections whose peer has vanished, or takes no bytes.

use std::future::{pending, poll_fn};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

use crate::net::{Activity, ConnectionError};

/// How often a connection is checked. If the server has bytes for a peer that took none for a whole
/// interval, it closes the connection: those bytes hold messages in memory for that peer alone. A
/// peer that sent no byte for a whole interval gets a ping. So the ping comes after 25 to 50 s of
/// silence.
const INTERVAL: Duration = Duration::from_secs(25);
/// How long a peer may take to send any byte after a ping. Without this bound a reader whose
/// machine has vanished would stay.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Completes when the peer is dead. Any byte is a sign of life, because a peer that is busy may not
/// have come to the ping yet.
pub(super) async fn watch(pings: Option<PingPong>, activity: Activity) -> ConnectionError {
    let Some(mut pings) = pings else { return pending().await };
    loop {
        sleep(INTERVAL).await;
        if activity.is_stuck() {
            return ConnectionError::Stuck;
        }
        if activity.heard() {
            continue;
        }
        // This fails while an earlier ping is unanswered, although the peer has sent other bytes,
        // and when the connection ends.
        let _ = pings.send_ping(Ping::opaque());
        let pong = timeout(PING_TIMEOUT, poll_fn(|cx| pings.poll_pong(cx))).await;
        if pong.is_err() && !activity.heard() {
            return ConnectionError::Silent;
        }
    }
}
