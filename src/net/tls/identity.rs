//! The program's own certificate and key, and the CAs that it trusts.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use tokio_rustls::rustls;

use super::der::rsa_bits;
use super::provider;
use crate::settings::{BYTE_ORDER_MARK, File, FileError};

/// The sizes of RSA keys that graviola takes.
const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;

/// The PEM files of a certificate and its key. Intermediate certificates follow in the file of the
/// certificate.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    /// The file with the certificate.
    pub certificate: File,
    /// The file with the private key.
    pub key: File,
}

impl IdentityFiles {
    /// Takes both settings or neither.
    ///
    /// # Errors
    /// One line that names the missing setting.
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

    /// Reads both files, and checks that they belong together.
    ///
    /// # Errors
    /// [`FileError`], which names the bad file.
    pub(super) fn read(&self) -> Result<Arc<CertifiedKey>, FileError> {
        let provider = provider().map_err(|reason| self.certificate.error(reason))?;
        let chain = certificates(&self.certificate)?;
        let key = pem(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| match error {
            _ if is_encrypted(&key) => {
                self.key.error("the private key is encrypted: it must have no passphrase, as `openssl pkey` writes it")
            }
            PemError::NoItemsFound => self.key.error("must contain a private key in PEM"),
            error => self.key.error(not_pem(&error)),
        })?;
        let rsa_bits = rsa_bits(&key);
        CertifiedKey::from_der(chain, key, &provider).map(Arc::new).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                self.key.error(format!("must be the key of the certificate in {}", self.certificate.path().display()))
            }
            rustls::Error::InvalidCertificate(error) => self.certificate.error(format!("bad certificate: {error}")),
            _ => self.key.error(match rsa_bits {
                Some(bits) => format!("an RSA key of {bits} bits: must have {RSA_BITS_MIN} to {RSA_BITS_MAX}"),
                None => "a key of an unknown kind: must be RSA, ECDSA (P-256, P-384) or Ed25519".to_owned(),
            }),
        })
    }

    /// Both files, to be watched for changes.
    pub(super) fn files(&self) -> [File; 2] {
        [self.certificate.clone(), self.key.clone()]
    }
}

/// The CAs in a file.
pub(super) fn roots(file: &File) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| file.error(format!("bad certificate: {error}")))?;
    }
    Ok(roots)
}

/// All certificates in a file, at least one.
fn certificates(file: &File) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = pem(file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| file.error(not_pem(&error)))?;
    if all.is_empty() {
        return Err(file.error("must contain a certificate in PEM"));
    }
    Ok(all)
}

/// The content of a PEM file, without byte order marks.
fn pem(file: &File) -> Result<Vec<u8>, FileError> {
    let mut bytes = file.read()?;
    match bytes.as_slice() {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            return Err(file.error("not PEM: is UTF-16 text, must be ASCII or UTF-8"));
        }
        [0x30, 0x80..=0xff, ..] => return Err(file.error("not PEM: is binary, as DER and PKCS #12 are")),
        _ => {}
    }
    // Also in the middle, where files were concatenated: the parser would skip the section there.
    while let Some(at) = bytes.windows(BYTE_ORDER_MARK.len()).position(|window| window == BYTE_ORDER_MARK) {
        bytes.drain(at..at + BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

/// Whether a private key in it has a passphrase, in PKCS #8 or in OpenSSL's old format.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// The error text for a file that does not parse. The parser's own message quotes a line, which may
/// be a private key that has lost its line ends.
fn not_pem(error: &PemError) -> String {
    let what = match error {
        PemError::IllegalSectionStart { .. } => "the first line of a section does not end with -----",
        PemError::MissingSectionEnd { .. } => "a section has no end",
        PemError::Base64Decode(_) => "a section is not base64",
        _ => "it does not parse",
    };
    format!("not PEM: {what}")
}
