//! Aligns columns.
//!
//! Invariants
//! - a row is one line. Only on a terminal, whose width is given, cells are cut; they end with `…` then. Elsewhere, the
//!   library continues a cell of more than 65,535 columns on a further line, so that nothing is lost;
//! - cells have no control characters, whose width would be wrong.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Row, Table};

use super::output::{escape_control, one_line};

/// Space after a column.
const GAP: u16 = 2;
/// Text of an empty cell.
const EMPTY: &str = "-";

/// Returns the rows with a heading, aligned. With a width, wide cells are cut.
pub(super) fn table(heading: &[String], rows: &[Vec<String>], width: Option<usize>) -> String {
    let rows = rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect());
    align(std::iter::once(heading.to_vec()).chain(rows), width)
}

/// Returns names and values, aligned.
pub(super) fn pairs(pairs: &[(String, String)], width: Option<usize>) -> String {
    align(pairs.iter().map(|(name, value)| vec![name.clone(), shown(value)]), width)
}

fn align(rows: impl Iterator<Item = Vec<String>>, width: Option<usize>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = width {
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    }
    for row in rows {
        let mut row = Row::from(row);
        if width.is_some() {
            row.max_height(1);
        }
        table.add_row(row);
    }
    let last = table.column_count().saturating_sub(1);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if at == last { 0 } else { GAP }));
    }
    table.trim_fmt()
}

/// Returns a cell on one line, without control characters.
fn shown(cell: &str) -> String {
    if cell.is_empty() {
        return EMPTY.to_owned();
    }
    escape_control(&one_line(cell).replace('\t', " "))
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
    fn only_a_width_cuts_cells() {
        let rows = [cells(&["abcdefghij", "klmnop qr"]), cells(&["a", "b"])];
        let heading = cells(&["A", "B"]);
        assert_eq!(table(&heading, &rows, Some(8)), "A    B\nab…  kl…\na    b");
        let fits = "A           B\nabcdefghij  klmnop qr\na           b";
        for width in [None, Some(21), Some(1_000_000)] {
            assert_eq!(table(&heading, &rows, width), fits, "{width:?}");
        }
        let long = "x".repeat(10_000);
        assert_eq!(table(&heading, &[cells(&[&long, "b"])], None).lines().count(), 2);
    }

    #[test]
    fn names_and_values_are_aligned_without_a_heading() {
        let shown = pairs(&[("NAME".into(), "a b".into()), (String::new(), String::new())], None);
        assert_eq!(shown, "NAME  a b\n      -");
        assert_eq!(pairs(&[], None), "");
    }
}
