//! Options: which cases to measure, and for how long.

use std::time::Duration;

/// Measures the targets of the design.
#[derive(Debug, clap::Parser)]
pub(crate) struct Options {
    /// Number of rounds.
    #[arg(long, env = "REACH_ROUNDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Duration of each load, in seconds.
    #[arg(long, env = "REACH_SECONDS", default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Runs only these cases.
    #[arg(long, env = "REACH_ONLY", value_delimiter = ',')]
    only: Vec<String>,
    /// Skips these cases.
    #[arg(long, env = "REACH_SKIP", value_delimiter = ',')]
    skip: Vec<String>,
    /// Rows of the measured audit log. A million rows take about a minute to insert.
    #[arg(long, env = "REACH_AUDIT_ROWS", default_value_t = 1_000_000)]
    pub(crate) audit_rows: u32,
    /// Flag that cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Returns whether a case is selected.
    pub(crate) fn is_selected(&self, case: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == case);
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }

    /// Returns the duration of each load.
    pub(crate) fn load_duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}
