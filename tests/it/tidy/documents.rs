//! Rules for the documents: what they name must exist.

use std::collections::BTreeSet;
use std::fs;

use super::{DOCUMENTS, FOLDERS, Faults, contains_word, read_file, read_files, root, rust_files};

/// Maximum number of lines of documents that a newcomer reads in one go.
const LINES_MAX: [(&str, usize); 2] = [("ARCHITECTURE.md", 250), ("README.md", 130)];

/// Minimum length of a name with four underscores, in bytes.
const TEST_NAME_BYTES_MIN: usize = 9;

#[test]
fn documents_name_only_existing_files_and_tests() {
    let mut faults = Faults::default();
    let files = rust_files(&["src", "crates", "tests"]);
    let ends = |byte: &u8| matches!(byte, b'(' | b'{' | b' ' | b';' | b':');
    let words = files.iter().flat_map(|file| file.text.as_bytes().split(ends));
    let names: BTreeSet<&[u8]> = words.filter(|word| word.len() >= TEST_NAME_BYTES_MIN).collect();
    for document in DOCUMENTS.map(read_file) {
        for (line, text) in document.lines() {
            for quoted in text.split('`').skip(1).step_by(2) {
                let path = FOLDERS.iter().any(|folder| quoted.starts_with(&format!("{folder}/")));
                // `tags` is the example in CONTRIBUTING.md.
                let plain = !quoted.contains(['<', '*', '{', ' ']) && !quoted.contains("tags");
                if path && plain && !root().join(quoted).exists() {
                    faults.add(&document.path, line, &format!("`{quoted}` does not exist"));
                }
                let snake = quoted
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                let metric = quoted.starts_with("shoreguard_");
                let test = snake && !metric && quoted.matches('_').count() >= 4;
                if test && !names.contains(quoted.as_bytes()) {
                    faults.add(
                        &document.path,
                        line,
                        &format!("no test is named `{quoted}`: correct the name"),
                    );
                }
            }
        }
    }
    faults.assert_none();
}

#[test]
fn the_first_documents_are_short() {
    let mut faults = Faults::default();
    for (document, most) in LINES_MAX {
        let length = read_file(document).text.lines().count();
        if length > most {
            let rule = format!("{length} lines, at most {most}: a newcomer reads it in one go");
            faults.add(document, most + 1, &rule);
        }
    }
    faults.assert_none();
}

/// Returns the lines outside of code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((at + 1, line))
    })
}

/// Returns the name by which a link names a heading: in lower case, without punctuation, with dashes for spaces.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_of_documents_lead_to_existing_files_and_headings() {
    let mut faults = Faults::default();
    for document in DOCUMENTS.map(read_file) {
        let page = root().join(&document.path);
        let folder = page.parent().unwrap();
        for (line, text) in prose(&document.text) {
            let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for target in targets.filter(|target| !target.contains("://")) {
                let (file, heading) = target.split_once('#').unwrap_or((target, ""));
                let path = if file.is_empty() { page.clone() } else { folder.join(file) };
                let is_there = if heading.is_empty() {
                    path.exists()
                } else {
                    let linked = fs::read_to_string(&path).unwrap_or_default();
                    prose(&linked).any(|(_, row)| row.starts_with('#') && anchor(row) == heading)
                };
                if !is_there {
                    faults.add(&document.path, line, &format!("`{target}` does not exist"));
                }
            }
        }
    }
    faults.assert_none();
}

#[test]
fn the_architecture_lists_every_source_folder() {
    let map = read_file("ARCHITECTURE.md").text;
    let mut faults = Faults::default();
    for entry in fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap()) {
        let mut name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            name.push('/');
        }
        if !map.contains(&format!("`{name}`")) {
            faults.add(
                &format!("src/{name}"),
                1,
                &format!("give `{name}` a line in ARCHITECTURE.md"),
            );
        }
    }
    faults.assert_none();
}

#[test]
fn every_threat_named_in_code_is_explained_in_security_md() {
    let explained = read_file("SECURITY.md").text;
    let mut faults = Faults::default();
    for file in rust_files(&["src", "crates", "tests"]) {
        for (line, text) in file.lines() {
            let Some((_, name)) = text.split_once("fn t") else { continue };
            let name = name.split('(').next().unwrap_or_default();
            let numbered =
                name.get(..3).is_some_and(|n| n.ends_with('_') && n.as_bytes()[0].is_ascii_digit());
            if numbered && !explained.contains(&format!("`t{name}`")) {
                faults.add(
                    &file.path,
                    line,
                    &format!("name `t{name}` in SECURITY.md, with its threat"),
                );
            }
        }
    }
    for file in read_files(&["src", "crates", "tests", "build", "proto"]) {
        for (line, text) in file.lines() {
            for (at, _) in text.match_indices("(T").chain(text.match_indices(", T")) {
                let number =
                    text[at..].trim_start_matches(['(', ',', ' ']).get(..3).unwrap_or_default();
                let is_threat =
                    number[1..].bytes().all(|b| b.is_ascii_digit()) && number.len() == 3;
                if is_threat && !explained.contains(&format!("**{number}")) {
                    faults.add(&file.path, line, &format!("{number} is not in SECURITY.md"));
                }
            }
        }
    }
    faults.assert_none();
}

#[test]
fn no_file_refers_to_documents_outside_the_repository() {
    let away = [
        concat!("/wo", "rk/"),
        concat!("DESIGN", ".md"),
        concat!("STYLE", ".md"),
        concat!("THREATS", ".md"),
    ];
    let mut faults = Faults::default();
    let roots = ["Cargo.toml", "build.rs", "justfile", ".clippy.toml"].into_iter().chain(DOCUMENTS);
    for file in read_files(&FOLDERS).into_iter().chain(roots.map(read_file)) {
        for (line, text) in file.lines() {
            if let Some(what) = away.iter().find(|what| contains_word(text, what)) {
                faults.add(
                    &file.path,
                    line,
                    &format!("`{what}` is not in this repository: say it here"),
                );
            }
        }
    }
    faults.assert_none();
}
