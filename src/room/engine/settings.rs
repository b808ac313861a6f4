//! Where the engine is, and what is asked of it.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionInfo, IntoConnectionInfo};
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

/// `redis://user:password@host:port/db`, or with `valkey://`.
#[derive(Clone)]
pub struct Url(ConnectionInfo);

/// Not where an engine can be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not redis://user:password@host:port/db, of which all but the host may be left out: {0}")]
pub struct UrlError(String);

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
    pub(super) fn info(&self) -> ConnectionInfo {
        self.0.clone()
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.starts_with("rediss://") || text.starts_with("valkeys://") {
            return Err(UrlError("TLS is not built in".to_owned()));
        }
        text.into_connection_info().map(Self).map_err(|error| UrlError(error.to_string()))
    }
}

/// Without the password.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.addr().fmt(f)
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
        ] {
            let url: Url = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("secret"));
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["", "redis", "localhost:6379", "http://localhost", "redis://", "redis://host:x", "rediss://host"] {
            assert!(text.parse::<Url>().is_err(), "{text:?}");
        }
    }
}
