//! What is asked of the engine.

use std::sync::Arc;

use redis::RedisConnectionInfo;

use super::Url;
use crate::net::tls::Connector;
use crate::settings::Secret;

/// An engine that keeps a room.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is.
    pub url: Url,
    /// How to get there, if its URL asks for TLS.
    pub tls: Option<Arc<Connector>>,
    /// The user that logs in to the sentinels. `None` is their default user.
    pub sentinel_user: Option<String>,
    /// The password there. It is not that of the engine.
    pub sentinel_password: Option<Secret>,
    /// The room's name there, with which all of its keys begin.
    pub room: String,
    /// How many messages the stream keeps, about; 0 for all of them.
    pub max_length: usize,
    /// How many replicas must have a message before it is acknowledged.
    pub replicas: usize,
    /// It must also be on the disk of the engine, and of so many replicas.
    pub on_disk: bool,
}

impl Settings {
    /// How to get in at the sentinels.
    pub(super) fn sentinel_login(&self) -> RedisConnectionInfo {
        let mut login = RedisConnectionInfo::default();
        if let Some(user) = &self.sentinel_user {
            login = login.set_username(user);
        }
        match &self.sentinel_password {
            Some(password) => login.set_password(password.expose()),
            None => login,
        }
    }

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
