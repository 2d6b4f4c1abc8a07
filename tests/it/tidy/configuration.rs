//! `docs/configuration.md` is made from the doc comments of `src/config`.

use std::fmt::Write;

use super::{root, rust_files};

const DOCUMENT: &str = "docs/configuration.md";
const HEAD: &str = "# Configuration

Each key can be set in the TOML file that `--config` names, in an environment variable `SHOREGUARD_<SECTION>_<KEY>`, or by
`--set section.key=value`; the later wins. `shoreguard check-config` prints the configuration that a server would start
with, or everything that is wrong with it.

This page is made from the doc comments in `src/config/`: change them, and run `just snap configuration`.
";

/// A key with its type and its documentation.
struct Field {
    name: String,
    kind: String,
    doc: String,
}

/// Joins the lines of a doc comment; a list keeps its lines.
fn doc(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let line = line.trim().trim_start_matches("///").trim();
        let gap = if text.is_empty() {
            ""
        } else if line.starts_with("- ") {
            "\n  "
        } else {
            " "
        };
        text.push_str(gap);
        text.push_str(line);
    }
    text
}

/// Returns the documentation and the fields of a struct; `None` if no file has it.
fn parse(sources: &[String], name: &str) -> Option<(String, Vec<Field>)> {
    let start = format!("pub struct {name} {{");
    let source = sources.iter().find(|source| source.contains(&start))?;
    let lines: Vec<&str> = source.lines().collect();
    let at = lines.iter().position(|line| line.starts_with(&start))?;
    let before = lines[..at].iter().rev().take_while(|line| line.starts_with(['/', '#']));
    let mut above: Vec<&str> = before.filter(|line| line.starts_with("///")).copied().collect();
    above.reverse();
    let (mut fields, mut comment) = (Vec::new(), Vec::new());
    for line in lines[at + 1..].iter().take_while(|line| **line != "}") {
        let line = line.trim();
        if line.starts_with("///") {
            comment.push(line);
        } else if let Some((name, kind)) =
            line.strip_prefix("pub ").and_then(|rest| rest.trim_end_matches(',').split_once(": "))
        {
            fields.push(Field {
                name: name.trim_start_matches("r#").to_owned(),
                kind: kind.to_owned(),
                doc: doc(&comment),
            });
            comment.clear();
        }
    }
    Some((doc(&above), fields))
}

/// Writes a section, then the sections of fields that are tables themselves.
fn section(out: &mut String, sources: &[String], path: &str, repeated: bool, name: &str) {
    let (doc, fields) = parse(sources, name).unwrap();
    let heading = if repeated { format!("[[{path}]]") } else { format!("[{path}]") };
    write!(out, "\n## `{heading}`\n\n{doc}\n\n").unwrap();
    let mut tables = Vec::new();
    for field in fields {
        let list = field.kind.strip_prefix("Vec<").map(|kind| kind.trim_end_matches('>'));
        let inner = list.unwrap_or(&field.kind);
        if parse(sources, inner).is_some() {
            tables.push((format!("{path}.{}", field.name), list.is_some(), inner.to_owned()));
        } else {
            writeln!(out, "- `{}`: {}", field.name, field.doc).unwrap();
        }
    }
    for (path, repeated, name) in tables {
        section(out, sources, &path, repeated, &name);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the switch of the snapshots, which insta reads too")]
fn the_configuration_document_lists_every_key_with_its_description() {
    let sources: Vec<String> =
        rust_files(&["src/config"]).into_iter().map(|file| file.text).collect();
    let (_, sections) = parse(&sources, "Config").unwrap();
    let mut made = HEAD.to_owned();
    for of in &sections {
        section(&mut made, &sources, &of.name, false, &of.kind);
    }
    let path = root().join(DOCUMENT);
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&path, &made).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(made == stored, "{DOCUMENT} is not up to date: run `just snap configuration`");
}
