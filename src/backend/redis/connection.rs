//! One connection to the engine, and whether it is still there: an engine closes connections that are idle (`timeout`), and
//! what is between may drop them without a word.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult};
use tokio::sync::watch;
use tokio::time::Instant;

use super::answered;
use crate::net::Socket;

/// How long an idle connection is left alone. Shorter than any usual limit for idle connections, in an engine, a proxy or a NAT.
const IDLE: Duration = Duration::from_secs(15);
/// A connection that was used within this time is taken to be alive, unless its end has been seen.
const FRESH: Duration = Duration::from_secs(5);
/// How long the engine may take to say that it is there. A new connection is tried next.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) commands: MultiplexedConnection,
    /// Its sender lives as long as what reads from the socket.
    open: watch::Receiver<()>,
    used: Instant,
}

impl Connection {
    /// Logs in.
    ///
    /// # Errors
    /// If the engine does not let us in, or is not one.
    pub(super) async fn start(login: &RedisConnectionInfo, socket: Socket) -> RedisResult<Self> {
        // Newer engines take a name of the library, by a command for which a user would need a right.
        let login = &login.clone().set_skip_set_lib_name();
        // Each caller has a time of its own for the answer: reading the stream may take as long as nobody posts.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (commands, driver) = MultiplexedConnection::new_with_config(login, socket, config).await?;
        let (alive, open) = watch::channel(());
        // It ends with the last clone of the connection, with the socket, or with a panic. In each case this goes with it.
        tokio::spawn(async move {
            let _alive = alive;
            driver.await;
        });
        Ok(Self { commands, open, used: Instant::now() })
    }

    /// The connection was used just now.
    pub(super) fn note_use(&mut self) {
        self.used = Instant::now();
    }

    /// Completes when nothing can come over it any more.
    pub(super) async fn ended(&self) {
        let mut open = self.open.clone();
        while open.changed().await.is_ok() {}
    }

    /// Completes when it has been idle for so long that it should be used, so that it is there when it is needed.
    pub(super) async fn idle(&self) {
        tokio::time::sleep_until(self.used + IDLE).await;
    }

    /// Whether it can be used: the engine is asked if it was idle for long.
    pub(super) async fn is_alive(&mut self) -> bool {
        self.open.has_changed().is_ok() && (self.used.elapsed() < FRESH || self.answers().await)
    }

    /// Whether the engine answers over it.
    pub(super) async fn answers(&mut self) -> bool {
        let ping = redis::cmd("PING");
        match answered(PING_TIMEOUT, ping.exec_async(&mut self.commands)).await {
            // An error that the engine has sent is an answer too.
            Err(error) if error.code().is_none() => false,
            Ok(()) | Err(_) => {
                self.note_use();
                true
            }
        }
    }
}
