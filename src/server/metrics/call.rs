//! Counting one call, and one reader.

use std::sync::atomic::Ordering;
use std::time::Instant;

use tonic::Code;

use super::Metrics;
use super::labels::{GrpcMethod, StatusLabel};

/// Counts a call as handled when it ends. If it is dropped before that, its caller is gone, and it
/// counts as cancelled.
#[derive(Debug)]
pub(in crate::server) struct CountedCall {
    metrics: Metrics,
    method: &'static GrpcMethod,
    start: Option<Instant>,
    ended: bool,
}

/// Counts a reader as long as it exists.
#[derive(Debug)]
pub(in crate::server) struct CountedReader(Metrics);

impl Metrics {
    /// Counts a call that starts.
    pub(in crate::server) fn begin(&self, method: &'static GrpcMethod) -> CountedCall {
        if *method == GrpcMethod::SEND_MESSAGE {
            self.0.sends_started.inc();
        } else {
            self.0.started.get_or_create(method).inc();
        }
        let start = self.0.registered.load(Ordering::Relaxed).then(Instant::now);
        CountedCall { metrics: self.clone(), method, start, ended: false }
    }
}

impl CountedCall {
    /// Ends the call with this code. Without a code it counts as cancelled.
    pub(in crate::server) fn end(&mut self, code: Option<Code>) {
        if let Some(code) = code {
            self.count(code);
        }
    }

    /// Counts a reader that this call opened.
    pub(in crate::server) fn reader(&self) -> CountedReader {
        self.metrics.0.readers.inc();
        CountedReader(self.metrics.clone())
    }

    fn count(&mut self, code: Code) {
        self.ended = true;
        let counters = &*self.metrics.0;
        if *self.method == GrpcMethod::SEND_MESSAGE {
            if let Some(start) = self.start {
                counters.sends_handling.observe(start.elapsed().as_secs_f64());
            }
            if code == Code::Ok {
                counters.sends_handled.inc();
                return;
            }
        }
        counters.handled.get_or_create(&(*self.method, StatusLabel::new(code))).inc();
    }
}

impl Drop for CountedCall {
    fn drop(&mut self) {
        if !self.ended {
            self.count(Code::Cancelled);
        }
    }
}

impl CountedReader {
    /// Counts bytes of messages that were handed to the reader.
    pub(in crate::server) fn delivered(&self, bytes: usize) {
        self.0.0.delivered_bytes.inc_by(bytes as u64);
    }
}

impl Drop for CountedReader {
    fn drop(&mut self) {
        self.0.0.readers.dec();
    }
}
