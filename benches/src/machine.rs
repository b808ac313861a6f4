//! The machine and the versions that belong to a figure.

use std::fs;
use std::process::{Command, Stdio};

/// Processor, cores, memory and kernel, in one line.
pub fn describe() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
    };
    let processor =
        field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|size| size.strip_suffix(" kB")?.parse::<u64>().ok());
    let memory = memory.unwrap_or_default() as f64 / f64::from(1 << 20);
    let kernel = field("/proc/sys/kernel/osrelease", "").unwrap_or_default();
    format!("{processor}, {cores} cores, {memory:.1} GiB, Linux {kernel}")
}

/// The first line that a command prints, if it can be started and succeeds.
pub fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let line = String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned();
    output.status.success().then_some(line)
}
