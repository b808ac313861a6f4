//! Connects to Redis, directly or through its sentinels.

use std::io;
use std::time::Duration;

use redis::{ErrorKind, RedisConnectionInfo, RedisError, RedisResult};

use super::connection::{RedisConnection, within};
use super::settings::Settings;
use super::url::Node;
use crate::net::{self, KeepalivePolicy, Socket, WatchedTcp};

/// How long connecting may take, with TLS and the login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The time after which a silent peer counts as gone.
const KEEPALIVE: KeepalivePolicy = KeepalivePolicy {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    probes: 3,
    unacknowledged: Duration::from_secs(10),
};

/// Connects to Redis. If there are sentinels, asks them one after the other where Redis is.
///
/// # Errors
/// If Redis is away or rejects the login. If no sentinel leads to Redis, the error of the last one.
pub(super) async fn connect(settings: &Settings) -> RedisResult<RedisConnection> {
    let nodes = settings.url.nodes();
    let Some(master) = settings.url.master() else {
        return in_time(async {
            let mut connection = open(settings, &nodes[0], settings.url.login()).await?;
            // The kernel accepts connections also for a Redis that hangs.
            redis::cmd("PING").exec_async(&mut connection.commands).await?;
            Ok(connection)
        })
        .await;
    };
    let mut last = RedisError::from((ErrorKind::InvalidClientConfig, "no sentinel"));
    for sentinel in nodes {
        // A sentinel that is cut off may name a Redis that is away or no longer the master.
        let connected = async {
            let node = in_time(ask(settings, sentinel, master)).await?;
            in_time(open_master(settings, &node)).await
        };
        match connected.await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks a sentinel where Redis is.
async fn ask(settings: &Settings, sentinel: &Node, master: &str) -> RedisResult<Node> {
    let mut connection = open(settings, sentinel, &settings.sentinel_login()).await?;
    let address: Option<(String, u16)> =
        redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).query_async(&mut connection.commands).await?;
    let unknown = || RedisError::from((ErrorKind::Client, "the sentinel knows no master of that name"));
    address.map(|(host, port)| Node { host, port }).ok_or_else(unknown)
}

/// Connects to the node that a sentinel has named, which must call itself a master.
/// <https://redis.io/docs/latest/develop/reference/sentinel-clients/>
async fn open_master(settings: &Settings, node: &Node) -> RedisResult<RedisConnection> {
    let mut connection = open(settings, node, settings.url.login()).await?;
    let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut connection.commands).await?;
    match role.first() {
        Some(redis::Value::BulkString(role)) if role == b"master" => Ok(connection),
        _ => Err(RedisError::from((ErrorKind::Client, "the node that the sentinel names is no master"))),
    }
}

async fn open(settings: &Settings, node: &Node, login: &RedisConnectionInfo) -> RedisResult<RedisConnection> {
    let stream = net::connect(&node.host, node.port).await?;
    stream.set_nodelay(true)?;
    KEEPALIVE.apply(&stream)?;
    let (stream, _activity, _close_signal) = WatchedTcp::new(stream);
    let socket = match &settings.tls {
        None => Socket::from(stream),
        Some(tls) => {
            let connected = tls.connect(&node.host, stream).await;
            connected.map_err(|error| io::Error::other(format!("no TLS with {node}: {error}")))?
        }
    };
    RedisConnection::start(login, socket).await
}

async fn in_time<T>(connecting: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    within(CONNECT_TIMEOUT, connecting).await
}
