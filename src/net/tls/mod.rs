//! TLS under both interfaces: versions 1.2 and 1.3, with certificates from files that are read again when they change.
//!
//! rustls does the protocol, and graviola what it calculates with. Of the providers that rustls has, ring and aws-lc-rs need a C
//! compiler, which nothing else here does, and those made of `RustCrypto`'s crates call themselves experimental. graviola is s2n-bignum's
//! assembler, proven to calculate what it should, with Rust around it, by one of the authors of rustls. What speaks against it: it is
//! young, we know of no audit, and it runs only on the processors below, where it panics on others. So nothing of it is touched
//! before `provider` has looked, and nothing at all while TLS is off.

mod client;
mod der;
mod identity;
mod server;
mod validity;

use std::io;
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

pub use self::client::Connector;
pub use self::identity::IdentityFiles;
pub use self::server::Acceptor;

/// What ALPN calls the protocol under gRPC.
pub const HTTP2: &[u8] = b"h2";
/// What ALPN calls the protocol of the HTTP interface.
pub const HTTP1: &[u8] = b"http/1.1";

/// There is no connection under TLS. The peer's fault or ours, it is one connection only.
#[derive(Debug, Error)]
pub enum TlsError {
    /// What it says is no TLS.
    #[error("what it speaks is not TLS")]
    NotTls,
    /// It does not show a certificate, and has to.
    #[error("it shows no certificate")]
    NoCertificate,
    /// Its certificate comes from somebody whom we do not trust.
    #[error("its certificate is not signed by the CA that is set here")]
    UnknownCa,
    /// It is not the one whose certificate is in the file.
    #[error("its certificate is not the one that is set here")]
    AnotherCertificate,
    /// It does not like what we have shown.
    #[error("it ends the handshake: {0:?}")]
    Refused(AlertDescription),
    /// Anything else that is wrong with what it says.
    #[error("{0}")]
    Other(rustls::Error),
    /// The connection broke.
    #[error(transparent)]
    Broken(io::Error),
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return Self::Broken(error);
        };
        match tls {
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => Self::UnknownCa,
            rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
                Self::AnotherCertificate
            }
            rustls::Error::AlertReceived(alert) => Self::Refused(*alert),
            other => Self::Other(other.clone()),
        }
    }
}

/// The cryptography.
///
/// # Errors
/// What this processor lacks for it.
fn provider() -> Result<Arc<CryptoProvider>, String> {
    let missing: Vec<_> = NEEDED.iter().filter(|(_, there)| !there()).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        Ok(Arc::new(rustls_graviola::default_provider()))
    } else {
        Err(format!("TLS needs a processor with {}, which this one does not have", missing.join(", ")))
    }
}

type Detect = fn() -> bool;

/// What graviola needs of a processor, by its documentation and its own check, which panics: x86-64 since about 2014, and 64-bit ARM
/// with the cryptographic extensions.
#[cfg(target_arch = "x86_64")]
const NEEDED: [(&str, Detect); 8] = [
    ("aes", || std::arch::is_x86_feature_detected!("aes")),
    ("pclmulqdq", || std::arch::is_x86_feature_detected!("pclmulqdq")),
    ("ssse3", || std::arch::is_x86_feature_detected!("ssse3")),
    ("avx", || std::arch::is_x86_feature_detected!("avx")),
    ("avx2", || std::arch::is_x86_feature_detected!("avx2")),
    ("bmi1", || std::arch::is_x86_feature_detected!("bmi1")),
    ("bmi2", || std::arch::is_x86_feature_detected!("bmi2")),
    ("adx", || std::arch::is_x86_feature_detected!("adx")),
];
#[cfg(target_arch = "aarch64")]
const NEEDED: [(&str, Detect); 4] = [
    ("neon", || std::arch::is_aarch64_feature_detected!("neon")),
    ("aes", || std::arch::is_aarch64_feature_detected!("aes")),
    ("pmull", || std::arch::is_aarch64_feature_detected!("pmull")),
    ("sha2", || std::arch::is_aarch64_feature_detected!("sha2")),
];
