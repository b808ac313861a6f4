//! The settings of a room in Redis.

use std::sync::Arc;

use redis::RedisConnectionInfo;

use super::url::Url;
use crate::net::tls::Connector;
use crate::settings::Secret;

/// The settings of a room in Redis.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address of Redis or of its sentinels.
    pub url: Url,
    /// The TLS of the connections, if the URL asks for TLS.
    pub tls: Option<Arc<Connector>>,
    /// The user at the sentinels. `None` is their default user.
    pub sentinel_user: Option<String>,
    /// The password at the sentinels. It is not the one of Redis.
    pub sentinel_password: Option<Secret>,
    /// The room's name. All of its keys begin with it.
    pub room: String,
    /// About how many messages the stream keeps; 0 for all.
    pub max_length: usize,
    /// How many replicas must confirm a message before it is acknowledged.
    pub replicas: usize,
    /// Whether a message must be on the disks of Redis and of these replicas before it is
    /// acknowledged.
    pub on_disk: bool,
}

impl Settings {
    /// The login at the sentinels.
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

    /// The key of the stream. Redis Cluster keeps keys with the same text in braces together.
    pub(super) fn stream(&self) -> String {
        format!("{{{}}}:stream", self.room)
    }

    /// The key of the room's state.
    pub(super) fn state(&self) -> String {
        format!("{{{}}}:state", self.room)
    }

    /// The key of a message's idempotency key.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{{{}}}:key:{key}", self.room)
    }
}
