//! A warning when the program's own certificates are not valid now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use tokio_rustls::rustls;
use tracing::warn;

use super::der;
use crate::settings::File;

/// The time in which all certificates of a chain are valid.
#[derive(Debug)]
pub(super) struct Validity {
    file: File,
    /// `None` if no certificate can be parsed.
    times: Option<(SystemTime, SystemTime)>,
    warned: AtomicBool,
}

impl Validity {
    pub(super) fn new(file: File, chain: &[CertificateDer<'_>]) -> Self {
        let times = chain.iter().filter_map(|certificate| der::validity(certificate));
        let times = times.reduce(|one, other| (one.0.max(other.0), one.1.min(other.1)));
        Self { file, times, warned: AtomicBool::new(false) }
    }

    /// Warns once when the chain is not valid, and again after it was valid in between.
    pub(super) fn check(&self) {
        let (Some((begin, end)), now) = (self.times, SystemTime::now()) else { return };
        let invalid = now < begin || now > end;
        if self.warned.swap(invalid, Ordering::Relaxed) || !invalid {
            return;
        }
        let (file, begin, end) =
            (self.file.path(), humantime::format_rfc3339_seconds(begin), humantime::format_rfc3339_seconds(end));
        if now < *begin.get_ref() {
            warn!(?file, %begin, "the certificate is not valid yet, peers will refuse it");
        } else {
            warn!(?file, %end, "the certificate has expired, peers will refuse it");
        }
    }
}
