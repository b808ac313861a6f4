//! Where the engine is, and what is asked of it.

use std::fmt;
use std::str::FromStr;

use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{ConnectionInfo, IntoConnectionInfo, RedisResult};
use thiserror::Error;

/// An engine that keeps a room.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is.
    pub url: Url,
    /// The room's name there, with which all of its keys begin.
    pub room: String,
    /// How many messages the stream keeps, about; 0 for all of them.
    pub max_length: usize,
    /// How many replicas must have a message before it is acknowledged.
    pub replicas: usize,
}

/// `redis://user:password@host:port/db`, or `redis+sentinel://user:password@host:port,host:port/master/db`; or with `valkey`.
#[derive(Clone)]
pub struct Url {
    /// The engine itself, or the sentinels that know where it is.
    nodes: Vec<ConnectionInfo>,
    /// The name under which the sentinels know it.
    master: Option<String>,
}

/// Not where an engine can be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "not redis://user:password@host:port/db, of which all but the host may be left out, nor \
     redis+sentinel://user:password@host:port,host:port/master/db: {0}"
)]
pub struct UrlError(String);

/// Where sentinels listen.
const SENTINEL_PORT: u16 = 26379;

impl Settings {
    // In braces: an engine that is a cluster keeps what has the same braces in one place.
    pub(super) fn stream(&self) -> String {
        format!("{{{}}}:stream", self.room)
    }

    pub(super) fn state(&self) -> String {
        format!("{{{}}}:state", self.room)
    }

    pub(super) fn key(&self, key: &str) -> String {
        format!("{{{}}}:key:{key}", self.room)
    }
}

impl Url {
    /// A client of the engine, wherever it is now.
    ///
    /// # Errors
    /// If no sentinel knows.
    pub(super) async fn client(&self) -> RedisResult<redis::Client> {
        let engine = &self.nodes[0];
        let Some(master) = &self.master else { return redis::Client::open(engine.clone()) };
        let sentinels = self.nodes.iter().map(|node| node.addr().clone());
        let settings = engine.redis_settings();
        let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
            .set_client_to_redis_db(settings.db());
        if let Some(username) = settings.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        builder.build()?.async_get_client().await
    }

    /// Whether sentinels are to be asked.
    pub(super) fn has_sentinels(&self) -> bool {
        self.master.is_some()
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.starts_with("rediss") || text.starts_with("valkeys") {
            return Err(UrlError("TLS is not built in".to_owned()));
        }
        let node = |url: &str| url.into_connection_info().map_err(|error| UrlError(error.to_string()));
        let prefixes = ["redis+sentinel://", "valkey+sentinel://"];
        let Some(rest) = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)) else {
            return Ok(Self { nodes: vec![node(text)?], master: None });
        };
        let (at, path) =
            rest.split_once('/').ok_or_else(|| UrlError("the name of the master is missing".to_owned()))?;
        let (master, database) = path.split_once('/').unwrap_or((path, ""));
        if master.is_empty() {
            return Err(UrlError("the name of the master is missing".to_owned()));
        }
        let (user, hosts) =
            at.rsplit_once('@').map_or((String::new(), at), |(user, hosts)| (format!("{user}@"), hosts));
        let nodes = hosts.split(',').map(|host| {
            let port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
            let port = if port { String::new() } else { format!(":{SENTINEL_PORT}") };
            node(&format!("redis://{user}{host}{port}/{database}"))
        });
        Ok(Self { nodes: nodes.collect::<Result<_, _>>()?, master: Some(master.to_owned()) })
    }
}

/// Without the password.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, node) in self.nodes.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { "," }, node.addr())?;
        }
        self.master.as_ref().map_or(Ok(()), |master| write!(f, "/{master}"))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_an_engine_is_called_by() {
        for (text, shown) in [
            ("redis://localhost", "localhost:6379"),
            ("redis://10.0.0.1:7000/2", "10.0.0.1:7000"),
            ("redis://user:secret@host:1", "host:1"),
            ("redis://:secret@[::1]:1", "::1:1"),
            ("valkey://host", "host:6379"),
            ("redis+sentinel://one/room", "one:26379/room"),
            ("redis+sentinel://user:secret@one:1,[::1]:2,[::1]/room/3", "one:1,::1:2,::1:26379/room"),
        ] {
            let url: Url = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("secret"));
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "redis",
            "localhost:6379",
            "http://localhost",
            "redis://",
            "redis://host:x",
            "rediss://host",
            "redis+sentinel://host",
            "redis+sentinel://one,,two/room",
            "redis+sentinel://one/",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text:?}");
        }
    }
}
