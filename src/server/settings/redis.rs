//! The engine that keeps the room, if this process does not: where it is, and what is asked of it.
//! Off by default.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::backend::redis;
use crate::net::Reload;
use crate::net::tls::{Connector, IdentityFiles};
use crate::settings::{File, Secret, count_between, settings_group, shown};

/// What keeps the room, its files read: they are checked with all other settings, before a port
/// opens.
#[derive(Debug, Clone, Default)]
pub struct RedisSettings(Option<redis::Settings>);

/// What the engine has done with a message when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Durability {
    /// It has taken it, and so have the replicas that are asked for. With `appendfsync always` that
    /// is on its own disk too.
    Memory,
    /// It is on its disk, and on those of the replicas that are asked for.
    Disk,
}

const URL: &str = "MESSENGER_REDIS_URL (--redis-url)";
const SENTINEL_USER: &str = "MESSENGER_REDIS_SENTINEL_USER (--redis-sentinel-user)";
const SENTINEL_PASSWORD: &str = "MESSENGER_REDIS_SENTINEL_PASSWORD";
const CA: &str = "MESSENGER_REDIS_TLS_CA (--redis-tls-ca)";

#[derive(Args)]
#[command(next_help_heading = "Server")]
#[group(skip)]
#[allow(clippy::struct_field_names)] // They are the flags.
struct RedisFlags {
    /// The Redis or Valkey that keeps the room, as redis://user:password@host:port/db, of which all
    /// but the host may be left out: any number of servers then serve one room. With sentinels:
    /// redis+sentinel://user:password@host:port,host:port/master/db. With rediss instead of redis
    /// it is under TLS. Without it the room is in this process.
    #[arg(long, env = "MESSENGER_REDIS_URL", value_name = "URL", hide_env_values = true)]
    redis_url: Option<redis::Url>,

    /// The user of the sentinels, if they have one for this server. Their password, which is not
    /// that of the Redis, is in MESSENGER_REDIS_SENTINEL_PASSWORD; there is no flag for it, because
    /// others can see the flags of a program.
    #[arg(long, env = "MESSENGER_REDIS_SENTINEL_USER", value_name = "NAME")]
    redis_sentinel_user: Option<String>,

    /// Those who may have signed the certificate of a rediss:// engine, PEM. Read again at SIGHUP
    /// and within seconds of a change, as the other files here.
    #[arg(long, env = "MESSENGER_REDIS_TLS_CA", value_name = "FILE")]
    redis_tls_ca: Option<PathBuf>,

    /// The certificate that the server shows to an engine that asks for one, PEM.
    #[arg(long, env = "MESSENGER_REDIS_TLS_CERT", value_name = "FILE")]
    redis_tls_cert: Option<PathBuf>,

    /// The private key of that certificate, PEM.
    #[arg(long, env = "MESSENGER_REDIS_TLS_KEY", value_name = "FILE")]
    redis_tls_key: Option<PathBuf>,

    /// The room's name there, with which its keys begin: servers with the same one serve the same
    /// room. 1 to 100 letters, digits, - and _.
    #[arg(long, env = "MESSENGER_REDIS_ROOM", value_name = "NAME", default_value = "messenger", value_parser = room_name)]
    redis_room: String,

    /// How many messages the room keeps there, about; 0 for all of them. 0 to 1000000000.
    #[arg(long, env = "MESSENGER_REDIS_MAX_LENGTH", value_name = "COUNT", default_value = "1000000",
          value_parser = count_between(0, 1_000_000_000))]
    redis_max_length: usize,

    /// How many replicas of it must have a message before it is acknowledged. 0 to 100.
    #[arg(long, env = "MESSENGER_REDIS_REPLICAS", value_name = "COUNT", default_value = "0",
          value_parser = count_between(0, 100))]
    redis_replicas: usize,

    /// What it must have done with a message before it is acknowledged: taken it into its memory,
    /// or written it to its disk, and the replicas to theirs (WAITAOF: Redis 7.2 or Valkey, with
    /// appendonly yes).
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
            // ALPN has no name for what an engine speaks.
            (Some(_), Some(ca), identity) => {
                Some(Connector::new(ca, identity, None).map_err(|error| error.to_string())?)
            }
            (Some(url), None, _) => {
                return Err(format!("{URL} is \"rediss://{url}\": it needs {CA} beside it, to know it by"));
            }
            // Somebody believes that these connections are under TLS.
            (None, Some(ca), _) => return Err(ca.error(for_tls()).to_string()),
            (None, None, Some(identity)) => return Err(identity.certificate.error(for_tls()).to_string()),
        };
        let sentinel_password = Secret::configured(SENTINEL_PASSWORD)?;
        if let (Some(user), None) = (&flags.redis_sentinel_user, &sentinel_password) {
            return Err(format!("{SENTINEL_USER} is {:?}: it needs {SENTINEL_PASSWORD} beside it", shown(user)));
        }
        if sentinel_password.is_some() && !flags.redis_url.as_ref().is_some_and(redis::Url::has_sentinels) {
            return Err(format!("{SENTINEL_PASSWORD} is set, and {URL} is not redis+sentinel://host:port/master"));
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

    /// The engine, if there is one.
    pub(crate) fn settings(&self) -> Option<redis::Settings> {
        self.0.clone()
    }

    /// What to look after.
    pub(crate) fn files(&self) -> Option<Arc<dyn Reload>> {
        self.0.as_ref()?.tls.clone().map(|tls| tls as Arc<dyn Reload>)
    }
}

fn for_tls() -> String {
    format!("it is for an engine with TLS, and {URL} is not rediss://host:port")
}

/// A parser for the room's name. Others could end a key's braces, which hold the keys of a room
/// together.
fn room_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=100).contains(&text.len()) && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err("not 1 to 100 letters, digits, - and _".to_owned())
    }
}

settings_group!(RedisSettings, RedisFlags, |flags, _| RedisSettings::read(flags));
