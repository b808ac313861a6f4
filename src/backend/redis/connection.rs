//! One connection to Redis, and a check whether it still works. Redis closes idle connections
//! (`timeout`), and the network may drop them silently.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, RedisResult};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::net::Socket;

/// How long Redis may take to answer. It may have to write to a slow disk first.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// An idle connection is used again after this time, so that it stays open. The usual limits for
/// idle connections, of a Redis, a proxy or a NAT, are longer.
const IDLE: Duration = Duration::from_secs(15);
/// A connection that was used within this time counts as alive, unless its end was seen.
const FRESH: Duration = Duration::from_secs(5);
/// How long a PING may take. After that the server tries a new connection.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection to Redis. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct RedisConnection {
    pub(super) commands: MultiplexedConnection,
    /// Closes when the task that reads from the socket ends.
    open: watch::Receiver<()>,
    used: Instant,
}

impl RedisConnection {
    /// Logs in.
    ///
    /// # Errors
    /// If Redis rejects the login, or the peer is not Redis.
    pub(super) async fn start(login: &RedisConnectionInfo, socket: Socket) -> RedisResult<Self> {
        // Newer versions take a name of the library, but the command needs a right of its own.
        let login = &login.clone().set_skip_set_lib_name();
        // Each caller has its own timeout: reading the stream takes until the next message is
        // posted.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (commands, driver) = MultiplexedConnection::new_with_config(login, socket, config).await?;
        let (alive, open) = watch::channel(());
        // The driver ends with the last clone of the connection, with the socket, or with a panic.
        tokio::spawn(async move {
            let _alive = alive;
            driver.await;
        });
        Ok(Self { commands, open, used: Instant::now() })
    }

    /// Notes that the connection was used.
    pub(super) fn note_use(&mut self) {
        self.used = Instant::now();
    }

    /// Completes when the connection has ended.
    pub(super) async fn ended(&self) {
        let mut open = self.open.clone();
        while open.changed().await.is_ok() {}
    }

    /// Completes when the connection was idle for so long that it should be used, to keep it open.
    pub(super) async fn idle(&self) {
        tokio::time::sleep_until(self.used + IDLE).await;
    }

    /// Whether the connection works. Asks Redis if the connection was idle for long.
    pub(super) async fn is_alive(&mut self) -> bool {
        self.open.has_changed().is_ok() && (self.used.elapsed() < FRESH || self.answers().await)
    }

    /// Whether Redis answers.
    pub(super) async fn answers(&mut self) -> bool {
        let ping = redis::cmd("PING");
        match within(PING_TIMEOUT, ping.exec_async(&mut self.commands)).await {
            // An error that Redis has sent is an answer too.
            Err(error) if error.code().is_none() => false,
            Ok(()) | Err(_) => {
                self.note_use();
                true
            }
        }
    }
}

/// The answer of Redis, or an error if it takes longer than this.
pub(super) async fn within<T>(timeout: Duration, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    tokio::time::timeout(timeout, answer)
        .await
        .unwrap_or_else(|_| Err(RedisError::from((ErrorKind::Io, "no answer in time"))))
}
