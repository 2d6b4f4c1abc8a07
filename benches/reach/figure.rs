//! A figure: its values over the rounds, its target, and their output.

use std::io::Write as _;

use serde::Serialize;

use crate::BoxError;
use crate::report::{self, Entry};

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

/// Median and spread of the values of a figure.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Summary {
    /// Median.
    pub(crate) median: f64,
    /// Smallest value.
    pub(crate) low: f64,
    /// Largest value.
    pub(crate) high: f64,
}

/// A figure as it is printed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FigureEntry {
    /// Name.
    pub(crate) name: String,
    /// Unit.
    pub(crate) unit: String,
    /// Median and spread.
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// The values of all rounds.
    values: Vec<f64>,
    /// The target and whether it was met. `None` if the figure has no target.
    pub(crate) judgment: Option<Judgment>,
}

/// A target and whether it was met.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Judgment {
    /// The target, such as `at least 3.00`.
    pub(crate) target: String,
    /// `met` or `missed` if all rounds agree, otherwise `level`.
    pub(crate) verdict: &'static str,
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

    /// Multiplies by a factor.
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        Self { values: self.values.iter().map(|value| value * factor).collect() }
    }

    /// Returns the median and the spread. `None` if nothing was measured.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        Some(Summary { median: sorted[sorted.len() / 2], low, high })
    }

    /// Prints and records the median, the spread, and whether the target was met in every round, in none, or in some.
    pub(crate) fn print(&self, name: &str, unit: &str, target: Target) -> Result<(), BoxError> {
        let Some(summary) = self.summary() else {
            return Err(format!("`{name}` was never measured").into());
        };
        let judgment = target.judge(summary);
        let shown = judgment
            .as_ref()
            .map_or_else(String::new, |judged| format!(" ({}; {})", judged.target, judged.verdict));
        print_line(&format!("  {name}: {} {unit} {}{shown}", summary.median(), summary.spread()))?;
        let (name, unit) = (name.to_owned(), unit.to_owned());
        let values = self.values.clone();
        report::record(Entry::Figure(FigureEntry { name, unit, summary, values, judgment }));
        Ok(())
    }
}

impl Summary {
    /// Returns the median as text.
    pub(crate) fn median(self) -> String {
        format_value(self.median)
    }

    /// Returns the smallest and the largest value as text.
    pub(crate) fn spread(self) -> String {
        format!("[{} .. {}]", format_value(self.low), format_value(self.high))
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.median(), self.spread())
    }
}

impl Target {
    /// Compares the worst and the best round with the target.
    fn judge(self, measured: Summary) -> Option<Judgment> {
        let Summary { low, high, .. } = measured;
        let (target, worst, best) = match self {
            Self::AtLeast(least) => {
                (format!("at least {}", format_value(least)), low >= least, high >= least)
            }
            Self::AtMost(most) => {
                (format!("at most {}", format_value(most)), high <= most, low <= most)
            }
            Self::None => return None,
        };
        let verdict = match (worst, best) {
            (true, _) => "met",
            (false, true) => "level",
            (false, false) => "missed",
        };
        Some(Judgment { target, verdict })
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
