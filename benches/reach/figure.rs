//! A figure: its values over the rounds, its target, and their output.

use std::io::Write as _;

use crate::BoxError;

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
    pub(crate) fn divided_by(&self, other: &Self) -> Self {
        let pairs = self.values.iter().zip(&other.values);
        Self { values: pairs.map(|(a, b)| a / b).collect() }
    }

    /// Subtracts the other figure, round by round.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let pairs = self.values.iter().zip(&other.values);
        Self { values: pairs.map(|(a, b)| a - b).collect() }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// Prints the median, the spread, and whether the target was met in every round, in none, or in some.
    pub(crate) fn print(&self, name: &str, unit: &str, target: Target) -> Result<(), BoxError> {
        let sorted = self.sorted();
        let (Some(low), Some(high)) = (sorted.first(), sorted.last()) else {
            return Err(format!("`{name}` was never measured").into());
        };
        let median = sorted[sorted.len() / 2];
        let spread = format!("[{} .. {}]", format_value(*low), format_value(*high));
        let target = match target {
            Target::AtLeast(least) => {
                format!(
                    " (at least {}; {})",
                    format_value(least),
                    verdict(*low >= least, *high >= least)
                )
            }
            Target::AtMost(most) => {
                format!(
                    " (at most {}; {})",
                    format_value(most),
                    verdict(*high <= most, *low <= most)
                )
            }
            Target::None => String::new(),
        };
        print_line(&format!("  {name}: {} {unit} {spread}{target}", format_value(median)))
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
fn format_value(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Prints a line and flushes the output.
pub(crate) fn print_line(line: &str) -> Result<(), BoxError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
