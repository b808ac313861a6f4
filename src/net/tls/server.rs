//! The side that is connected to.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use tokio_rustls::{TlsAcceptor, TlsStream, rustls};
use tracing::debug;

use super::identity::roots;
use super::validity::Validity;
use super::{IdentityFiles, TlsError, provider};
use crate::net::{Reload, Reloaded, Socket, WatchedTcp};
use crate::settings::{File, FileError};

/// Takes connections under TLS, and counts those with which that went wrong.
#[derive(Debug)]
pub struct Acceptor {
    now: Reloaded<Now>,
    refused: Counter,
}

/// What is shown and asked for at the moment.
struct Now {
    identity: Arc<CertifiedKey>,
    validity: Validity,
    config: Arc<ServerConfig>,
}

impl Acceptor {
    /// Shows this identity. With a `client_ca` every client has to show a certificate that it has signed. `protocol` is the one that a
    /// peer gets which asks for one by ALPN; if it asks only for others it is refused, and if it does not ask it gets this one.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn new(identity: IdentityFiles, client_ca: Option<File>, protocol: &'static [u8]) -> Result<Self, FileError> {
        let files = identity.files().into_iter().chain(client_ca.clone()).collect();
        let now = Reloaded::new(files, move || {
            let shown = identity.read()?;
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
                    let own = shown.end_entity_cert().map_err(|error| wrong(error.to_string()))?.clone().into_owned();
                    builder.with_client_cert_verifier(Arc::new(SignedOrOwn { signed, own }))
                }
            };
            let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&shown))));
            config.alpn_protocols = vec![protocol.to_vec()];
            let validity = Validity::new(identity.certificate.clone(), &shown.cert);
            Ok(Now { identity: shown, validity, config: Arc::new(config) })
        })?;
        Ok(Self { now, refused: Counter::default() })
    }

    /// The handshake. A peer may take its time; whoever calls this has the clock.
    ///
    /// # Errors
    /// [`TlsError`]; the peer has been told, if it understands.
    pub async fn accept(&self, wire: WatchedTcp) -> Result<Socket, TlsError> {
        match TlsAcceptor::from(Arc::clone(&self.now.current().config)).accept(wire).await {
            Ok(stream) => Ok(Socket::Tls(Box::new(TlsStream::Server(stream)))),
            Err(error) => {
                let error = TlsError::from(error);
                self.refused.inc();
                debug!(%error, "no TLS with a peer");
                Err(error)
            }
        }
    }

    /// How many handshakes have gone wrong.
    #[must_use]
    pub fn refused(&self) -> &Counter {
        &self.refused
    }

    /// What is shown at the moment.
    pub(super) fn identity(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.now.current().identity)
    }
}

impl Reload for Acceptor {
    fn has_files(&self) -> bool {
        self.now.has_files()
    }

    fn refresh(&self, asked: bool) {
        self.now.refresh(asked);
        self.now.current().validity.look();
    }
}

/// Lets a client in whose certificate is signed by the CA, or is the server's own: who has its key is the server, or whoever runs it. So
/// the server's health check gets in, and a client in the same process.
#[derive(Debug)]
struct SignedOrOwn {
    signed: Arc<dyn ClientCertVerifier>,
    own: CertificateDer<'static>,
}

impl ClientCertVerifier for SignedOrOwn {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if *end_entity == self.own {
            return Ok(ClientCertVerified::assertion());
        }
        self.signed.verify_client_cert(end_entity, intermediates, now)
    }

    // Whether it has the key, of one certificate as of the other.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}
