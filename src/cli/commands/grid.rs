//! Aligns columns.

use unicode_width::UnicodeWidthStr as _;

use crate::cli::output::escape_control;

/// Space between columns.
const GAP: &str = "  ";
/// What an empty cell shows.
const EMPTY: &str = "-";

/// Returns the rows with a heading, aligned. With a width, longer lines are cut.
pub(super) fn table(heading: &[String], rows: &[Vec<String>], width: Option<usize>) -> String {
    let rows = rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect());
    align(std::iter::once(heading.to_vec()).chain(rows).collect(), width)
}

/// Returns names and values, aligned.
pub(super) fn pairs(pairs: &[(String, String)], width: Option<usize>) -> String {
    align(pairs.iter().map(|(name, value)| vec![name.clone(), shown(value)]).collect(), width)
}

fn align(rows: Vec<Vec<String>>, width: Option<usize>) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.width()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let lines = rows.into_iter().map(|row| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            if !line.is_empty() {
                line.push_str(GAP);
            }
            line.push_str(cell);
            line.push_str(&" ".repeat(width.saturating_sub(cell.width())));
        }
        cut(line.trim_end(), width)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns a cell on one line, without control characters, whose width would be wrong.
fn shown(cell: &str) -> String {
    if cell.is_empty() {
        return EMPTY.to_owned();
    }
    escape_control(&cell.replace(['\n', '\r', '\t'], " "))
}

fn cut(line: &str, width: Option<usize>) -> String {
    let Some(width) = width.filter(|width| line.width() > *width) else { return line.to_owned() };
    let mut kept = String::new();
    for c in line.chars() {
        let mut longer = kept.clone();
        longer.push(c);
        if longer.width() >= width {
            break;
        }
        kept = longer;
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(row: &[&str]) -> Vec<String> {
        row.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_by_width_and_empty_cells_have_a_dash() {
        let rows = [cells(&["日本", "a"]), cells(&["x", ""]), cells(&["line\nbreak", "\u{1b}[2J"])];
        let shown = table(&cells(&["NAME", "NOTE"]), &rows, None);
        assert_eq!(shown, "NAME        NOTE\n日本        a\nx           -\nline break  \\u001b[2J");
    }

    #[test]
    fn only_a_width_cuts_lines() {
        let rows = [cells(&["abcdefghij", "klmnop"])];
        assert_eq!(table(&cells(&["A", "B"]), &rows, Some(8)), "A      …\nabcdefg…");
        let wide = table(&cells(&["A", "B"]), &rows, None);
        assert!(wide.ends_with("abcdefghij  klmnop"), "{wide}");
    }
}
