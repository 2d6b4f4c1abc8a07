//! Measures the cost of one unit of work as a total grows: it must not grow with the total.
//!
//! Each topic has a plot of all its costs, relative to the cost at the smallest total.

mod audit;
mod bindings;
mod gateways;
pub(super) mod streams;

use crate::figure::{Figure, Target};
use crate::report::{self, Entry};
use crate::svg::{self, Line};
use crate::{Bench, BoxError, docs};

/// Maximum of the cost at the largest total, divided by that at the smallest one: a larger total may need deeper trees
/// and miss caches more often.
const GROWTH_MAX: f64 = 1.5;

/// Measures all topics.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    for topic in [gateways::measure, streams::measure, audit::measure, bindings::measure] {
        topic(bench)?.print(bench)?;
    }
    Ok(())
}

/// What grows, and the costs that are measured.
struct Topic {
    /// Name of the units of the total, which is also the name of the plot.
    units: &'static str,
    costs: Vec<Cost>,
}

/// A cost at increasing totals.
struct Cost {
    name: String,
    /// Unit of the cost.
    unit: &'static str,
    points: Vec<(u32, Figure)>,
}

impl Cost {
    fn new(name: impl Into<String>, unit: &'static str) -> Self {
        Self { name: name.into(), unit, points: Vec::new() }
    }

    fn add(&mut self, total: u32, figure: Figure) {
        self.points.push((total, figure));
    }

    /// Returns the medians relative to the first one, for the plot.
    fn line(&self) -> Line {
        let medians = self
            .points
            .iter()
            .filter_map(|(total, figure)| Some((f64::from(*total), figure.summary()?.median)));
        let medians: Vec<(f64, f64)> = medians.collect();
        let first = medians.first().map_or(f64::NAN, |(_, cost)| *cost);
        let relative = medians.into_iter().map(|(total, cost)| (total, cost / first));
        // A first cost of zero, or below it by noise, has no relative costs.
        let points = relative.filter(|(_, cost)| first > 0.0 && cost.is_finite()).collect();
        Line { name: format!("{} (1.00 is {first:.2} {})", self.name, self.unit), points }
    }
}

impl Topic {
    /// Prints the costs and their growth, and draws the plot.
    fn print(&self, bench: &Bench) -> Result<(), BoxError> {
        let units = self.units;
        for Cost { name, unit, points } in &self.costs {
            for (total, figure) in points {
                figure.print(&format!("{name}, {total} {units}"), unit, Target::None)?;
            }
            let (Some((low, first)), Some((high, last))) = (points.first(), points.last()) else {
                continue;
            };
            let growth = last.divided_by(first);
            let name = format!("{name}, {high} by {low} {units}");
            growth.print(&name, "times", Target::AtMost(GROWTH_MAX))?;
        }
        // An engine that this host lacks has no points.
        let measured = self.costs.iter().filter(|cost| !cost.points.is_empty());
        let lines: Vec<Line> = measured.map(Cost::line).collect();
        let title = format!("Cost per unit by number of {units}");
        let plot = svg::plot(&title, units, "relative to the smallest total", &lines);
        let folder = if bench.options.write_docs { docs::plot_folder() } else { report::folder()? };
        std::fs::create_dir_all(&folder)?;
        let file = format!("{}.svg", units.replace(' ', "-"));
        std::fs::write(folder.join(&file), plot)?;
        report::record(Entry::Plot { title, file });
        Ok(())
    }
}
