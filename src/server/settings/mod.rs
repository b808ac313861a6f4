//! What can be set on the server.

mod access;
mod redis;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

pub use self::access::AccessSettings;
pub use self::redis::RedisSettings;

use crate::net::{Budget, Reload};
use crate::room::Limits;
use crate::settings::{ByteSize, bytes_between, count_between, duration, port};

/// Where the server listens, what it keeps, what it refuses.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct Settings {
    /// TCP port of the gRPC server. 0 takes any free one, which the log then names.
    #[arg(long, env = "MESSENGER_SERVER_PORT", value_name = "PORT", default_value = "51075", value_parser = port)]
    pub server_port: u16,

    /// Address that the gRPC server listens on. 127.0.0.1 keeps it to this machine, :: takes IPv6
    /// and IPv4.
    #[arg(long, env = "MESSENGER_SERVER_BIND", value_name = "IP", default_value = "0.0.0.0")]
    pub server_bind: IpAddr,

    /// How much the room keeps, for all readers together. A reader that is further behind than this
    /// ends with RESOURCE_EXHAUSTED. 8MiB to 1TiB.
    #[arg(long, env = "MESSENGER_RETENTION_BYTES", value_name = "BYTES", default_value = "64MiB",
          value_parser = bytes_between("8MiB", "1TiB"))]
    pub retention_bytes: ByteSize,

    /// The largest message, as it goes out to readers; a larger one is refused with
    /// RESOURCE_EXHAUSTED. 1KiB to 4MiB: 4 MiB is what every gRPC library takes by default, and a
    /// larger message would end every stream.
    #[arg(long, env = "MESSENGER_MAX_MESSAGE_BYTES", value_name = "BYTES", default_value = "4MiB",
          value_parser = bytes_between("1KiB", "4MiB"))]
    pub max_message_bytes: ByteSize,

    /// How many idempotency keys are remembered, each for 5 minutes. When there are more, the
    /// oldest go earlier, but none within 15 seconds: sends with further keys then have to wait.
    /// 1000 to 100000000, about 103 bytes each.
    #[arg(long, env = "MESSENGER_IDEMPOTENCY_KEYS", value_name = "COUNT", default_value = "500000",
          value_parser = count_between(1_000, 100_000_000))]
    pub idempotency_keys: usize,

    /// How many connections there may be at once; one more is closed as soon as it is made. 1 to
    /// 1000000, 24 KiB each, and as many as the system lets the server open files.
    #[arg(long, env = "MESSENGER_MAX_CONNECTIONS", value_name = "COUNT", default_value = "100000",
          value_parser = count_between(1, 1_000_000))]
    pub max_connections: usize,

    /// How many calls, open streams among them, a connection may have at once; a caller with more
    /// waits with them. 1 to 1000000, 4 KiB each.
    #[arg(long, env = "MESSENGER_MAX_STREAMS", value_name = "COUNT", default_value = "100000",
          value_parser = count_between(1, 1_000_000))]
    pub max_streams: usize,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub redis: RedisSettings,

    /// After SIGTERM or SIGINT, how long calls and streams may take to end before they are cut.
    #[arg(long, env = "MESSENGER_DRAIN_DEADLINE", value_name = "TIME", default_value = "1500ms", value_parser = duration)]
    pub drain_deadline: Duration,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub access: AccessSettings,
}

/// Messages that may be half here: so many of the largest ...
const INCOMING_MESSAGES: usize = 16;
/// ... or this many bytes of smaller ones.
const INCOMING_BYTES: usize = 16 * 1024 * 1024;

impl Settings {
    /// Whether there are files that are read again when they change, and at SIGHUP.
    #[must_use]
    pub fn reads_files(&self) -> bool {
        self.files().iter().any(|files| files.has_files())
    }

    /// What to look after.
    pub(crate) fn files(&self) -> Vec<Arc<dyn Reload>> {
        self.access.files().into_iter().chain(self.redis.files()).collect()
    }

    /// What the room keeps at most.
    pub(crate) fn room_limits(&self) -> Limits {
        Limits { retention: self.retention_bytes.0, keys: self.idempotency_keys }
    }

    /// What HTTP/2 calls concurrent streams.
    pub(crate) fn max_calls(&self) -> u32 {
        u32::try_from(self.max_streams).unwrap_or(u32::MAX)
    }

    /// Bytes of requests that have not come to their end, of all callers together.
    pub(crate) fn incoming_budget(&self) -> Budget {
        Budget::new((INCOMING_MESSAGES * self.max_message_bytes.0).max(INCOMING_BYTES))
    }
}
