//! TLS for the side that connects.

use std::sync::Arc;

use rustls::client::{ResolvesClientCert, WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, Error, WantsVerifier};
use tokio_rustls::{TlsConnector, TlsStream, rustls};

use super::identity::roots;
use super::pinned::PinnedServer;
use super::validity::Validity;
use super::{Acceptor, IdentityFiles, TlsError, provider};
use crate::net::{Reload, Reloaded, Socket, WatchedTcp};
use crate::settings::{File, FileError};

/// Opens connections with TLS.
#[derive(Debug)]
pub struct Connector(Trust);

/// The servers that a connector trusts.
#[derive(Debug)]
enum Trust {
    /// Servers with a certificate for their name, signed by a CA.
    Signed(Reloaded<Signed>),
    /// The server that uses this acceptor, on this machine, recognised by its certificate. The
    /// bytes are the protocol for ALPN.
    Pinned(Arc<Acceptor>, &'static [u8]),
}

struct Signed {
    config: Arc<ClientConfig>,
    /// The validity of the client's own certificate, if it has one.
    validity: Option<Validity>,
}

impl Connector {
    /// Trusts servers whose certificate is signed by a CA in this file. `identity` is for servers
    /// that ask for a certificate. `protocol` is for ALPN, if ALPN has a name for the protocol.
    ///
    /// # Errors
    /// [`FileError`], which names the bad file.
    pub fn new(ca: File, identity: Option<IdentityFiles>, protocol: Option<&'static [u8]>) -> Result<Self, FileError> {
        let files = identity.iter().flat_map(IdentityFiles::files).chain([ca.clone()]).collect();
        let config = Reloaded::new(files, move || {
            let wrong = |error: String| ca.error(error);
            let provider = provider().map_err(wrong)?;
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(&ca)?), Arc::clone(&provider))
                .build()
                .map_err(|error| wrong(error.to_string()))?;
            let own = identity.as_ref().map(IdentityFiles::read).transpose()?;
            let validity = identity.iter().zip(&own);
            let validity = validity.map(|(files, own)| Validity::new(files.certificate.clone(), &own.cert)).next();
            let builder = builder(provider).map_err(|error| wrong(error.to_string()))?;
            let config = config(builder.with_webpki_verifier(verifier), own, protocol);
            Ok(Signed { config: Arc::new(config), validity })
        })?;
        Ok(Self(Trust::Signed(config)))
    }

    /// Connects to the server of `acceptor`, on this machine: trusts its certificate, and shows the
    /// same one if the server asks for a certificate.
    #[must_use]
    pub fn to_own(acceptor: Arc<Acceptor>, protocol: &'static [u8]) -> Self {
        Self(Trust::Pinned(acceptor, protocol))
    }

    /// Does the handshake with the server of the name `host`. The caller sets the timeout.
    ///
    /// # Errors
    /// [`TlsError`]. The server has got an alert, if it speaks TLS.
    pub async fn connect(&self, host: &str, stream: WatchedTcp) -> Result<Socket, TlsError> {
        let config = match &self.0 {
            Trust::Signed(signed) => Arc::clone(&signed.current().config),
            Trust::Pinned(acceptor, protocol) => Arc::new(pinned(acceptor, protocol).map_err(TlsError::Other)?),
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsError::Other(Error::General(format!("no certificate can be for {host:?}"))))?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Socket::Tls(Box::new(TlsStream::Client(stream))))
    }
}

impl Reload for Connector {
    fn has_files(&self) -> bool {
        matches!(self.0, Trust::Signed(_))
    }

    fn refresh(&self, forced: bool) {
        match &self.0 {
            Trust::Signed(signed) => {
                signed.refresh(forced);
                if let Some(validity) = &signed.current().validity {
                    validity.check();
                }
            }
            // The acceptor reloads its own files.
            Trust::Pinned(..) => {}
        }
    }
}

fn pinned(acceptor: &Acceptor, protocol: &[u8]) -> Result<ClientConfig, Error> {
    let identity = acceptor.identity();
    let provider = provider().map_err(Error::General)?;
    let certificate = identity.end_entity_cert()?.clone().into_owned();
    let verifier = Arc::new(PinnedServer { certificate, provider: Arc::clone(&provider) });
    let builder = builder(provider)?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(config(builder, Some(identity), Some(protocol)))
}

fn builder(provider: Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

fn config(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Option<Arc<CertifiedKey>>,
    protocol: Option<&[u8]>,
) -> ClientConfig {
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let own: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&identity)));
            builder.with_client_cert_resolver(own)
        }
    };
    config.alpn_protocols = protocol.into_iter().map(<[u8]>::to_vec).collect();
    config
}
