//! Comments, documents and string literals are in plain English: words that hide the subject of a sentence are refused.
//!
//! CONTRIBUTING.md lists the words with the reason. A phrase is also found if it continues on the next line. A string
//! literal is checked if it contains a space. The values of tests are checked too, so that no list of exemptions is
//! needed.

use std::collections::BTreeSet;
use std::path::Path;

use super::{DOCUMENTS, Faults, read_file, read_files, rust_files};

/// Folders whose comments are checked. The generated files of `clients/` have the comments of `proto/`.
const COMMENTED: &[&str] = &[
    "src",
    "crates",
    "build",
    "proto",
    "tests",
    "benches",
    "scripts",
    "deploy",
    "migrations",
    "clients/bench",
    "clients/go",
    "clients/python/src",
    "clients/python/tests",
    "clients/python-testing/src",
    "clients/typescript/src",
    "clients/typescript/test",
];
/// Generated files in these folders.
const GENERATED: &str = "clients/go/shoreguardv1/";

/// Refused words and phrases, in lower case.
const REFUSED: &[&str] = &[
    "also if",
    "anew",
    "anybody",
    "are told",
    "as it pleases",
    "asked for",
    "comes to",
    "everybody",
    "for good",
    "for whom",
    "goes along",
    "goes on",
    "go on",
    "gone",
    "herein",
    "in the way",
    "is none",
    "is told",
    "it takes a",
    "kept back",
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
    "such as it is",
    "tell",
    "tells",
    "the one of",
    "the one who",
    "thereof",
    "told",
    "went",
    "what became of",
    "what becomes of",
    "what is there",
    "whatever",
    "where there are none",
    "where there is none",
    "wherever",
    "whoever",
];

/// Phrases that are also refused in string literals, in lower case.
const REFUSED_IN_STRINGS: &[&str] = &["are no", "goes with", "is no", "is taken"];

/// Words that CONTRIBUTING.md quotes among the refused ones, but allows.
const ALLOWED: &[&str] = &["None", "is no longer"];

/// Returns whether a text in lower case contains a refused phrase as whole words. `is no longer` is allowed.
fn contains_phrase(text: &str, phrase: &str) -> bool {
    // Most texts contain no phrase, and this check is much faster than the next.
    if !text.contains(phrase) {
        return false;
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '`';
    text.match_indices(phrase).any(|(at, _)| {
        let after = &text[at + phrase.len()..];
        let is_whole = !text[..at].ends_with(is_part) && !after.starts_with(is_part);
        is_whole && !(phrase.ends_with(" no") && after.starts_with(" longer"))
    })
}

/// Returns the refused words that a comment or document contains.
fn refused(text: &str) -> impl Iterator<Item = &'static str> {
    let text = text.to_lowercase();
    REFUSED.iter().copied().filter(move |word| contains_phrase(&text, word))
}

/// Returns the refused words that a string literal contains. A literal without a space is not a sentence.
fn refused_in_string(literal: &str) -> impl Iterator<Item = &'static str> {
    let text = literal.to_lowercase();
    let is_sentence = text.contains(' ');
    let phrases = REFUSED.iter().chain(REFUSED_IN_STRINGS).copied();
    phrases.filter(move |phrase| is_sentence && contains_phrase(&text, phrase))
}

/// Returns the string literals of Rust code without block comments, each with the position of its first quote.
fn string_literals(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = code[at..].find(['"', '\'', '/']) {
        at += next;
        let rest = &code[at..];
        at += if rest.starts_with('"') {
            let (body, length) = read_literal(&code[..at], rest);
            found.push((at, as_one_line(body)));
            length
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else {
            character_length(rest)
        };
    }
    found
}

/// Reads the literal at the start of `rest`. Returns its body and its length with the quotes. `before` is the code that
/// precedes it and ends with `r` and hashes if the literal is raw.
fn read_literal<'a>(before: &str, rest: &'a str) -> (&'a str, usize) {
    let prefix = before.trim_end_matches('#');
    let body = &rest[1..];
    if prefix.ends_with('r') {
        let end = format!("\"{}", &before[prefix.len()..]);
        let length = body.find(&end).expect("a raw literal has an end");
        return (&body[..length], 1 + length + end.len());
    }
    let mut is_escaped = false;
    let is_end = |c: char| {
        let is_quote = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_quote
    };
    let length = body.find(is_end).expect("a literal has an end");
    (&body[..length], length + 2)
}

/// Returns the length of the character literal at the start of a text, or 1 if it starts with something else, such as a
/// lifetime.
fn character_length(rest: &str) -> usize {
    let Some(body) = rest.strip_prefix('\'') else { return 1 };
    if body.starts_with('\\') {
        return body[2..].find('\'').expect("an escaped character has an end") + 4;
    }
    let length = body.chars().next().map_or(0, char::len_utf8);
    if body[length..].starts_with('\'') { length + 2 } else { 1 }
}

/// Joins the lines of a literal. A line that ends with a backslash continues without a space.
fn as_one_line(body: &str) -> String {
    let joined: String = body
        .split("\\\n")
        .enumerate()
        .map(|(at, line)| if at == 0 { line } else { line.trim_start() })
        .collect();
    let spaced = joined.replace("\\n", " ").replace("\\t", " ");
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the comment that a line begins with, or continues.
fn comment<'a>(path: &str, line: &'a str) -> Option<&'a str> {
    let extension = Path::new(path).extension().and_then(|of| of.to_str()).unwrap_or_default();
    let (mark, other) = match extension {
        "rs" | "proto" => ("//", None),
        "go" | "ts" | "js" | "mjs" => ("//", Some("* ")),
        "py" => ("#", Some("\"\"\"")),
        "sql" => ("--", None),
        "" | "sh" | "yaml" | "yml" | "toml" | "conf" | "cfg" | "service" => ("#", None),
        _ => return None,
    };
    let line = line.trim_start();
    let text = line.strip_prefix(mark).or_else(|| line.strip_prefix(other?))?;
    Some(text.trim_start_matches(['/', '!', '#']))
}

/// Joins lines that follow each other. `None` and a blank line separate texts. Returns each text with the number of its
/// first line.
fn joined<'a>(lines: impl Iterator<Item = (usize, Option<&'a str>)>) -> Vec<(usize, String)> {
    let (mut found, mut is_open) = (Vec::<(usize, String)>::new(), false);
    for (at, line) in lines {
        let line = line.unwrap_or_default().trim();
        match found.last_mut() {
            _ if line.is_empty() => {}
            Some((_, text)) if is_open => {
                text.push(' ');
                text.push_str(line);
            }
            _ => found.push((at, line.to_owned())),
        }
        is_open = !line.is_empty();
    }
    found
}

#[test]
fn comments_and_documents_are_in_plain_english() {
    let mut faults = Faults::default();
    let mut check = |path: &str, texts: Vec<(usize, String)>| {
        for (at, text) in texts {
            for word in refused(&text) {
                faults.add(path, at, &format!("`{word}` is unclear: CONTRIBUTING.md says why"));
            }
        }
    };
    for file in read_files(COMMENTED) {
        if !file.path.ends_with("tidy/words.rs") && !file.path.starts_with(GENERATED) {
            check(
                &file.path,
                joined(file.lines().map(|(at, line)| (at, comment(&file.path, line)))),
            );
        }
    }
    for document in DOCUMENTS.iter().filter(|name| **name != "CONTRIBUTING.md") {
        check(document, joined(read_file(document).lines().map(|(at, line)| (at, Some(line)))));
    }
    faults.assert_none();
}

#[test]
fn a_phrase_is_found_in_each_kind_of_comment() {
    for (path, text, expected) in [
        ("a.rs", "/// Returns what became\n/// of it.\nlet a = 1;", vec!["what became of"]),
        ("a.rs", "// what became\n\n// of it", vec![]),
        ("a.rs", "let whoever = 1;", vec![]),
        ("scripts/test", "# asked\n# for", vec!["asked for"]),
        ("a.py", "\"\"\"Sent to whoever asks.\"\"\"", vec!["whoever"]),
        ("a.ts", "/**\n * Sent to whoever asks.\n */", vec!["whoever"]),
        ("a.sql", "-- gone", vec!["gone"]),
        ("a.json", "# gone", vec![]),
    ] {
        let lines = text.lines().enumerate().map(|(at, line)| (at, comment(path, line)));
        let texts = joined(lines);
        let found: Vec<&str> = texts.iter().flat_map(|(_, text)| refused(text)).collect();
        assert_eq!(found, expected, "{path}: {text}");
    }
}

#[test]
fn string_literals_are_in_plain_english() {
    let mut faults = Faults::default();
    for file in rust_files(&["src", "crates", "build", "tests", "benches"]) {
        if file.path.ends_with("tidy/words.rs") {
            continue;
        }
        for (at, literal) in string_literals(&file.text) {
            for phrase in refused_in_string(&literal) {
                let line = file.text[..at].matches('\n').count() + 1;
                let rule = format!("`{phrase}` is unclear: CONTRIBUTING.md says what to write");
                faults.add(&file.path, line, &rule);
            }
        }
    }
    faults.assert_none();
}

#[test]
fn string_literals_are_found_in_code() {
    for (code, expected) in [
        (r#"f("one", "two")"#, vec!["one", "two"]),
        (r#"f("a \"b\" c", "d\\", "e")"#, vec![r#"a \"b\" c"#, r"d\\", "e"]),
        (r##"f(r"a\", br#"b "c" d"#, b"e")"##, vec![r"a\", r#"b "c" d"#, "e"]),
        (r#"f('"', b'"', '\'', '\\', '\u{e9}', 'é', "a")"#, vec!["a"]),
        (r#"fn f<'a>(of: &'a str) -> &'static str { "a" }"#, vec!["a"]),
        ("let half = 1 / 2; // not \"this\"\nf(\"a\")", vec!["a"]),
        ("f(\"one \\\n    two\n    three\")", vec!["one two three"]),
        (r#"f("one\ntwo", "")"#, vec!["one two", ""]),
    ] {
        let found: Vec<String> = string_literals(code).into_iter().map(|(_, text)| text).collect();
        assert_eq!(found, expected, "{code}");
    }
    assert_eq!(string_literals("f(\n\"a\")")[0].0, 3, "the position of the quote");
}

#[test]
fn only_whole_phrases_in_sentences_are_refused() {
    for (literal, expected) in [
        ("`a` is no URL", vec!["is no"]),
        ("There are no files", vec!["are no"]),
        ("it is no longer valid", vec![]),
        ("it is not valid, is now late", vec![]),
        ("{nobody} calls", vec!["nobody"]),
        ("nobody", vec![]),
        ("a standing order", vec![]),
    ] {
        assert_eq!(refused_in_string(literal).collect::<Vec<_>>(), expected, "{literal}");
    }
}

#[test]
fn the_refused_words_are_listed_with_the_reason() {
    let document = read_file("CONTRIBUTING.md").text;
    let section = document.split("We refuse words").nth(1).unwrap().split("\n## ").next().unwrap();
    let listed: BTreeSet<&str> = section.split('`').skip(1).step_by(2).collect();
    let all = REFUSED.iter().chain(REFUSED_IN_STRINGS).chain(ALLOWED);
    assert_eq!(listed, all.copied().collect());
}
