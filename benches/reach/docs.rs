//! Writes the figures into `docs/performance.md`. Text outside of the markers is written by people and stays.
//!
//! ```text
//! <!-- figures: NAME -->
//! (replaced)
//! <!-- end of figures -->
//! ```

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::BoxError;
use crate::figure::{self, FigureEntry};
use crate::machine::Machine;
use crate::options::Options;
use crate::report::{self, CaseReport, Comparison, Entry};

/// End of each block.
const END: &str = "<!-- end of figures -->";

/// Name of the block that describes the machine.
const MACHINE: &str = "machine";

/// Returns the folder of the plots.
pub(crate) fn plot_folder() -> PathBuf {
    report::package_folder().join("docs/performance")
}

/// Replaces the blocks of the cases that were measured. Other blocks stay. Returns the path of the document.
pub(crate) fn write(machine: &Machine, options: &Options) -> Result<PathBuf, BoxError> {
    let path = report::package_folder().join("docs/performance.md");
    let mut text = std::fs::read_to_string(&path)?;
    let mut blocks = vec![(MACHINE, machine_block(machine, options))];
    let cases = report::cases();
    blocks.extend(cases.iter().map(|case| (case.name, case_block(case, machine))));
    for (name, block) in blocks {
        match replace_block(&text, name, &block) {
            Some(replaced) => text = replaced,
            None => figure::print_line(&format!("docs/performance.md has no block `{name}`"))?,
        }
    }
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Replaces the text between the markers of a block. Returns `None` if the document does not have the block.
fn replace_block(text: &str, name: &str, block: &str) -> Option<String> {
    let marker = format!("<!-- figures: {name} -->\n");
    let (before, rest) = text.split_once(&marker)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{marker}\n{}\n\n{END}{after}", block.trim()))
}

fn machine_block(machine: &Machine, options: &Options) -> String {
    let Machine { processor, cores, memory_gb, kernel, programs, .. } = machine;
    let (rounds, seconds) = (options.rounds, options.seconds);
    let mut block = format!(
        "- {cores} cores of {processor}, {memory_gb} GB of memory, Linux {kernel}\n\
         - {rounds} rounds of {seconds} s per subject\n"
    );
    for program in programs {
        let _ = writeln!(block, "- {program}");
    }
    block
}

/// Returns the tables, sentences and plots of a case, in the order in which they were printed.
fn case_block(case: &CaseReport, machine: &Machine) -> String {
    let mut block = format!("Measured {}.\n", machine.began.get(..10).unwrap_or(&machine.began));
    let mut in_figures = false;
    for entry in &case.entries {
        let is_figure = matches!(entry, Entry::Figure(_));
        if is_figure && !in_figures {
            block += "\n| figure | median | spread | target | |\n|---|---|---|---|---|\n";
        }
        in_figures = is_figure;
        match entry {
            Entry::Figure(figure) => block += &figure_row(figure),
            Entry::Comparison(comparison) => block += &comparison_table(comparison),
            Entry::Note { text } => {
                let _ = writeln!(block, "\n{text}");
            }
            Entry::Plot { title, file } => {
                let _ = writeln!(block, "\n![{title}](performance/{file})");
            }
        }
    }
    block
}

fn figure_row(figure: &FigureEntry) -> String {
    let FigureEntry { name, unit, summary, judgment, .. } = figure;
    let (target, verdict) =
        judgment.as_ref().map_or(("", ""), |judgment| (judgment.target.as_str(), judgment.verdict));
    let (median, spread) = (summary.median(), summary.spread());
    format!("| {name} | {median} {unit} | {spread} | {target} | {verdict} |\n")
}

fn comparison_table(comparison: &Comparison) -> String {
    let mut table = format!("\n{}\n\n| |", comparison.title);
    for column in &comparison.columns {
        let _ = write!(table, " {column} |");
    }
    table += "\n|---|";
    table += &"---|".repeat(comparison.columns.len());
    table.push('\n');
    for row in &comparison.rows {
        let _ = write!(table, "| {} |", row.name);
        if let Some(reason) = &row.missing {
            let _ = write!(table, " not measured: {reason} |");
            table += &" |".repeat(comparison.columns.len().saturating_sub(1));
        }
        for cell in &row.cells {
            let _ = write!(table, " {cell} |");
        }
        table.push('\n');
    }
    table
}
