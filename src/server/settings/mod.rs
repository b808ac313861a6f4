//! The settings of the server.

mod access;
mod redis;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

pub use self::access::AccessSettings;
pub use self::redis::RedisSettings;

use crate::net::{Budget, Reload};
use crate::room::RoomLimits;
use crate::settings::{ByteSize, bytes_between, count_between, duration, port};

/// All settings of the server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct Settings {
    /// The port of the gRPC server. 0 takes a free port, and the log names it.
    #[arg(long, env = "MESSENGER_SERVER_PORT", value_name = "PORT", default_value = "51075", value_parser = port)]
    pub server_port: u16,

    /// The address that the gRPC server listens on. 127.0.0.1 accepts callers on this machine only,
    /// :: accepts IPv6 and IPv4.
    #[arg(long, env = "MESSENGER_SERVER_BIND", value_name = "IP", default_value = "0.0.0.0")]
    pub server_bind: IpAddr,

    /// How many bytes of messages the room keeps, for all readers together. A reader that still
    /// needs a dropped message ends with RESOURCE_EXHAUSTED. 8MiB to 1TiB.
    #[arg(long, env = "MESSENGER_RETENTION_BYTES", value_name = "BYTES", default_value = "64MiB",
          value_parser = bytes_between("8MiB", "1TiB"))]
    pub retention_bytes: ByteSize,

    /// The largest message in the form that readers get. A larger one is refused with
    /// RESOURCE_EXHAUSTED. 1KiB to 4MiB, which is what gRPC libraries receive by default: a larger
    /// message would end every stream.
    #[arg(long, env = "MESSENGER_MAX_MESSAGE_BYTES", value_name = "BYTES", default_value = "4MiB",
          value_parser = bytes_between("1KiB", "4MiB"))]
    pub max_message_bytes: ByteSize,

    /// How many idempotency keys the room remembers, each for 5 minutes. If there are more, it
    /// forgets the oldest early, but none younger than 15 seconds: new keys are then refused with
    /// UNAVAILABLE. 1000 to 100000000, at most 112 bytes each. Without effect if Redis keeps the
    /// room.
    #[arg(long, env = "MESSENGER_IDEMPOTENCY_KEYS", value_name = "COUNT", default_value = "500000",
          value_parser = count_between(1_000, 100_000_000))]
    pub idempotency_keys: usize,

    /// How many connections may be open. A further one is closed at once. 1 to 1000000. An idle one
    /// takes 24 KiB, a busy one up to 64 KiB. The limit of open files applies too.
    #[arg(long, env = "MESSENGER_MAX_CONNECTIONS", value_name = "COUNT", default_value = "100000",
          value_parser = count_between(1, 1_000_000))]
    pub max_connections: usize,

    /// How many calls, including open streams, a connection may have. A caller with more waits. 1
    /// to 1000000, up to 4 KiB each.
    #[arg(long, env = "MESSENGER_MAX_STREAMS", value_name = "COUNT", default_value = "100000",
          value_parser = count_between(1, 1_000_000))]
    pub max_streams: usize,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub redis: RedisSettings,

    /// How long calls and streams may take to end after SIGTERM or SIGINT. Then the server cuts
    /// them.
    #[arg(long, env = "MESSENGER_DRAIN_DEADLINE", value_name = "TIME", default_value = "1500ms", value_parser = duration)]
    pub drain_deadline: Duration,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub access: AccessSettings,
}

/// The budget for incomplete requests, in messages of the largest size. See also
/// [`INCOMING_BYTES`].
const INCOMING_MESSAGES: usize = 16;
/// The smallest budget for incomplete requests.
const INCOMING_BYTES: usize = 16 * 1024 * 1024;

impl Settings {
    /// Whether the settings name files, which are read again when they change and at SIGHUP.
    #[must_use]
    pub fn reads_files(&self) -> bool {
        self.files().iter().any(|files| files.has_files())
    }

    /// The files that are read again when they change.
    pub(super) fn files(&self) -> Vec<Arc<dyn Reload>> {
        self.access.files().into_iter().chain(self.redis.files()).collect()
    }

    /// The limits of the room.
    pub(super) fn room_limits(&self) -> RoomLimits {
        RoomLimits { retention: self.retention_bytes.0, keys: self.idempotency_keys }
    }

    /// The limit of concurrent streams in HTTP/2. A stream is a call.
    pub(super) fn max_calls(&self) -> u32 {
        u32::try_from(self.max_streams).unwrap_or(u32::MAX)
    }

    /// The memory for incomplete requests of all callers together.
    pub(super) fn incoming_budget(&self) -> Budget {
        Budget::new((INCOMING_MESSAGES * self.max_message_bytes.0).max(INCOMING_BYTES))
    }
}
