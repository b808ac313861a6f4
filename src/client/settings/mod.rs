//! What can be set on the client.

mod access;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

pub use self::access::{HttpAccess, ServerAccess};
use crate::client::http::hosts::HostNames;

use crate::net::{Reload, ServerAddrs};
use crate::settings::{ByteSize, bytes_between, count_between, duration, port};

/// Which server the client reads, and how it serves HTTP.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Client")]
pub struct Settings {
    // Before the address: what is there of TLS depends on it, and each field takes its own out of what clap has parsed.
    #[command(flatten)]
    #[allow(missing_docs)]
    pub access: ServerAccess,

    /// The gRPC server, as host:port, or as https://host:port for one with TLS. It need not be there yet: the client waits for it, now and
    /// whenever it goes away. Several servers of one room have commas between them: the client begins with the first, and moves on to the
    /// next one that is there.
    #[arg(long, env = "MESSENGER_SERVER_ADDR", value_name = "HOST:PORT", default_value = "localhost:51075")]
    pub server_addr: ServerAddrs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub http: HttpSettings,
}

/// The HTTP half: all that there is to set where the server's address is known.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Client")]
pub struct HttpSettings {
    /// TCP port of the HTTP interface. 0 takes any free one, which the log then names.
    #[arg(long, env = "MESSENGER_HTTP_PORT", value_name = "PORT", default_value = "8080", value_parser = port)]
    pub http_port: u16,

    /// Address that the HTTP interface listens on. 127.0.0.1 keeps it to this machine, :: takes IPv6 and IPv4.
    #[arg(long, env = "MESSENGER_HTTP_BIND", value_name = "IP", default_value = "0.0.0.0")]
    pub http_bind: IpAddr,

    /// Names under which browsers may use the HTTP interface, with commas between them, such as chat.example.com. Addresses, localhost,
    /// names without a dot and those that end with .local, .lan, .internal or .home.arpa always may. Any other name is refused with 403,
    /// so that no web page can let its own name point here. Programs may use any name, and so may browsers where a token is set.
    #[arg(long, env = "MESSENGER_HTTP_HOSTS", value_name = "NAMES")]
    pub http_hosts: Option<HostNames>,

    /// The largest body of an HTTP request; a larger one is refused with 413. 1KiB to 64MiB. JSON may need up to six bytes for
    /// one of a message.
    #[arg(long, env = "MESSENGER_MAX_BODY_BYTES", value_name = "BYTES", default_value = "8MiB",
          value_parser = bytes_between("1KiB", "64MiB"))]
    pub max_body_bytes: ByteSize,

    /// How many connections there may be at once; one more is closed as soon as it is made. 1 to 1000000.
    #[arg(long, env = "MESSENGER_HTTP_MAX_CONNECTIONS", value_name = "COUNT", default_value = "10000",
          value_parser = count_between(1, 1_000_000))]
    pub http_max_connections: usize,

    /// How much JSON waits for the next flush at most. With more the oldest messages are dropped, and the next flush says how many in
    /// a header. 32MiB to 1TiB.
    #[arg(long, env = "MESSENGER_POSTBOX_BYTES", value_name = "BYTES", default_value = "256MiB",
          value_parser = bytes_between("32MiB", "1TiB"))]
    pub postbox_bytes: ByteSize,

    /// How much of the newest messages is kept for the page and for GET /messages, which begin with it. 64KiB to 1GiB.
    #[arg(long, env = "MESSENGER_HISTORY_BYTES", value_name = "BYTES", default_value = "8MiB",
          value_parser = bytes_between("64KiB", "1GiB"))]
    pub history_bytes: ByteSize,

    /// How long a send may take, the wait for a server that is away included. Then it fails: 503 if the server was away, 504 if
    /// it had the message but gave no answer.
    #[arg(long, env = "MESSENGER_SEND_DEADLINE", value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub send_deadline: Duration,

    /// After SIGTERM or SIGINT, how long running requests may take to end before they are cut.
    #[arg(long, env = "MESSENGER_HTTP_DRAIN_DEADLINE", value_name = "TIME", default_value = "1500ms", value_parser = duration)]
    pub http_drain_deadline: Duration,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub access: HttpAccess,
}

impl Settings {
    /// Whether there are files that are read again when they change, and at SIGHUP.
    #[must_use]
    pub fn reads_files(&self) -> bool {
        self.files().iter().any(|files| files.has_files())
    }

    /// What to look after.
    pub(crate) fn files(&self) -> Vec<Arc<dyn Reload>> {
        self.access.files().into_iter().chain(self.http.access.files()).collect()
    }
}

impl HttpSettings {
    /// Whether there are files that are read again when they change, and at SIGHUP.
    #[must_use]
    pub fn reads_files(&self) -> bool {
        self.access.files().iter().any(|files| files.has_files())
    }
}
