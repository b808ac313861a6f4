//! Who gets in: TLS and the token, both off by default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use prometheus_client::registry::Registry;

use crate::net::tls::{Acceptor, Connector, HTTP2, IdentityFiles};
use crate::net::{self, Guard, Reload, ServerAddr, Token};
use crate::settings::{File, settings_group};

/// What a caller needs, read from its files: they are checked with all other settings, before a
/// port opens.
#[derive(Debug, Clone, Default)]
pub struct AccessSettings {
    /// TLS, if it is on.
    pub tls: Option<Arc<Acceptor>>,
    /// The token, if one is asked for.
    pub guard: Option<Arc<Guard>>,
}

const TLS_CERT: &str = "MESSENGER_TLS_CERT (--tls-cert)";

#[derive(Args)]
#[command(next_help_heading = "Server")]
#[group(skip)]
struct AccessFlags {
    /// The server's certificate, PEM, with those between it and its root behind it. With it all
    /// connections are under TLS. Read again at SIGHUP and within seconds of a change, as the other
    /// files here.
    #[arg(long, env = "MESSENGER_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The private key of the certificate, PEM.
    #[arg(long, env = "MESSENGER_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Every client has to show a certificate that one in this file has signed, PEM.
    #[arg(long, env = "MESSENGER_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,

    /// The token that every call needs in `authorization: Bearer <token>`, health excepted: 1 to
    /// 4096 visible ASCII characters. It may also be in MESSENGER_TOKEN; there is no flag for it,
    /// because others can see the flags of a program.
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

    /// Lets those be counted who did not get in.
    pub fn register(&self, registry: &mut Registry) {
        if let Some(tls) = &self.tls {
            registry.register("messenger_server_tls_refused", "TLS handshakes that went wrong", tls.refused().clone());
        }
        if let Some(guard) = &self.guard {
            let help = "Calls without the token";
            registry.register("messenger_server_token_refused", help, guard.refused().clone());
        }
    }

    /// The address of a server with these settings that listens on `address`, as seen from this
    /// machine.
    #[must_use]
    pub fn address(&self, address: SocketAddr) -> ServerAddr {
        if self.tls.is_some() { ServerAddr::local_tls(address) } else { ServerAddr::local(address) }
    }

    /// How whoever has these settings gets in: it has the token, trusts the server's certificate,
    /// whatever its name, and shows the same one if there has to be one.
    #[must_use]
    pub fn inside(&self) -> net::Credentials {
        net::Credentials {
            tls: self.tls.clone().map(|tls| Arc::new(Connector::to_own(tls, HTTP2))),
            token: self.guard.as_ref().map(|guard| Arc::clone(guard.token())),
        }
    }

    /// What to look after.
    pub(crate) fn files(&self) -> Vec<Arc<dyn Reload>> {
        let tls = self.tls.clone().map(|tls| tls as Arc<dyn Reload>);
        let token = self.guard.as_ref().map(|guard| Arc::clone(guard.token()) as Arc<dyn Reload>);
        tls.into_iter().chain(token).collect()
    }
}

settings_group!(AccessSettings, AccessFlags, |flags, _| AccessSettings::read(flags));
