//! TLS and the token, both off by default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use prometheus_client::registry::Registry;

use crate::net::tls::{Acceptor, Connector, HTTP2, IdentityFiles};
use crate::net::{self, Guard, Reload, ServerAddr, Token};
use crate::settings::{File, settings_group};

/// How the server checks its callers. The files have been read, so errors in them are found before
/// a port opens.
#[derive(Debug, Clone, Default)]
pub struct AccessSettings {
    /// TLS, if the server has a certificate.
    pub tls: Option<Arc<Acceptor>>,
    /// Checks the token, if the server has one.
    pub guard: Option<Arc<Guard>>,
}

const TLS_CERT: &str = "MESSENGER_TLS_CERT (--tls-cert)";

#[derive(Args)]
#[command(next_help_heading = "Server")]
#[group(skip)]
struct AccessFlags {
    /// The server's certificate chain, PEM. With it all connections use TLS. Like the other files
    /// here, it is read again at SIGHUP and within seconds of a change.
    #[arg(long, env = "MESSENGER_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The private key of the certificate, PEM.
    #[arg(long, env = "MESSENGER_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// The CA whose certificates clients must show, PEM. Without it clients need no certificate.
    #[arg(long, env = "MESSENGER_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,

    /// A file with the token that every call except health needs, in
    /// `authorization: Bearer <token>`. It is 1 to 4096 visible ASCII characters. The token can be
    /// in MESSENGER_TOKEN instead. It has no flag, because other users can see the flags of a
    /// program.
    #[arg(long, env = "MESSENGER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl AccessSettings {
    fn read(flags: AccessFlags) -> Result<Self, String> {
        let client_ca = flags.tls_client_ca.map(|path| File::new("MESSENGER_TLS_CLIENT_CA (--tls-client-ca)", path));
        let identity =
            IdentityFiles::both((TLS_CERT, flags.tls_cert), ("MESSENGER_TLS_KEY (--tls-key)", flags.tls_key))?;
        let tls = match (identity, client_ca) {
            (None, None) => None,
            (None, Some(client_ca)) => return Err(client_ca.needs(TLS_CERT)),
            (Some(files), client_ca) => {
                Some(Acceptor::new(files, client_ca, HTTP2).map_err(|error| error.to_string())?)
            }
        };
        let file = flags.token_file.map(|path| File::new("MESSENGER_TOKEN_FILE (--token-file)", path));
        let token = Token::configured("MESSENGER_TOKEN", file)?;
        Ok(Self { tls: tls.map(Arc::new), guard: token.map(|token| Arc::new(Guard::new(token))) })
    }

    /// Registers the metrics of refused callers.
    pub fn register(&self, registry: &mut Registry) {
        if let Some(tls) = &self.tls {
            registry.register("messenger_server_tls_refused", "Failed TLS handshakes", tls.refused().clone());
        }
        if let Some(guard) = &self.guard {
            let help = "Calls without the token";
            registry.register("messenger_server_token_refused", help, guard.refused().clone());
        }
    }

    /// How a client on this machine addresses the server at `address`.
    #[must_use]
    pub fn address(&self, address: SocketAddr) -> ServerAddr {
        if self.tls.is_some() { ServerAddr::local_tls(address) } else { ServerAddr::local(address) }
    }

    /// The credentials of a client in the same process or with the same settings. It sends the
    /// token, trusts the server's certificate under any name, and shows that certificate if clients
    /// need one.
    #[must_use]
    pub fn inside(&self) -> net::Credentials {
        net::Credentials {
            tls: self.tls.clone().map(|tls| Arc::new(Connector::to_own(tls, HTTP2))),
            token: self.guard.as_ref().map(|guard| Arc::clone(guard.token())),
        }
    }

    /// The files that are read again when they change.
    pub(super) fn files(&self) -> Vec<Arc<dyn Reload>> {
        let tls = self.tls.clone().map(|tls| tls as Arc<dyn Reload>);
        let token = self.guard.as_ref().map(|guard| Arc::clone(guard.token()) as Arc<dyn Reload>);
        tls.into_iter().chain(token).collect()
    }
}

settings_group!(AccessSettings, AccessFlags, |flags, _| AccessSettings::read(flags));
