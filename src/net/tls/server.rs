//! TLS for the side that accepts.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::{TlsAcceptor, TlsStream, rustls};
use tracing::debug;

use super::identity::roots;
use super::pinned::SignedOrPinnedClient;
use super::validity::Validity;
use super::{IdentityFiles, TlsError, provider};
use crate::net::{Reload, Reloaded, Socket, WatchedTcp};
use crate::settings::{File, FileError};

/// Does the TLS handshakes of accepted connections, and counts those that fail.
#[derive(Debug)]
pub struct Acceptor {
    loaded: Reloaded<Loaded>,
    refused: Counter,
}

struct Loaded {
    identity: Arc<CertifiedKey>,
    validity: Validity,
    config: Arc<ServerConfig>,
}

impl Acceptor {
    /// Shows this identity. With a `client_ca`, every client must have a certificate signed by a CA
    /// in that file. A peer that asks by ALPN for other protocols than `protocol` is refused; one
    /// that does not use ALPN gets `protocol`.
    ///
    /// # Errors
    /// [`FileError`], which names the bad file.
    pub fn new(identity: IdentityFiles, client_ca: Option<File>, protocol: &'static [u8]) -> Result<Self, FileError> {
        let files = identity.files().into_iter().chain(client_ca.clone()).collect();
        let loaded = Reloaded::new(files, move || {
            let own = identity.read()?;
            let wrong = |error: String| identity.certificate.error(error);
            let provider = provider().map_err(wrong)?;
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| wrong(error.to_string()))?;
            let builder = match &client_ca {
                None => builder.with_no_client_auth(),
                Some(file) => {
                    let signed = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(file)?), provider);
                    let signed = signed.build().map_err(|error| file.error(error.to_string()))?;
                    let pinned = own.end_entity_cert().map_err(|error| wrong(error.to_string()))?.clone().into_owned();
                    builder.with_client_cert_verifier(Arc::new(SignedOrPinnedClient { signed, pinned }))
                }
            };
            let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&own))));
            config.alpn_protocols = vec![protocol.to_vec()];
            let validity = Validity::new(identity.certificate.clone(), &own.cert);
            Ok(Loaded { identity: own, validity, config: Arc::new(config) })
        })?;
        Ok(Self { loaded, refused: Counter::default() })
    }

    /// Does the handshake. The caller sets the timeout.
    ///
    /// # Errors
    /// [`TlsError`]. The peer has got an alert, if it speaks TLS.
    pub async fn accept(&self, stream: WatchedTcp) -> Result<Socket, TlsError> {
        match TlsAcceptor::from(Arc::clone(&self.loaded.current().config)).accept(stream).await {
            Ok(stream) => Ok(Socket::Tls(Box::new(TlsStream::Server(stream)))),
            Err(error) => {
                let error = TlsError::from(error);
                self.refused.inc();
                debug!(%error, "TLS handshake failed");
                Err(error)
            }
        }
    }

    /// How many handshakes have failed.
    #[must_use]
    pub fn refused(&self) -> &Counter {
        &self.refused
    }

    /// The certificate and key that peers see now.
    pub(super) fn identity(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.loaded.current().identity)
    }
}

impl Reload for Acceptor {
    fn has_files(&self) -> bool {
        self.loaded.has_files()
    }

    fn refresh(&self, forced: bool) {
        self.loaded.refresh(forced);
        self.loaded.current().validity.check();
    }
}
