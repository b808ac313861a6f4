//! TLS for both interfaces: versions 1.2 and 1.3, with certificates from files that are reloaded
//! when they change.
//!
//! rustls does the protocol, and graviola the cryptography. The alternatives ring and aws-lc-rs
//! need a C compiler, which nothing else here does, and the one built on `RustCrypto` calls itself
//! experimental. graviola is the formally verified assembler of s2n-bignum with Rust around it, by
//! an author of rustls. It is young, we know of no audit, and it panics on processors that lack the
//! features in `NEEDED`. So nothing of it runs before `provider` has checked them, or while TLS is
//! off.

mod client;
mod der;
mod identity;
mod pinned;
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

/// The ALPN name of the protocol under gRPC.
pub const HTTP2: &[u8] = b"h2";
/// The ALPN name of the protocol of the HTTP interface.
pub const HTTP1: &[u8] = b"http/1.1";

/// The reason why a TLS handshake failed.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The peer's bytes are not TLS.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// The peer must have a certificate, and sent none.
    #[error("the peer has no certificate")]
    NoCertificate,
    /// No configured CA has signed the peer's certificate.
    #[error("the peer's certificate is not signed by the configured CA")]
    UnknownCa,
    /// The peer is not the server whose certificate is in the file.
    #[error("the peer's certificate is not the one in the file")]
    AnotherCertificate,
    /// The peer sent an alert.
    #[error("the peer refused the handshake: {0:?}")]
    Refused(AlertDescription),
    /// Another error of the protocol.
    #[error("{0}")]
    Other(rustls::Error),
    /// The connection failed.
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
/// The features that this processor lacks for it.
fn provider() -> Result<Arc<CryptoProvider>, String> {
    let missing: Vec<_> = NEEDED.iter().filter(|(_, there)| !there()).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        Ok(Arc::new(rustls_graviola::default_provider()))
    } else {
        Err(format!("TLS needs a processor with {}, which this one does not have", missing.join(", ")))
    }
}

type Detect = fn() -> bool;

/// The processor features that graviola's own check, which panics, requires: x86-64 since about
/// 2014, and 64-bit ARM with the cryptographic extensions.
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
