//! Whether the certificates that are shown to peers are valid now, and a warning when they are not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use tokio_rustls::rustls;
use tracing::warn;

use super::der;
use crate::settings::File;

/// From when until when a certificate is valid, with those behind it.
#[derive(Debug)]
pub(super) struct Validity {
    file: File,
    /// `None` of certificates that are not understood.
    times: Option<(SystemTime, SystemTime)>,
    warned: AtomicBool,
}

impl Validity {
    pub(super) fn new(file: File, certificates: &[CertificateDer<'_>]) -> Self {
        let times = certificates.iter().filter_map(|certificate| der::validity(certificate));
        let times = times.reduce(|one, other| (one.0.max(other.0), one.1.min(other.1)));
        Self { file, times, warned: AtomicBool::new(false) }
    }

    /// Warns if they are not valid now, once for as long as that lasts.
    pub(super) fn look(&self) {
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
