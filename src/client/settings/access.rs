//! TLS and tokens of the client: its credentials for the server, and the access to its HTTP
//! interface. All of it is off by default.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use prometheus_client::registry::Registry;

use crate::net::tls::{Acceptor, Connector, HTTP1, HTTP2, IdentityFiles};
use crate::net::{self, Guard, Reload, ServerAddrs, Token};
use crate::settings::{File, settings_group};

/// The client's credentials for its server.
#[derive(Debug, Clone, Default)]
pub struct ServerAccess {
    pub(in crate::client) credentials: net::Credentials,
    /// Whether the client reads the files again. If not, the server in the same process does.
    reloads: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Client")]
#[group(skip)]
struct ServerFlags {
    /// The CA certificates that the client trusts for an https:// server, PEM. A server with a
    /// self-signed certificate is its own CA. All files here are read again at SIGHUP, and within
    /// seconds of a change.
    #[arg(long, env = "MESSENGER_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// The client's certificate, PEM, for a server that asks for one.
    #[arg(long, env = "MESSENGER_TLS_CLIENT_CERT", value_name = "FILE")]
    tls_client_cert: Option<PathBuf>,

    /// The private key of that certificate, PEM.
    #[arg(long, env = "MESSENGER_TLS_CLIENT_KEY", value_name = "FILE")]
    tls_client_key: Option<PathBuf>,

    /// The token for the server, 1 to 4096 visible ASCII characters. It may also be in
    /// MESSENGER_TOKEN. It has no flag, because other users can see the flags of a program.
    #[arg(long, env = "MESSENGER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The access to the HTTP interface: TLS and the token.
#[derive(Debug, Clone, Default)]
pub struct HttpAccess {
    /// The TLS configuration, if TLS is on.
    pub tls: Option<Arc<Acceptor>>,
    /// Checks the token, if one is set.
    pub guard: Option<Arc<Guard>>,
}

#[derive(Args)]
#[command(next_help_heading = "Client")]
#[group(skip)]
#[allow(clippy::struct_field_names)] // The fields are named like the flags.
struct HttpFlags {
    /// The certificate of the HTTP interface, PEM, followed by its intermediate certificates. With
    /// it, every connection uses TLS.
    #[arg(long, env = "MESSENGER_HTTP_TLS_CERT", value_name = "FILE")]
    http_tls_cert: Option<PathBuf>,

    /// The private key of that certificate, PEM.
    #[arg(long, env = "MESSENGER_HTTP_TLS_KEY", value_name = "FILE")]
    http_tls_key: Option<PathBuf>,

    /// The token that HTTP requests need in `Authorization: Bearer <token>`. Only /health, /ready,
    /// /openapi.json and the page's own files need none. It may also be in MESSENGER_HTTP_TOKEN.
    #[arg(long, env = "MESSENGER_HTTP_TOKEN_FILE", value_name = "FILE")]
    http_token_file: Option<PathBuf>,
}

const SERVER_ADDR: &str = "MESSENGER_SERVER_ADDR (--server-addr)";
const TLS_CA: &str = "MESSENGER_TLS_CA (--tls-ca)";

impl ServerAccess {
    fn read(flags: ServerFlags, servers: Option<&ServerAddrs>) -> Result<Self, String> {
        let identity = IdentityFiles::both(
            ("MESSENGER_TLS_CLIENT_CERT (--tls-client-cert)", flags.tls_client_cert),
            ("MESSENGER_TLS_CLIENT_KEY (--tls-client-key)", flags.tls_client_key),
        )?;
        let ca = flags.tls_ca.map(|path| File::new(TLS_CA, path));
        let tls = match (servers.and_then(ServerAddrs::first_tls), ca, identity) {
            (None, None, None) => None,
            (Some(_), Some(ca), identity) => {
                Some(Arc::new(Connector::new(ca, identity, Some(HTTP2)).map_err(|error| error.to_string())?))
            }
            (Some(server), None, _) => {
                return Err(format!("{SERVER_ADDR} is \"{server}\": an https:// server needs {TLS_CA} too"));
            }
            // The user expects TLS, but the connection would have none.
            (None, Some(ca), _) => return Err(ca.error(for_https()).to_string()),
            (None, None, Some(identity)) => return Err(identity.certificate.error(for_https()).to_string()),
        };
        let file = flags.token_file.map(|path| File::new("MESSENGER_TOKEN_FILE (--token-file)", path));
        let token = Token::configured("MESSENGER_TOKEN", file)?;
        Ok(Self { credentials: net::Credentials { tls, token }, reloads: true })
    }

    /// The files to read again.
    pub(super) fn files(&self) -> Vec<Arc<dyn Reload>> {
        let tls = self.credentials.tls.clone().map(|tls| tls as Arc<dyn Reload>);
        let token = self.credentials.token.clone().map(|token| token as Arc<dyn Reload>);
        tls.into_iter().chain(token).filter(|_| self.reloads).collect()
    }
}

fn for_https() -> String {
    format!("it is only for a server with TLS, but {SERVER_ADDR} is not https://host:port")
}

impl From<net::Credentials> for ServerAccess {
    /// Credentials for a server in the same process, which reads the files again.
    fn from(credentials: net::Credentials) -> Self {
        Self { credentials, reloads: false }
    }
}

impl HttpAccess {
    fn read(flags: HttpFlags) -> Result<Self, String> {
        let identity = IdentityFiles::both(
            ("MESSENGER_HTTP_TLS_CERT (--http-tls-cert)", flags.http_tls_cert),
            ("MESSENGER_HTTP_TLS_KEY (--http-tls-key)", flags.http_tls_key),
        )?;
        let tls = identity.map(|files| Acceptor::new(files, None, HTTP1)).transpose();
        let tls = tls.map_err(|error| error.to_string())?;
        let file = flags.http_token_file.map(|path| File::new("MESSENGER_HTTP_TOKEN_FILE (--http-token-file)", path));
        let token = Token::configured("MESSENGER_HTTP_TOKEN", file)?;
        Ok(Self { tls: tls.map(Arc::new), guard: token.map(|token| Arc::new(Guard::new(token))) })
    }

    /// Registers the metrics of refused connections and requests.
    pub fn register(&self, registry: &mut Registry) {
        if let Some(tls) = &self.tls {
            registry.register("messenger_client_tls_refused", "TLS handshakes that failed", tls.refused().clone());
        }
        if let Some(guard) = &self.guard {
            registry.register("messenger_client_token_refused", "Requests without the token", guard.refused().clone());
        }
    }

    /// A connector for the health check, if the interface uses TLS: it trusts only this
    /// certificate.
    pub(in crate::client) fn inside(&self) -> Option<Connector> {
        self.tls.clone().map(|tls| Connector::to_own(tls, HTTP1))
    }

    /// The files to read again.
    pub(super) fn files(&self) -> Vec<Arc<dyn Reload>> {
        let tls = self.tls.clone().map(|tls| tls as Arc<dyn Reload>);
        let token = self.guard.as_ref().map(|guard| Arc::clone(guard.token()) as Arc<dyn Reload>);
        tls.into_iter().chain(token).collect()
    }
}

settings_group!(ServerAccess, ServerFlags, |flags, all| ServerAccess::read(flags, all.get_one("server_addr")));
settings_group!(HttpAccess, HttpFlags, |flags, _| HttpAccess::read(flags));
