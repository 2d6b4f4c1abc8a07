//! The report of a run: everything that was printed, in the same order. It is written as JSON at the end.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Serialize;

use crate::BoxError;
use crate::figure::{self, FigureEntry, Summary};
use crate::machine::Machine;
use crate::options::Options;
use crate::tools;

/// What the cases have printed so far. Like standard output, it belongs to the process.
static CASES: Mutex<Vec<CaseReport>> = Mutex::new(Vec::new());

/// Narrowest column of a printed table, in characters.
const CELL_CHARACTERS: usize = 24;
/// Narrowest first column of a printed table, in characters.
const NAME_CHARACTERS: usize = 34;

/// What one case has printed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CaseReport {
    /// Name of the case.
    pub(crate) name: &'static str,
    /// Description of the case.
    description: &'static str,
    /// What it has printed, in order.
    pub(crate) entries: Vec<Entry>,
}

/// A printed part of a report.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// A figure.
    Figure(FigureEntry),
    /// Subjects that were measured in the same rounds.
    Comparison(Comparison),
    /// A sentence, such as why a subject was not measured.
    Note {
        /// The sentence.
        text: String,
    },
    /// A plot.
    Plot {
        /// Title of the plot.
        title: String,
        /// File name.
        file: String,
    },
}

/// Subjects that were measured in the same rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comparison {
    /// What was measured.
    pub(crate) title: String,
    /// Name and unit of each column.
    pub(crate) columns: Vec<&'static str>,
    /// One row per subject.
    pub(crate) rows: Vec<Row>,
}

/// A subject of a comparison.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// Name of the subject.
    pub(crate) name: String,
    /// One cell per column. Empty if the subject was not measured.
    pub(crate) cells: Vec<Summary>,
    /// Reason why the subject was not measured.
    pub(crate) missing: Option<String>,
}

/// The whole report.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    rounds: u32,
    seconds: f64,
    open_seconds: f64,
    cases: Vec<CaseReport>,
}

/// Begins the report of a case.
pub(crate) fn begin_case(name: &'static str, description: &'static str) {
    CASES.lock().push(CaseReport { name, description, entries: Vec::new() });
}

/// Adds an entry to the report of the case that is running.
pub(crate) fn record(entry: Entry) {
    if let Some(case) = CASES.lock().last_mut() {
        case.entries.push(entry);
    }
}

/// Prints and records a sentence.
pub(crate) fn note(text: String) -> Result<(), BoxError> {
    figure::print_line(&format!("  {text}"))?;
    record(Entry::Note { text });
    Ok(())
}

/// Returns the reports of all cases so far.
pub(crate) fn cases() -> Vec<CaseReport> {
    CASES.lock().clone()
}

impl Comparison {
    /// Prints and records the comparison as a table.
    pub(crate) fn print(self) -> Result<(), BoxError> {
        figure::print_line(&format!("  {}", self.title))?;
        let heads: String = self.columns.iter().copied().map(print_cell).collect();
        figure::print_line(&format!("  {:<NAME_CHARACTERS$}{heads}", ""))?;
        for row in &self.rows {
            let cells: String = match &row.missing {
                Some(reason) => format!(" not measured: {reason}"),
                None => row.cells.iter().map(|cell| print_cell(&cell.to_string())).collect(),
            };
            figure::print_line(&format!("  {:<NAME_CHARACTERS$}{cells}", row.name))?;
        }
        record(Entry::Comparison(self));
        Ok(())
    }
}

fn print_cell(text: &str) -> String {
    format!(" {text:>CELL_CHARACTERS$}")
}

/// Returns the folder for the report and the recordings. Creates it.
pub(crate) fn folder() -> Result<PathBuf, BoxError> {
    let folder = tools::target_folder()?.join("bench");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Writes the report of all cases so far. Returns its path.
pub(crate) fn write_json(machine: &Machine, options: &Options) -> Result<PathBuf, BoxError> {
    let path = folder()?.join("reach.json");
    let report = Report {
        machine,
        rounds: options.rounds,
        seconds: options.seconds,
        open_seconds: options.open_seconds,
        cases: cases(),
    };
    std::fs::write(&path, serde_json::to_string_pretty(&report)? + "\n")?;
    Ok(path)
}

/// Returns the folder of the package, which contains the documents.
pub(crate) fn package_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
