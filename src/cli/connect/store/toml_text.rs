//! Writes a document in the part of TOML that every SDK reads: tables, and one value a line.

use std::fmt::Write as _;

use serde_json::Value as Json;
use toml::{Table, Value};

/// Returns the text of a document. The tables follow the values.
pub(super) fn format_document(document: &Table) -> String {
    let mut text = String::new();
    write_table(&mut text, "", document);
    text
}

fn write_table(text: &mut String, path: &str, table: &Table) {
    let mut has_header = path.is_empty();
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        if !has_header {
            let gap = if text.is_empty() { "" } else { "\n" };
            write_line(text, &format!("{gap}[{path}]"));
            has_header = true;
        }
        write_line(text, &format!("{} = {}", format_key(key), format_value(value)));
    }
    for (key, value) in table {
        if let Some(inner) = value.as_table() {
            let key = format_key(key);
            let path = if path.is_empty() { key } else { format!("{path}.{key}") };
            write_table(text, &path, inner);
        }
    }
}

fn write_line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes all");
}

fn format_key(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !key.is_empty() && key.chars().all(is_bare) { key.to_owned() } else { quote(key) }
}

fn format_value(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), quote)
}

/// Quotes a text. A text of JSON is a basic string of TOML, except for DEL.
fn quote(text: &str) -> String {
    Json::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_written_with_one_value_a_line_and_parses_to_the_same_document() {
        let text = "current = \"prod\"\n\n[contexts.\"a b\"]\nendpoint = \"https://a\"\n\n\
                    [contexts.prod]\nca = \"x\\\"y\\\\z\\n\\u007f\"\nexpire_time = 2026-11-30T12:15:00Z\n";
        let document: Table = text.parse().unwrap();
        let written = format_document(&document);
        assert_eq!(written, text);
        assert_eq!(written.parse::<Table>().unwrap(), document);
    }

    #[test]
    fn unknown_tables_and_values_are_kept() {
        let document: Table = "a = [1, 2]\n[b]\nc = true\n[b.d]\ne = 1.5\n".parse().unwrap();
        let written = format_document(&document);
        assert_eq!(written.parse::<Table>().unwrap(), document);
        assert_eq!(format_document(&Table::new()), "");
    }
}
