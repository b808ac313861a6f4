//! Metrics of the process, under the names that Prometheus libraries use:
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::process::file_limit;

/// The unit of time in `/proc/self/stat`. Linux uses it on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the metrics from `/proc` with every scrape. Metrics that the system does not have are left
/// out.
#[derive(Debug)]
pub(super) struct Process {
    start: Duration,
}

impl Process {
    /// The metrics of this process, which has just started.
    pub(super) fn new() -> Self {
        Self { start: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut put = |name: &str, help: &str, metric: Option<&dyn EncodeMetric>| match metric {
            Some(metric) => metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?),
            None => Ok(()),
        };
        let cpu = cpu_seconds().map(ConstCounter::new);
        put("process_cpu_seconds", "CPU time", cpu.as_ref().map(|cpu| cpu as &dyn EncodeMetric))?;
        let open = fs::read_dir("/proc/self/fd").ok().and_then(|entries| i64::try_from(entries.count()).ok());
        let most = Some(file_limit()).filter(|most| *most < usize::MAX).and_then(|most| i64::try_from(most).ok());
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory", memory("VmRSS:")),
            ("process_virtual_memory_bytes", "Virtual memory", memory("VmSize:")),
            ("process_open_fds", "Open files", open),
            ("process_max_fds", "The limit of open files", most),
        ] {
            let gauge = value.map(ConstGauge::new);
            put(name, help, gauge.as_ref().map(|gauge| gauge as &dyn EncodeMetric))?;
        }
        let start = ConstGauge::new(self.start.as_secs_f64());
        put("process_start_time_seconds", "When the process started, in seconds since 1970", Some(&start))
    }
}

/// A field of `/proc/self/status`, in bytes.
fn memory(field: &str) -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.split_whitespace().next()?.parse::<i64>().ok()? * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program may contain spaces, and ends with the last parenthesis. User and
    // system time are the 12th and 13th fields after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).map_while(|field| field.parse::<f64>().ok());
    Some((fields.next()? + fields.next()?) / TICKS_PER_SECOND)
}
