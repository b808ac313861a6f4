//! Who we are: a certificate and its key.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use tokio_rustls::rustls;

use super::provider;
use crate::settings::{File, FileError};

/// Where both are, as PEM. The certificate's file goes on with those between it and the root, if there are any.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    /// The certificates.
    pub certificate: File,
    /// The private key of the first.
    pub key: File,
}

impl IdentityFiles {
    /// Both or neither.
    ///
    /// # Errors
    /// Which one is missing, in one line.
    pub fn both(
        certificate: (&'static str, Option<PathBuf>),
        key: (&'static str, Option<PathBuf>),
    ) -> Result<Option<Self>, String> {
        let ((certificate_setting, certificate), (key_setting, key)) = (certificate, key);
        match (certificate, key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Self {
                certificate: File::new(certificate_setting, certificate),
                key: File::new(key_setting, key),
            })),
            (Some(certificate), None) => Err(File::new(certificate_setting, certificate).needs(key_setting)),
            (None, Some(key)) => Err(File::new(key_setting, key).needs(certificate_setting)),
        }
    }

    /// Reads both, and checks that they belong together.
    ///
    /// # Errors
    /// Which of them is wrong, and how.
    pub(super) fn read(&self) -> Result<Arc<CertifiedKey>, FileError> {
        let provider = provider().map_err(|reason| self.certificate.error(reason))?;
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key.read()?).map_err(|error| match error {
            PemError::NoItemsFound => self.key.error("there is no private key in it, as PEM has it"),
            error => self.key.error(format!("not PEM: {error}")),
        })?;
        CertifiedKey::from_der(chain, key, &provider).map(Arc::new).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                self.key.error(format!("not the key of the certificate in {}", self.certificate.path().display()))
            }
            rustls::Error::InvalidCertificate(error) => self.certificate.error(format!("no certificate: {error}")),
            _ => self.key.error("a key of an unknown kind: it must be RSA, ECDSA (P-256, P-384) or Ed25519"),
        })
    }

    /// Both files.
    pub(super) fn files(&self) -> [File; 2] {
        [self.certificate.clone(), self.key.clone()]
    }
}

/// Those who may have signed the certificates of others.
pub(super) fn roots(file: &File) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| file.error(format!("no certificate: {error}")))?;
    }
    Ok(roots)
}

/// All certificates in a file, at least one.
fn certificates(file: &File) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = file.read()?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| file.error(format!("not PEM: {error}")))?;
    if all.is_empty() {
        return Err(file.error("there is no certificate in it, as PEM has it"));
    }
    Ok(all)
}
