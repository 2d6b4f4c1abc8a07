//! Options: which cases to measure, and for how long.

use std::time::Duration;

use crate::load::LoadShape;

/// Measures the targets of the design.
#[derive(Debug, clap::Parser)]
pub(crate) struct Options {
    /// Number of rounds.
    #[arg(long, env = "REACH_ROUNDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Duration of each load, in seconds.
    #[arg(long, env = "REACH_SECONDS", default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Duration of each open load, in seconds, divided by the rounds.
    #[arg(long, env = "REACH_OPEN_SECONDS", default_value_t = 60.0)]
    pub(crate) open_seconds: f64,
    /// Connections and callers per connection of the load on Shoreguard and its peers.
    #[arg(
        long,
        env = "REACH_SHAPES",
        value_delimiter = ',',
        default_value = "1x64,16x4,256x1,256x100"
    )]
    pub(crate) shapes: Vec<LoadShape>,
    /// Runs only these cases. `growth` and the `profile-` cases run only if they are named.
    #[arg(long, env = "REACH_ONLY", value_delimiter = ',')]
    only: Vec<String>,
    /// Skips these cases.
    #[arg(long, env = "REACH_SKIP", value_delimiter = ',')]
    skip: Vec<String>,
    /// Rows of the measured audit log. A million rows take about a minute to insert.
    #[arg(long, env = "REACH_AUDIT_ROWS", default_value_t = 1_000_000)]
    pub(crate) audit_rows: u32,
    /// Writes the figures of the measured cases into `docs/performance.md`.
    #[arg(long)]
    pub(crate) write_docs: bool,
    /// Flag that cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Returns whether a case is selected. A case that does not run by default must be named.
    pub(crate) fn is_selected(&self, case: &str, by_default: bool) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == case);
        let only = if self.only.is_empty() { by_default } else { named(&self.only) };
        only && !named(&self.skip)
    }

    /// Returns the duration of each load.
    pub(crate) fn load_duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Returns the duration of an open load in each round.
    pub(crate) fn open_duration(&self) -> Duration {
        Duration::from_secs_f64(self.open_seconds / f64::from(self.rounds))
    }
}
