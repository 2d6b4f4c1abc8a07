//! The machine that was measured, as far as it matters for the figures.

use serde::Serialize;
use shoreguard::clock::Clock;

use crate::tools;

/// The machine, and the programs on it.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Time at which the run began, UTC.
    pub(crate) began: String,
    /// Model of the processor.
    pub(crate) processor: String,
    /// Number of cores.
    pub(crate) cores: usize,
    /// Memory in GB.
    pub(crate) memory_gb: f64,
    /// Version of Linux.
    pub(crate) kernel: String,
    /// Versions of the programs that are measured or send the load.
    pub(crate) programs: Vec<String>,
}

impl Machine {
    /// Describes this machine.
    pub(crate) fn describe() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let kilobytes = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|value| value.trim_end_matches(" kB").trim().parse::<f64>().ok());
        Self {
            began: Clock::system().now().to_string(),
            processor: field(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_gb: (kilobytes.unwrap_or_default() * 1_024.0 / 1e9).round(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            programs: tools::versions(),
        }
    }
}

/// Returns the value of the first line with this name.
fn field(text: &str, name: &str) -> Option<String> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}
