//! What the client shows to its server, and what it asks of those who call it; all of it off by default.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use prometheus_client::registry::Registry;

use crate::net::tls::{Acceptor, Connector, HTTP1, HTTP2, IdentityFiles};
use crate::net::{self, Guard, Reload, ServerAddrs, Token};
use crate::settings::{File, settings_group};

/// How the client gets in at its server.
#[derive(Debug, Clone, Default)]
pub struct ServerAccess {
    pub(crate) access: net::Credentials,
    /// Nobody else looks after the files.
    own: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Client")]
#[group(skip)]
struct ServerFlags {
    /// Those who may have signed the certificate of an https:// server, PEM. There is no other way to trust one: a server that has
    /// signed its certificate itself is its own CA. Read again at SIGHUP and within seconds of a change, as the other files here.
    #[arg(long, env = "MESSENGER_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// The certificate that the client shows to a server that asks for one, PEM.
    #[arg(long, env = "MESSENGER_TLS_CLIENT_CERT", value_name = "FILE")]
    tls_client_cert: Option<PathBuf>,

    /// The private key of that certificate, PEM.
    #[arg(long, env = "MESSENGER_TLS_CLIENT_KEY", value_name = "FILE")]
    tls_client_key: Option<PathBuf>,

    /// The token that the server asks for: 1 to 4096 visible ASCII characters. It may also be in MESSENGER_TOKEN; there is no flag for
    /// it, because others can see the flags of a program.
    #[arg(long, env = "MESSENGER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Who gets in at the HTTP interface.
#[derive(Debug, Clone, Default)]
pub struct HttpAccess {
    /// TLS, if it is on.
    pub tls: Option<Arc<Acceptor>>,
    /// The token, if one is asked for.
    pub guard: Option<Arc<Guard>>,
}

#[derive(Args)]
#[command(next_help_heading = "Client")]
#[group(skip)]
#[allow(clippy::struct_field_names)] // They are the flags.
struct HttpFlags {
    /// The certificate of the HTTP interface, PEM, with those between it and its root behind it. With it all connections are under TLS.
    #[arg(long, env = "MESSENGER_HTTP_TLS_CERT", value_name = "FILE")]
    http_tls_cert: Option<PathBuf>,

    /// The private key of the certificate, PEM.
    #[arg(long, env = "MESSENGER_HTTP_TLS_KEY", value_name = "FILE")]
    http_tls_key: Option<PathBuf>,

    /// The token that every HTTP request needs in `Authorization: Bearer <token>`, GET /health excepted. It may also be in
    /// MESSENGER_HTTP_TOKEN.
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
                return Err(format!(
                    "{SERVER_ADDR} is \"{server}\": it needs {TLS_CA} beside it, to know the server by"
                ));
            }
            // Somebody believes that this connection is under TLS.
            (None, Some(ca), _) => return Err(ca.error(for_https()).to_string()),
            (None, None, Some(identity)) => return Err(identity.certificate.error(for_https()).to_string()),
        };
        let file = flags.token_file.map(|path| File::new("MESSENGER_TOKEN_FILE (--token-file)", path));
        let token = Token::configured("MESSENGER_TOKEN", file)?;
        Ok(Self { access: net::Credentials { tls, token }, own: true })
    }

    /// What to look after.
    pub(crate) fn files(&self) -> Vec<Arc<dyn Reload>> {
        let tls = self.access.tls.clone().map(|tls| tls as Arc<dyn Reload>);
        let token = self.access.token.clone().map(|token| token as Arc<dyn Reload>);
        tls.into_iter().chain(token).filter(|_| self.own).collect()
    }
}

fn for_https() -> String {
    format!("it is for a server with TLS, and {SERVER_ADDR} is not https://host:port")
}

impl From<net::Credentials> for ServerAccess {
    /// Of a server in the same process, which looks after the files.
    fn from(access: net::Credentials) -> Self {
        Self { access, own: false }
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

    /// Lets those be counted who did not get in.
    pub fn register(&self, registry: &mut Registry) {
        if let Some(tls) = &self.tls {
            registry.register("messenger_client_tls_refused", "TLS handshakes that went wrong", tls.refused().clone());
        }
        if let Some(guard) = &self.guard {
            registry.register("messenger_client_token_refused", "Requests without the token", guard.refused().clone());
        }
    }

    /// How to connect to the interface from the same machine, if it is under TLS: to the one with this very certificate.
    pub(crate) fn inside(&self) -> Option<Connector> {
        self.tls.clone().map(|tls| Connector::to_own(tls, HTTP1))
    }

    /// What to look after.
    pub(crate) fn files(&self) -> Vec<Arc<dyn Reload>> {
        let tls = self.tls.clone().map(|tls| tls as Arc<dyn Reload>);
        let token = self.guard.as_ref().map(|guard| Arc::clone(guard.token()) as Arc<dyn Reload>);
        tls.into_iter().chain(token).collect()
    }
}

settings_group!(ServerAccess, ServerFlags, |flags, all| ServerAccess::read(flags, all.get_one("server_addr")));
settings_group!(HttpAccess, HttpFlags, |flags, _| HttpAccess::read(flags));
