//! A line plot as SVG: a logarithmic axis for the total, a linear axis for the cost, and a legend.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
/// Edges of the area with the lines. Labels are outside of it.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 680.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 280.0;
/// Top of the legend.
const LEGEND: f64 = BOTTOM + 66.0;
/// Distance of two lines of the legend.
const LEGEND_LINE: f64 = 18.0;
/// Number of steps of the vertical axis.
const STEPS: u32 = 4;
/// Colors that people with color blindness can distinguish.
const COLORS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#806000"];

/// A line of a plot.
#[derive(Debug)]
pub(crate) struct Line {
    /// Name in the legend.
    pub(crate) name: String,
    /// Total and cost of each point. Totals are positive and increase.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Ranges of both axes.
struct Axes {
    /// Decimal logarithms of the smallest and the largest total.
    totals: (f64, f64),
    cost_max: f64,
}

impl Axes {
    fn new(lines: &[Line]) -> Self {
        let points = || lines.iter().flat_map(|line| line.points.iter().copied());
        let low = points().map(|(total, _)| total.log10()).fold(f64::INFINITY, f64::min);
        let high = points().map(|(total, _)| total.log10()).fold(f64::NEG_INFINITY, f64::max);
        let cost = points().map(|(_, cost)| cost).fold(0.0, f64::max);
        // The line of unchanged cost is in the lower half.
        Self { totals: (low, high.max(low + 1.0)), cost_max: cost.ceil().max(2.0) }
    }

    fn x(&self, total: f64) -> f64 {
        let (low, high) = self.totals;
        LEFT + (total.log10() - low) / (high - low) * (RIGHT - LEFT)
    }

    fn y(&self, cost: f64) -> f64 {
        BOTTOM - cost / self.cost_max * (BOTTOM - TOP)
    }
}

/// Returns the plot as the text of an SVG file.
pub(crate) fn plot(title: &str, x_name: &str, y_name: &str, lines: &[Line]) -> String {
    let axes = Axes::new(lines);
    let height = LEGEND + lines.len() as f64 * LEGEND_LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    write_text(&mut svg, (LEFT, 22.0), "start", title);
    write_text(&mut svg, (RIGHT, 22.0), "end", y_name);
    write_text(&mut svg, (f64::midpoint(LEFT, RIGHT), BOTTOM + 40.0), "middle", x_name);
    for step in 0..=STEPS {
        let cost = axes.cost_max * f64::from(step) / f64::from(STEPS);
        let y = axes.y(cost);
        write_line(&mut svg, (LEFT, y), (RIGHT, y));
        write_text(&mut svg, (LEFT - 8.0, y + 4.0), "end", &format!("{cost:.2}"));
    }
    for total in totals(lines) {
        let x = axes.x(total);
        write_line(&mut svg, (x, BOTTOM), (x, BOTTOM + 5.0));
        write_text(&mut svg, (x, BOTTOM + 20.0), "middle", &format!("{total}"));
    }
    for (at, line) in lines.iter().enumerate() {
        let color = COLORS[at % COLORS.len()];
        let points: Vec<(f64, f64)> =
            line.points.iter().map(|(total, cost)| (axes.x(*total), axes.y(*cost))).collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (x, y) in points {
            let _ =
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{color}\"/>");
        }
        let y = LEGEND + at as f64 * LEGEND_LINE;
        let _ =
            writeln!(svg, "<circle cx=\"{LEFT}\" cy=\"{}\" r=\"5\" fill=\"{color}\"/>", y - 4.0);
        write_text(&mut svg, (LEFT + 12.0, y), "start", &line.name);
    }
    svg += "</svg>\n";
    svg
}

/// Returns the totals of all lines, each once.
fn totals(lines: &[Line]) -> Vec<f64> {
    let mut totals: Vec<f64> =
        lines.iter().flat_map(|line| line.points.iter().map(|(total, _)| *total)).collect();
    totals.sort_by(f64::total_cmp);
    totals.dedup();
    totals
}

fn write_line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#bbbbbb\"/>"
    );
}

fn write_text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}
