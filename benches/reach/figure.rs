//! A figure: its values over the rounds, its target, and their output.

use std::io::Write as _;

use crate::Fault;

/// The values of a figure, one per round.
#[derive(Debug, Default, Clone)]
pub(crate) struct Figure {
    values: Vec<f64>,
}

/// Target of a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// Minimum.
    AtLeast(f64),
    /// Maximum.
    AtMost(f64),
    /// No target. The figure only explains another one.
    None,
}

impl Figure {
    /// Adds the value of a round.
    pub(crate) fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Divides by the other figure, round by round.
    pub(crate) fn by(&self, other: &Self) -> Self {
        let pairs = self.values.iter().zip(&other.values);
        Self { values: pairs.map(|(a, b)| a / b).collect() }
    }

    /// Subtracts the other figure, round by round.
    pub(crate) fn less(&self, other: &Self) -> Self {
        let pairs = self.values.iter().zip(&other.values);
        Self { values: pairs.map(|(a, b)| a - b).collect() }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// Prints the median, the spread, and whether the target was met in every round, in none, or in some.
    pub(crate) fn show(&self, name: &str, unit: &str, target: Target) -> Result<(), Fault> {
        let sorted = self.sorted();
        let (Some(low), Some(high)) = (sorted.first(), sorted.last()) else {
            return Err(format!("`{name}` was never measured").into());
        };
        let median = sorted[sorted.len() / 2];
        let spread = format!("[{} .. {}]", digits(*low), digits(*high));
        let target = match target {
            Target::AtLeast(least) => {
                format!(" (at least {}; {})", digits(least), verdict(*low >= least, *high >= least))
            }
            Target::AtMost(most) => {
                format!(" (at most {}; {})", digits(most), verdict(*high <= most, *low <= most))
            }
            Target::None => String::new(),
        };
        say(&format!("  {name}: {} {unit} {spread}{target}", digits(median)))
    }
}

/// Compares the worst and the best round with the target.
fn verdict(worst: bool, best: bool) -> &'static str {
    match (worst, best) {
        (true, _) => "met",
        (false, true) => "level",
        (false, false) => "missed",
    }
}

/// Formats a value with about three digits.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Prints a line and flushes the output.
pub(crate) fn say(line: &str) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
