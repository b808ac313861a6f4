//! The client's settings.

mod access;
mod host_names;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

pub use self::access::{HttpAccess, ServerAccess};
pub use self::host_names::{HostNames, HostNamesError};

use crate::net::{Reload, ServerAddrs};
use crate::settings::{ByteSize, bytes_between, count_between, duration, port};

/// The server of the client, and the HTTP interface.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Client")]
pub struct Settings {
    // Before the address, which it reads: each field takes its own settings out of the parsed ones.
    #[command(flatten)]
    #[allow(missing_docs)]
    pub access: ServerAccess,

    /// The gRPC server, as host:port, or as https://host:port for TLS. The client waits for a
    /// server that is away. With several servers of one room, separated by commas, the client
    /// starts with the first, and tries the next one when a server is away.
    #[arg(long, env = "MESSENGER_SERVER_ADDR", value_name = "HOST:PORT", default_value = "localhost:51075")]
    pub server_addr: ServerAddrs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub http: HttpSettings,
}

/// The HTTP interface. These are all settings of a client whose server is in the same process.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Client")]
pub struct HttpSettings {
    /// TCP port of the HTTP interface. 0 takes any free port, and the log says which.
    #[arg(long, env = "MESSENGER_HTTP_PORT", value_name = "PORT", default_value = "8080", value_parser = port)]
    pub http_port: u16,

    /// Address that the HTTP interface listens on. 127.0.0.1 admits only this machine, :: takes
    /// IPv6 and IPv4.
    #[arg(long, env = "MESSENGER_HTTP_BIND", value_name = "IP", default_value = "0.0.0.0")]
    pub http_bind: IpAddr,

    /// Host names under which browsers may use the HTTP interface, separated by commas, such as
    /// chat.example.com. IP addresses, localhost, names without a dot and names that end with
    /// .local, .lan, .internal or .home.arpa are always allowed. Any other name gets 403, so that
    /// no web page can point its own name to this client. Programs may use any name. With a token,
    /// browsers may too.
    #[arg(long, env = "MESSENGER_HTTP_HOSTS", value_name = "NAMES")]
    pub http_hosts: Option<HostNames>,

    /// The largest body of an HTTP request, 1KiB to 64MiB. A larger one gets 413. JSON may need up
    /// to six bytes for one byte of a message.
    #[arg(long, env = "MESSENGER_MAX_BODY_BYTES", value_name = "BYTES", default_value = "8MiB",
          value_parser = bytes_between("1KiB", "64MiB"))]
    pub max_body_bytes: ByteSize,

    /// The largest number of connections at a time, 1 to 1000000. Further ones are closed at once.
    #[arg(long, env = "MESSENGER_HTTP_MAX_CONNECTIONS", value_name = "COUNT", default_value = "10000",
          value_parser = count_between(1, 1_000_000))]
    pub http_max_connections: usize,

    /// How much JSON is buffered for the next flush, 32MiB to 1TiB. If there is more, the oldest
    /// messages are dropped, and a header of the next flush has their number.
    #[arg(long, env = "MESSENGER_POSTBOX_BYTES", value_name = "BYTES", default_value = "256MiB",
          value_parser = bytes_between("32MiB", "1TiB"))]
    pub postbox_bytes: ByteSize,

    /// How much of the newest messages is kept for the page and for GET /messages, 64KiB to 1GiB.
    #[arg(long, env = "MESSENGER_HISTORY_BYTES", value_name = "BYTES", default_value = "8MiB",
          value_parser = bytes_between("64KiB", "1GiB"))]
    pub history_bytes: ByteSize,

    /// How long a send may take, including the wait for a server that is away. A send that takes
    /// longer gets 503 if the server was away, or 504 if the server had the message and did not
    /// answer.
    #[arg(long, env = "MESSENGER_SEND_DEADLINE", value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub send_deadline: Duration,

    /// How long running requests may take to end after SIGTERM or SIGINT. Then they are cut.
    #[arg(long, env = "MESSENGER_HTTP_DRAIN_DEADLINE", value_name = "TIME", default_value = "1500ms", value_parser = duration)]
    pub http_drain_deadline: Duration,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub access: HttpAccess,
}

impl Settings {
    /// Whether any settings are in files, which are read again when they change and at SIGHUP.
    #[must_use]
    pub fn reads_files(&self) -> bool {
        self.files().iter().any(|files| files.has_files())
    }

    /// The files to read again.
    pub(super) fn files(&self) -> Vec<Arc<dyn Reload>> {
        self.access.files().into_iter().chain(self.http.access.files()).collect()
    }
}

impl HttpSettings {
    /// Whether any settings are in files, which are read again when they change and at SIGHUP.
    #[must_use]
    pub fn reads_files(&self) -> bool {
        self.access.files().iter().any(|files| files.has_files())
    }
}
