//! Comments and documents are in plain English: words that hide the subject of a sentence are refused.
//!
//! CONTRIBUTING.md lists the words with the reason.

use std::path::Path;

use super::{DOCUMENTS, Faults, read_file, read_files};

/// Refused words and phrases, in lower case.
const REFUSED: &[&str] = &[
    "anybody",
    "anew",
    "are told",
    "asked for",
    "everybody",
    "for good",
    "for whom",
    "goes along",
    "goes on",
    "go on",
    "gone",
    "in the way",
    "is none",
    "is told",
    "it takes a",
    "leaves word",
    "lend",
    "lends",
    "nobody",
    "none where",
    "one that",
    "ones that",
    "somebody",
    "stand",
    "stands",
    "stood",
    "tell",
    "tells",
    "the one who",
    "told",
    "went",
    "whatever",
    "wherever",
    "whoever",
];

/// Returns the refused words that a text contains as whole words.
fn refused(text: &str) -> impl Iterator<Item = &'static str> {
    let text = text.to_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '`';
    REFUSED.iter().copied().filter(move |word| {
        text.match_indices(word).any(|(at, _)| {
            let before = text[..at].chars().next_back().is_some_and(is_part);
            let after = text[at + word.len()..].chars().next().is_some_and(is_part);
            !before && !after
        })
    })
}

/// Returns the comment of a line.
fn comment<'a>(path: &str, line: &'a str) -> Option<&'a str> {
    let extension = Path::new(path).extension().and_then(|of| of.to_str());
    let slashes = extension.is_some_and(|of| ["rs", "proto"].contains(&of));
    let mark = if slashes { "//" } else { "#" };
    let line = line.trim_start();
    line.strip_prefix(mark)
}

#[test]
fn comments_and_documents_are_in_plain_english() {
    let mut faults = Faults::default();
    for file in read_files(&["src", "crates", "build", "proto", "tests", "benches", "scripts"]) {
        let extension = Path::new(&file.path).extension().and_then(|of| of.to_str());
        let is_text = extension.is_some_and(|of| ["rs", "proto", "sh"].contains(&of));
        if !is_text || file.path.ends_with("tidy/words.rs") {
            continue;
        }
        for (at, line) in file.lines() {
            for word in comment(&file.path, line).into_iter().flat_map(refused) {
                faults.add(&file.path, at, &format!("`{word}` hides the subject: name it"));
            }
        }
    }
    for document in
        DOCUMENTS.iter().filter(|name| **name != "CONTRIBUTING.md").map(|name| read_file(name))
    {
        for (at, line) in document.lines() {
            for word in refused(line) {
                faults.add(&document.path, at, &format!("`{word}` hides the subject: name it"));
            }
        }
    }
    faults.assert_none();
}

#[test]
fn the_refused_words_are_listed_with_the_reason() {
    let listed = read_file("CONTRIBUTING.md").text;
    let missing: Vec<&&str> = REFUSED.iter().filter(|word| !listed.contains(**word)).collect();
    assert!(missing.is_empty(), "name them in CONTRIBUTING.md: {missing:?}");
}
