//! The two text formats of Prometheus, and the choice between them.
//!
//! prometheus-client writes OpenMetrics. A reader that does not ask for OpenMetrics gets the older
//! format, which every tool understands.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::Write;

use axum::http::{HeaderMap, header};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Text,
}

impl Format {
    /// The format for a request with these headers: OpenMetrics if `Accept` names it and prefers no
    /// other text.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let accept: Vec<_> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let quality = |wanted: &[&str]| {
            let ranges = accept.iter().flat_map(|value| value.split(','));
            let named = ranges.map(media_range).filter(|(name, _)| wanted.contains(&name.as_str()));
            named.map(|(_, quality)| quality).fold(0.0, f32::max)
        };
        let open_metrics = quality(&["application/openmetrics-text"]);
        if open_metrics > 0.0 && open_metrics >= quality(&["text/plain", "text/*"]) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The current values of all metrics in the registry.
    pub(super) fn encode(self, registry: &Registry) -> String {
        let mut open_metrics = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut open_metrics, registry);
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Text => to_text(&open_metrics),
        }
    }
}

/// The name of a media range in lower case, and its quality.
fn media_range(range: &str) -> (String, f32) {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let quality = parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().unwrap_or(0.0))
    });
    (name, quality.unwrap_or(1.0))
}

/// Converts to the older format. There a metric has the name of its samples and no unit, and
/// nothing marks the end.
fn to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut described = None;
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        // Writing to a string does not fail.
        let _ = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(_), help) => {
                described = help;
                Ok(())
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    kind => ("", kind),
                };
                let help = described.take().unwrap_or_default();
                write!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n")
            }
            // The unit is part of the name.
            (Some("#"), ..) => Ok(()),
            _ => writeln!(text, "{line}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_readers_that_prefer_it() {
        let format = |accept: &[&str]| {
            let accept = accept.iter().map(|value| (header::ACCEPT, value.parse().expect("a header value")));
            Format::accepted(&accept.collect())
        };
        // What Prometheus 3 and 2 send.
        let new = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                   application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                   text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let old = "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for accept in [&[new][..], &[old], &["text/plain;q=0.5", "Application/OpenMetrics-Text"]] {
            assert_eq!(format(accept), Format::OpenMetrics, "{accept:?}");
        }
        for accept in [
            &[][..],
            &[""],
            &["*/*"],
            &["text/html,application/xhtml+xml,*/*;q=0.8"],
            &["text/plain"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;q=x"],
            &["application/openmetrics-text;q=0.1,text/plain"],
        ] {
            assert_eq!(format(accept), Format::Text, "{accept:?}");
        }
    }

    #[test]
    fn the_older_format_names_metrics_like_their_samples() {
        let open_metrics = "# HELP calls Calls that began.\n# TYPE calls counter\ncalls_total{a=\"b # c\"} 1\n\
                            # HELP build The version.\n# TYPE build info\nbuild_info{v=\"1\"} 1\n\
                            # HELP lag_seconds Lag.\n# TYPE lag_seconds histogram\n# UNIT lag_seconds seconds\n\
                            lag_seconds_sum 0.5\n# EOF\n";
        let text = "# HELP calls_total Calls that began.\n# TYPE calls_total counter\ncalls_total{a=\"b # c\"} 1\n\
                    # HELP build_info The version.\n# TYPE build_info gauge\nbuild_info{v=\"1\"} 1\n\
                    # HELP lag_seconds Lag.\n# TYPE lag_seconds histogram\nlag_seconds_sum 0.5\n";
        assert_eq!(to_text(open_metrics), text);
    }
}
