//! What to measure, and for how long.

use std::time::Duration;

/// Measures what the design promises.
#[derive(Debug, clap::Parser)]
pub(crate) struct Options {
    /// How often each figure is taken, in turn with what it is compared with.
    #[arg(long, env = "REACH_ROUNDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How long each load lasts.
    #[arg(long, env = "REACH_SECONDS", default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Only these cases.
    #[arg(long, env = "REACH_ONLY", value_delimiter = ',')]
    only: Vec<String>,
    /// All cases but these.
    #[arg(long, env = "REACH_SKIP", value_delimiter = ',')]
    skip: Vec<String>,
    /// Rows of the audit list; filling a table takes about a minute for a million.
    #[arg(long, env = "REACH_AUDIT_ROWS", default_value_t = 1_000_000)]
    pub(crate) audit_rows: u32,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Whether a case is to be run.
    pub(crate) fn wants(&self, case: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == case);
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }

    /// How long each load lasts.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}
