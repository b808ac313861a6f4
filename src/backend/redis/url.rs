//! The address of Redis.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use thiserror::Error;

/// `redis://user:password@host:port/db`, or
/// `redis+sentinel://user:password@host:port,host:port/master/db`. `rediss` asks for TLS. `valkey`
/// and `valkeys` mean the same.
#[derive(Clone)]
pub struct Url {
    /// Redis itself, or its sentinels: at least one.
    nodes: Vec<Node>,
    /// The name of the master, which the sentinels know.
    master: Option<String>,
    /// User, password and database at Redis. Sentinels have their own login, or none.
    login: RedisConnectionInfo,
    tls: bool,
}

/// A host and a port. An IPv6 address has no brackets here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
}

/// The text is not an address of Redis. The error does not repeat the text, because a password may
/// be anywhere in it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "must be redis://user:password@host:port/db, where only the host is required, or \
     redis+sentinel://user:password@host:port,host:port/master/db, or either with rediss: {0}"
)]
pub struct UrlError(&'static str);

/// The default port of sentinels.
const SENTINEL_PORT: u16 = 26379;

/// The schemes, and whether each asks for TLS.
const SCHEMES: [(&str, bool); 4] = [("redis", false), ("valkey", false), ("rediss", true), ("valkeys", true)];
/// The end of a scheme whose hosts are sentinels.
const SENTINEL: &str = "+sentinel";

impl Url {
    /// Redis itself, or its sentinels: at least one.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The name of the master, if the nodes are sentinels.
    pub(super) fn master(&self) -> Option<&str> {
        self.master.as_deref()
    }

    /// The login at Redis.
    pub(super) fn login(&self) -> &RedisConnectionInfo {
        &self.login
    }

    /// Whether the nodes are sentinels.
    #[must_use]
    pub fn has_sentinels(&self) -> bool {
        self.master.is_some()
    }

    /// Whether all connections use TLS, also those to sentinels.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError("there is no :// in it"))?;
        let (scheme, sentinels) = scheme.strip_suffix(SENTINEL).map_or((scheme, false), |scheme| (scheme, true));
        let tls = SCHEMES.iter().find(|(name, _)| *name == scheme).map(|(_, tls)| *tls);
        let tls = tls.ok_or(UrlError("its scheme is none of redis, rediss, valkey, valkeys"))?;
        // In a password these characters would end it, and its rest would be a part of the host,
        // which is shown.
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        if rest.contains(['?', '#']) || path.contains('@') {
            return Err(UrlError("it has ? or #, or / before @: in a password write %3F, %23 and %2F"));
        }
        if !sentinels {
            let (node, login) = node(rest)?;
            return Ok(Self { nodes: vec![node], master: None, login, tls });
        }
        let no_master = || UrlError("the name of the master is missing");
        let (at, path) = rest.split_once('/').ok_or_else(no_master)?;
        let (master, database) = path.split_once('/').unwrap_or((path, ""));
        if master.is_empty() {
            return Err(no_master());
        }
        let (user, hosts) =
            at.rsplit_once('@').map_or((String::new(), at), |(user, hosts)| (format!("{user}@"), hosts));
        let nodes = hosts.split(',').map(|host| {
            let port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
            let port = if port { String::new() } else { format!(":{SENTINEL_PORT}") };
            node(&format!("{user}{host}{port}/{database}"))
        });
        let (nodes, logins): (Vec<_>, Vec<_>) = nodes.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let login = logins.into_iter().next().ok_or_else(no_master)?;
        Ok(Self { nodes, master: Some(master.to_owned()), login, tls })
    }
}

/// Parses the part of a URL after its scheme, if it has one host.
fn node(rest: &str) -> Result<(Node, RedisConnectionInfo), UrlError> {
    // The crate's parser takes `rediss` only with the crate's own TLS, which is not pure Rust.
    let info: Result<ConnectionInfo, _> = format!("redis://{rest}").into_connection_info();
    let info = info.map_err(|_| UrlError("the part behind :// is not user:password@host:port/db"))?;
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => {
            Ok((Node { host: host.clone(), port: *port }, info.redis_settings().clone()))
        }
        _ => Err(UrlError("it has no host and port")),
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The nodes and the master, without the login.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, node) in self.nodes.iter().enumerate() {
            write!(f, "{}{node}", if index == 0 { "" } else { "," })?;
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
    fn parses_each_form_and_shows_no_password() {
        for (text, shown) in [
            ("redis://localhost", "localhost:6379"),
            ("redis://10.0.0.1:7000/2", "10.0.0.1:7000"),
            ("redis://user:secret@host:1", "host:1"),
            ("redis://:secret@[::1]:1", "::1:1"),
            ("valkey://host", "host:6379"),
            ("rediss://host", "host:6379"),
            ("valkeys://user:secret@host:7", "host:7"),
            ("rediss+sentinel://one/room", "one:26379/room"),
            ("redis+sentinel://one/room", "one:26379/room"),
            ("redis+sentinel://user:secret@one:1,[::1]:2,[::1]/room/3", "one:1,::1:2,::1:26379/room"),
        ] {
            let url: Url = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("secret"));
            assert_eq!(url.is_tls(), text.starts_with("rediss") || text.starts_with("valkeys"), "{text}");
        }
    }

    #[test]
    fn refuses_any_other_text() {
        for text in [
            "",
            "redis",
            "localhost:6379",
            "http://localhost",
            "redis://",
            "redis://host:x",
            "redisss://host",
            "sentinel://host/room",
            "+sentinel://host/room",
            "redis+sentinel://host",
            "redis+sentinel://one,,two/room",
            "redis+sentinel://one/",
            // "12" is a part of the password, and would be shown as the port.
            "redis://user:12#s3cret@host",
            "redis://user:12?s3cret@host",
            "redis://user:12/s3cret@host",
            "redis+sentinel://user:12/s3cret@host/room",
        ] {
            let error = text.parse::<Url>().expect_err(text).to_string();
            assert!(!error.contains("12") && !error.contains("s3cret"), "{error}");
        }
    }
}
