//! Connections to the engine, wherever it is now.

use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, RedisResult};
use tokio::net::TcpStream;

use super::Settings;
use super::url::Node;
use crate::net::{Socket, Wire};

/// For a connection to be made, TLS and the login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects to the engine. With sentinels these are asked, one after the other, where it is.
///
/// # Errors
/// If it is not there, or does not let us in; the error of the last sentinel, if none knows.
pub(super) async fn connect(settings: &Settings) -> RedisResult<MultiplexedConnection> {
    let nodes = settings.url.nodes();
    let Some(master) = settings.url.master() else {
        return in_time(open(settings, &nodes[0], settings.url.login())).await;
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
    let mut connection = open(settings, sentinel, &RedisConnectionInfo::default()).await?;
    let address: Option<(String, u16)> =
        redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).query_async(&mut connection).await?;
    let unknown = || RedisError::from((ErrorKind::Client, "the sentinel knows no master of that name"));
    address.map(|(host, port)| Node { host, port }).ok_or_else(unknown)
}

/// What the sentinel names must be a master, in its own words too.
/// <https://redis.io/docs/latest/develop/reference/sentinel-clients/>
async fn open_master(settings: &Settings, engine: &Node) -> RedisResult<MultiplexedConnection> {
    let mut connection = open(settings, engine, settings.url.login()).await?;
    let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
    match role.first() {
        Some(redis::Value::BulkString(role)) if role == b"master" => Ok(connection),
        _ => Err(RedisError::from((ErrorKind::Client, "what the sentinel names is no master"))),
    }
}

async fn open(settings: &Settings, node: &Node, login: &RedisConnectionInfo) -> RedisResult<MultiplexedConnection> {
    let stream = TcpStream::connect((node.host.as_str(), node.port)).await?;
    stream.set_nodelay(true)?;
    let (wire, _pulse, _lifetime) = Wire::new(stream);
    let socket = match &settings.tls {
        None => Socket::from(wire),
        Some(tls) => {
            let connected = tls.connect(&node.host, wire).await;
            connected.map_err(|error| io::Error::other(format!("no TLS with {node}: {error}")))?
        }
    };
    // Whoever asks has a time of its own for the answer: reading the stream may take as long as nobody posts.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let (connection, driver) = MultiplexedConnection::new_with_config(login, socket, config).await?;
    // It ends with the last clone of the connection.
    tokio::spawn(driver);
    Ok(connection)
}

async fn in_time<T>(connecting: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    super::answered(CONNECT_TIMEOUT, connecting).await
}
