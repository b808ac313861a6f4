//! The side that connects.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio_rustls::{TlsConnector, TlsStream, rustls};

use super::identity::roots;
use super::validity::Validity;
use super::{Acceptor, IdentityFiles, TlsError, provider};
use crate::net::{Reload, Reloaded, Socket, WatchedTcp};
use crate::settings::{File, FileError};

/// Opens connections under TLS.
#[derive(Debug)]
pub struct Connector(Trust);

/// Whom it takes for the server.
#[derive(Debug)]
enum Trust {
    /// Who has a certificate for the server's name, signed by one of these.
    Signed(Reloaded<Signed>),
    /// Who has the very certificate that this server of the same machine has, whatever its name.
    Own(Arc<Acceptor>, &'static [u8]),
}

/// What is trusted and shown at the moment.
struct Signed {
    config: Arc<ClientConfig>,
    /// Of what is shown to servers that ask for it.
    validity: Option<Validity>,
}

impl Connector {
    /// Trusts those whom a CA in this file has signed; shows an identity to servers that ask for one. `protocol` is what ALPN calls what
    /// will be spoken, if it has a name for it.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn new(ca: File, identity: Option<IdentityFiles>, protocol: Option<&'static [u8]>) -> Result<Self, FileError> {
        let files = identity.iter().flat_map(IdentityFiles::files).chain([ca.clone()]).collect();
        let config = Reloaded::new(files, move || {
            let wrong = |error: String| ca.error(error);
            let provider = provider().map_err(wrong)?;
            let roots = Arc::new(roots(&ca)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| wrong(error.to_string()))?;
            let shown = identity.as_ref().map(IdentityFiles::read).transpose()?;
            let validity = identity.iter().zip(&shown);
            let validity = validity.map(|(files, shown)| Validity::new(files.certificate.clone(), &shown.cert)).next();
            let config = config(provider, verifier, shown, protocol).map_err(|error| wrong(error.to_string()))?;
            Ok(Signed { config: Arc::new(config), validity })
        })?;
        Ok(Self(Trust::Signed(config)))
    }

    /// Connects to a server of this machine that shows the certificate of `acceptor`, and shows it the same.
    #[must_use]
    pub fn to_own(acceptor: Arc<Acceptor>, protocol: &'static [u8]) -> Self {
        Self(Trust::Own(acceptor, protocol))
    }

    /// The handshake with the server that is called `host`. It may take its time; whoever calls this has the clock.
    ///
    /// # Errors
    /// [`TlsError`]; the server has been told, if it understands.
    pub async fn connect(&self, host: &str, wire: WatchedTcp) -> Result<Socket, TlsError> {
        let config = match &self.0 {
            Trust::Signed(signed) => Arc::clone(&signed.current().config),
            Trust::Own(acceptor, protocol) => Arc::new(own(acceptor, protocol).map_err(TlsError::Other)?),
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsError::Other(Error::General(format!("{host:?} is no name for a certificate"))))?;
        let stream = TlsConnector::from(config).connect(name, wire).await?;
        Ok(Socket::Tls(Box::new(TlsStream::Client(stream))))
    }
}

impl Reload for Connector {
    fn has_files(&self) -> bool {
        matches!(self.0, Trust::Signed(_))
    }

    fn refresh(&self, asked: bool) {
        match &self.0 {
            Trust::Signed(signed) => {
                signed.refresh(asked);
                if let Some(validity) = &signed.current().validity {
                    validity.look();
                }
            }
            // Whoever serves with it looks after it.
            Trust::Own(..) => {}
        }
    }
}

fn own(acceptor: &Acceptor, protocol: &[u8]) -> Result<ClientConfig, Error> {
    let identity = acceptor.identity();
    let provider = provider().map_err(Error::General)?;
    let certificate = identity.end_entity_cert()?.clone().into_owned();
    let verifier = Arc::new(Exactly { certificate, provider: Arc::clone(&provider) });
    config(provider, verifier, Some(identity), Some(protocol))
}

fn config(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<Arc<CertifiedKey>>,
    protocol: Option<&[u8]>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        // Dangerous is what a verifier of one's own may forget. Of the two here one is rustls's own, and the other below.
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let shown: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&identity)));
            builder.with_client_cert_resolver(shown)
        }
    };
    config.alpn_protocols = protocol.into_iter().map(<[u8]>::to_vec).collect();
    Ok(config)
}

/// Takes one certificate, whoever has signed it and whatever name is in it; the server must have its key.
#[derive(Debug)]
struct Exactly {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
