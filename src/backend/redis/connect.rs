//! Connections to the engine, wherever it is now.

use std::io;
use std::time::Duration;

use redis::{ErrorKind, RedisConnectionInfo, RedisError, RedisResult};

use super::Settings;
use super::connection::Connection;
use super::url::Node;
use crate::net::{self, KeepalivePolicy, Socket, WatchedTcp};

/// For a connection to be made, TLS and the login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// For connections to the engine.
const KEEPALIVE: KeepalivePolicy = KeepalivePolicy {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    probes: 3,
    unacknowledged: Duration::from_secs(10),
};

/// Connects to the engine. With sentinels these are asked, one after the other, where it is.
///
/// # Errors
/// If it is not there, or does not let us in; the error of the last sentinel, if none knows.
pub(super) async fn connect(settings: &Settings) -> RedisResult<Connection> {
    let nodes = settings.url.nodes();
    let Some(master) = settings.url.master() else {
        return in_time(async {
            let mut connection = open(settings, &nodes[0], settings.url.login()).await?;
            // The kernel takes connections for an engine that hangs, too.
            redis::cmd("PING").exec_async(&mut connection.commands).await?;
            Ok(connection)
        })
        .await;
    };
    let mut last = RedisError::from((ErrorKind::InvalidClientConfig, "no sentinel"));
    for sentinel in nodes {
        // One that is cut off from the others may name an engine that is no longer the master, or is not there.
        let connected = async {
            let engine = in_time(ask(settings, sentinel, master)).await?;
            in_time(open_master(settings, &engine)).await
        };
        match connected.await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Where the engine is, as this sentinel knows it.
async fn ask(settings: &Settings, sentinel: &Node, master: &str) -> RedisResult<Node> {
    let mut connection = open(settings, sentinel, &settings.sentinel_login()).await?;
    let address: Option<(String, u16)> =
        redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).query_async(&mut connection.commands).await?;
    let unknown = || RedisError::from((ErrorKind::Client, "the sentinel knows no master of that name"));
    address.map(|(host, port)| Node { host, port }).ok_or_else(unknown)
}

/// What the sentinel names must be a master, in its own words too.
/// <https://redis.io/docs/latest/develop/reference/sentinel-clients/>
async fn open_master(settings: &Settings, engine: &Node) -> RedisResult<Connection> {
    let mut connection = open(settings, engine, settings.url.login()).await?;
    let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut connection.commands).await?;
    match role.first() {
        Some(redis::Value::BulkString(role)) if role == b"master" => Ok(connection),
        _ => Err(RedisError::from((ErrorKind::Client, "what the sentinel names is no master"))),
    }
}

async fn open(settings: &Settings, node: &Node, login: &RedisConnectionInfo) -> RedisResult<Connection> {
    let stream = net::connect(&node.host, node.port).await?;
    stream.set_nodelay(true)?;
    KEEPALIVE.apply(&stream)?;
    let (wire, _pulse, _lifetime) = WatchedTcp::new(stream);
    let socket = match &settings.tls {
        None => Socket::from(wire),
        Some(tls) => {
            let connected = tls.connect(&node.host, wire).await;
            connected.map_err(|error| io::Error::other(format!("no TLS with {node}: {error}")))?
        }
    };
    Connection::start(login, socket).await
}

async fn in_time<T>(connecting: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    super::answered(CONNECT_TIMEOUT, connecting).await
}
