//! Noticing that a peer is gone without a word, or takes nothing.

use std::future::poll_fn;
use std::time::Duration;

use h2::{Ping, PingPong};

use crate::net::{Activity, ConnectionError};

/// What is written to a peer that takes no byte of it in one such interval is written in vain, and keeps messages in memory for it alone.
/// A connection on which nothing has come in one such interval is pinged at its end, after 25 to 50 s of silence ...
const INTERVAL: Duration = Duration::from_secs(25);
/// ... and over if nothing comes for this long after it. Without that a reader whose machine has vanished would stay for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// Completes when the peer is gone. Any byte shows that it is there, also one from a peer that is too far behind to have seen the ping.
pub(crate) async fn detect(pings: Option<PingPong>, activity: Activity) -> ConnectionError {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        tokio::time::sleep(INTERVAL).await;
        if activity.is_stuck() {
            return ConnectionError::Stuck;
        }
        if activity.heard() {
            continue;
        }
        // It fails while the last one is unanswered (then the peer has said something else), or when the connection is ending.
        let _ = pings.send_ping(Ping::opaque());
        let answer = tokio::time::timeout(PATIENCE, poll_fn(|cx| pings.poll_pong(cx))).await;
        if answer.is_err() && !activity.heard() {
            return ConnectionError::Silent;
        }
    }
}
