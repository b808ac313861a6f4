//! The Redis that keeps the room. Without a URL the room is in the memory of this process.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::backend::redis;
use crate::net::Reload;
use crate::net::tls::{Connector, IdentityFiles};
use crate::settings::{File, Secret, count_between, settings_group, shown};

/// The settings of Redis, if it keeps the room. Its files have been read, so errors in them are
/// found before a port opens.
#[derive(Debug, Clone, Default)]
pub struct RedisSettings(Option<redis::Settings>);

/// Where Redis must have a message before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Durability {
    /// In the memory of the master and of the required replicas. With `appendfsync always` it is on
    /// the master's disk too.
    Memory,
    /// On the disks of the master and of the required replicas.
    Disk,
}

const URL: &str = "MESSENGER_REDIS_URL (--redis-url)";
const SENTINEL_USER: &str = "MESSENGER_REDIS_SENTINEL_USER (--redis-sentinel-user)";
const SENTINEL_PASSWORD: &str = "MESSENGER_REDIS_SENTINEL_PASSWORD";
const CA: &str = "MESSENGER_REDIS_TLS_CA (--redis-tls-ca)";

#[derive(Args)]
#[command(next_help_heading = "Server")]
#[group(skip)]
#[allow(clippy::struct_field_names, reason = "the fields are the flags")]
struct RedisFlags {
    /// The Redis or Valkey that keeps the room, so that any number of servers can serve it:
    /// redis://user:password@host:port/db, of which only the host is required. With sentinels:
    /// redis+sentinel://user:password@host:port,host:port/master/db. With rediss instead of redis
    /// the connections use TLS. Without this setting the room is in the server's memory.
    #[arg(long, env = "MESSENGER_REDIS_URL", value_name = "URL", hide_env_values = true)]
    redis_url: Option<redis::Url>,

    /// The user for the sentinels; the default user if not set. The sentinels' password is in
    /// MESSENGER_REDIS_SENTINEL_PASSWORD. It has no flag, because other users can see the flags of
    /// a program.
    #[arg(long, env = "MESSENGER_REDIS_SENTINEL_USER", value_name = "NAME")]
    redis_sentinel_user: Option<String>,

    /// The CA of a rediss:// server, PEM. Like the other files here, it is read again at SIGHUP and
    /// within seconds of a change.
    #[arg(long, env = "MESSENGER_REDIS_TLS_CA", value_name = "FILE")]
    redis_tls_ca: Option<PathBuf>,

    /// The certificate that the server shows to Redis, PEM.
    #[arg(long, env = "MESSENGER_REDIS_TLS_CERT", value_name = "FILE")]
    redis_tls_cert: Option<PathBuf>,

    /// The private key of that certificate, PEM.
    #[arg(long, env = "MESSENGER_REDIS_TLS_KEY", value_name = "FILE")]
    redis_tls_key: Option<PathBuf>,

    /// The name of the room in Redis. All keys of the room begin with it, and servers with the same
    /// name serve the same room. 1 to 100 letters, digits, - and _.
    #[arg(long, env = "MESSENGER_REDIS_ROOM", value_name = "NAME", default_value = "messenger",
          value_parser = room_name)]
    redis_room: String,

    /// About how many messages Redis keeps; 0 keeps all. 0 to 1000000000.
    #[arg(long, env = "MESSENGER_REDIS_MAX_LENGTH", value_name = "COUNT", default_value = "1000000",
          value_parser = count_between(0, 1_000_000_000))]
    redis_max_length: usize,

    /// How many replicas must have a message before it is acknowledged. 0 to 100.
    #[arg(long, env = "MESSENGER_REDIS_REPLICAS", value_name = "COUNT", default_value = "0",
          value_parser = count_between(0, 100))]
    redis_replicas: usize,

    /// Where Redis and the required replicas must have a message before it is acknowledged. disk
    /// uses WAITAOF, which needs Redis 7.2 or Valkey, with appendonly yes.
    #[arg(long, env = "MESSENGER_REDIS_DURABILITY", value_name = "WHERE", value_enum, default_value = "memory")]
    redis_durability: Durability,
}

impl RedisSettings {
    fn read(flags: RedisFlags) -> Result<Self, String> {
        let identity = IdentityFiles::both(
            ("MESSENGER_REDIS_TLS_CERT (--redis-tls-cert)", flags.redis_tls_cert),
            ("MESSENGER_REDIS_TLS_KEY (--redis-tls-key)", flags.redis_tls_key),
        )?;
        let ca = flags.redis_tls_ca.map(|path| File::new(CA, path));
        let tls = match (flags.redis_url.as_ref().filter(|url| url.is_tls()), ca, identity) {
            (None, None, None) => None,
            // ALPN has no name for the protocol of Redis.
            (Some(_), Some(ca), identity) => {
                Some(Connector::new(ca, identity, None).map_err(|error| error.to_string())?)
            }
            (Some(url), None, _) => return Err(format!("{URL} is \"rediss://{url}\": needs {CA} beside it")),
            // These settings without TLS are an error, because the user expects that the
            // connections are encrypted.
            (None, Some(ca), _) => return Err(ca.error(needs_tls()).to_string()),
            (None, None, Some(identity)) => return Err(identity.certificate.error(needs_tls()).to_string()),
        };
        let sentinel_password = Secret::configured(SENTINEL_PASSWORD)?;
        if let (Some(user), None) = (&flags.redis_sentinel_user, &sentinel_password) {
            return Err(format!("{SENTINEL_USER} is {:?}: needs {SENTINEL_PASSWORD} beside it", shown(user)));
        }
        if sentinel_password.is_some() && !flags.redis_url.as_ref().is_some_and(redis::Url::has_sentinels) {
            return Err(format!("{SENTINEL_PASSWORD} is set: {URL} must be redis+sentinel://host:port/master"));
        }
        Ok(Self(flags.redis_url.map(|url| redis::Settings {
            url,
            tls: tls.map(Arc::new),
            sentinel_user: flags.redis_sentinel_user,
            sentinel_password,
            room: flags.redis_room,
            max_length: flags.redis_max_length,
            replicas: flags.redis_replicas,
            on_disk: flags.redis_durability == Durability::Disk,
        })))
    }

    /// The settings of the backend, or `None` if the room is in memory.
    pub(crate) fn settings(&self) -> Option<redis::Settings> {
        self.0.clone()
    }

    /// The files that are read again when they change.
    pub(super) fn files(&self) -> Option<Arc<dyn Reload>> {
        self.0.as_ref()?.tls.clone().map(|tls| tls as Arc<dyn Reload>)
    }
}

fn needs_tls() -> String {
    format!("needs {URL} to be rediss://host:port")
}

/// Parses the room's name. Other characters could end the braces around it, which keep the keys of
/// a room in one slot of Redis.
fn room_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=100).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 100 letters, digits, - and _".to_owned())
    }
}

settings_group!(RedisSettings, RedisFlags, |flags, _| RedisSettings::read(flags));
