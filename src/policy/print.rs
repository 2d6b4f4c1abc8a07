//! Prints values as YAML in block style.
//!
//! Invariants
//! - equal values have equal texts, and what is printed is parsed as the same value;
//! - a character that a terminal could interpret, or that readers do not see, is escaped (T20).

use std::fmt::Write as _;

use super::tree::Node;
use crate::characters::is_invisible;

/// Words that some parsers read as null, a truth value or a number, in lower case.
const WORDS: [&str; 12] =
    ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"];
/// Spaces per level.
const INDENT: usize = 2;
/// Numbers below this one have no fraction that would be lost.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Prints a document or a single value. A mapping or list ends with a line break.
pub(super) fn print(node: &Node) -> String {
    let mut out = String::new();
    if let Node::Map(entries) = node
        && !entries.is_empty()
    {
        put_entries(&mut out, entries, 0, false);
    } else if let Node::List(items) = node
        && !items.is_empty()
    {
        put_items(&mut out, items, 0);
    } else {
        put_inline(&mut out, node);
    }
    out
}

/// Prints the entries of a mapping. `started` says that the first line has its indentation.
fn put_entries(out: &mut String, entries: &[(String, Node)], indent: usize, started: bool) {
    for (at, (key, value)) in entries.iter().enumerate() {
        if at > 0 || !started {
            put_indent(out, indent);
        }
        put_text(out, key);
        out.push(':');
        put_value(out, value, indent, false);
    }
}

fn put_items(out: &mut String, items: &[Node], indent: usize) {
    for item in items {
        put_indent(out, indent);
        out.push('-');
        put_value(out, item, indent, true);
    }
}

/// Prints the value of an entry, or an item. The first entry of a mapping is on the line of its item.
fn put_value(out: &mut String, value: &Node, indent: usize, is_item: bool) {
    if let Node::Map(entries) = value
        && !entries.is_empty()
    {
        out.push(if is_item { ' ' } else { '\n' });
        put_entries(out, entries, indent + INDENT, is_item);
    } else if let Node::List(items) = value
        && !items.is_empty()
    {
        out.push('\n');
        put_items(out, items, indent + INDENT);
    } else {
        out.push(' ');
        put_inline(out, value);
        out.push('\n');
    }
}

fn put_indent(out: &mut String, spaces: usize) {
    out.extend(std::iter::repeat_n(' ', spaces));
}

/// Prints a scalar, or an empty mapping or list.
fn put_inline(out: &mut String, node: &Node) {
    match node {
        Node::Null => out.push_str("null"),
        Node::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Node::Integer(number) => out.push_str(&number.to_string()),
        Node::Float(number) => out.push_str(&float(*number)),
        Node::Text(text) => put_text(out, text),
        Node::List(_) => out.push_str("[]"),
        Node::Map(_) => out.push_str("{}"),
    }
}

fn float(number: f64) -> String {
    if number.is_nan() {
        ".nan".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { ".inf" } else { "-.inf" }.to_owned()
    } else if number.fract() == 0.0 && number.abs() < WHOLE_MAX && !is_negative_zero(number) {
        format!("{number:.0}")
    } else {
        format!("{number:?}")
    }
}

fn is_negative_zero(number: f64) -> bool {
    number == 0.0 && number.is_sign_negative()
}

fn put_text(out: &mut String, text: &str) {
    if is_plain(text) {
        return out.push_str(text);
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_invisible(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => put_escape(out, c),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn put_escape(out: &mut String, c: char) {
    let code = u32::from(c);
    let _ = if code > 0xffff { write!(out, "\\U{code:08x}") } else { write!(out, "\\u{code:04x}") };
}

/// Whether every parser reads the text without quotes as the same text.
fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || "/_".contains(c))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/_.-*@".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    fn text(text: &str) -> Node {
        Node::Text(text.to_owned())
    }

    fn map(entries: &[(&str, Node)]) -> Node {
        Node::Map(entries.iter().map(|(key, node)| ((*key).to_owned(), node.clone())).collect())
    }

    #[test]
    fn mappings_and_lists_are_printed_in_block_style() {
        let endpoint = map(&[("host", text("pypi.org")), ("ports", Node::List(Vec::new()))]);
        let nested = Node::List(vec![text("a b"), Node::List(vec![Node::Null])]);
        let document = map(&[
            ("version", Node::Integer(1)),
            ("endpoints", Node::List(vec![endpoint, map(&[])])),
            ("more", map(&[("x", nested)])),
        ]);
        let printed = r#"version: 1
endpoints:
  - host: pypi.org
    ports: []
  - {}
more:
  x:
    - "a b"
    -
      - null
"#;
        assert_eq!(print(&document), printed);
        assert_eq!(parse(printed).unwrap(), document);
    }

    #[test]
    fn texts_that_could_be_read_as_something_else_are_quoted() {
        for plain in ["pypi.org", "/usr/bin/x", "read-only", "a*", "_x"] {
            assert_eq!(print(&text(plain)), plain);
        }
        for odd in
            ["", "yes", "No", "null", "~", "1", "1e3", "0x1", "*", "a: b", "- a", "#", "NaN", ".5"]
        {
            assert_eq!(print(&text(odd)), format!("\"{odd}\""));
        }
        assert_eq!(print(&text("a\"\\\n\t")), r#""a\"\\\n\t""#);
        assert_eq!(print(&text("\u{1b}\u{202e}\u{e0041}")), r#""\u001b\u202e\U000e0041""#);
    }

    #[test]
    fn what_is_printed_is_parsed_as_the_same_value() {
        for value in [
            text("\u{7f}\u{85}\u{a0}\u{2028}\u{feff}\u{fffe}\u{10ffff}"),
            text("a\r\nb  "),
            text("\u{1f600} ok, \u{e9}"),
            text("k\u{fc}che: #1"),
            Node::Integer(-7),
            Node::Float(0.1),
            Node::Float(-0.0),
            Node::Float(1e300),
            Node::Bool(false),
            Node::Null,
        ] {
            let document = Node::Map(vec![("k".to_owned(), value)]);
            let printed = print(&document);
            assert_eq!(parse(&printed).unwrap(), document, "{printed}");
        }
        assert_eq!(print(&Node::Float(5.0)), "5");
        assert_eq!(print(&Node::Float(-5e15)), "-5000000000000000");
    }
}
