//! The project's own rules as tests, so that readers can rely on them. A failure shows the place, the rule, and how to
//! fix it. Every exemption has a reason, and an unnecessary exemption fails as well.

mod audit_names;
mod code;
mod configuration;
mod deployment;
mod documents;
mod governance;
mod layers;
mod metrics;
mod rpc_comments;
mod tracing;
mod tree;
mod wire_names;
mod words;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders with Shoreguard's own text.
const FOLDERS: [&str; 11] = [
    "src",
    "crates",
    "tests",
    "build",
    "benches",
    "proto",
    "migrations",
    "scripts",
    "deploy",
    ".ci",
    ".cargo",
];
const DOCUMENTS: [&str; 27] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "clients/go/README.md",
    "clients/python/README.md",
    "clients/python-testing/README.md",
    "clients/typescript/README.md",
    "docs/access.md",
    "docs/audit.md",
    "docs/cli.md",
    "docs/clients.md",
    "docs/configuration.md",
    "docs/deployment.md",
    "docs/fleet.md",
    "docs/glossary.md",
    "docs/migration.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/policies.md",
    "docs/quickstart.md",
    "docs/sandboxes.md",
    "docs/sboms.md",
    "docs/tasks.md",
    "docs/webhook-channels.md",
    "docs/webhooks.md",
];

/// A text file of the repository.
struct SourceFile {
    path: String,
    text: String,
}

impl SourceFile {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }
}

/// Violations, one per line.
#[derive(Default)]
struct Faults(String);

impl Faults {
    fn add(&mut self, path: &str, line: usize, rule: &str) {
        writeln!(self.0, "{path}:{line}: {rule}").unwrap();
    }

    fn assert_none(&self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read_file(path: &str) -> SourceFile {
    let text = fs::read_to_string(root().join(path));
    SourceFile {
        path: path.to_owned(),
        text: text.unwrap_or_else(|error| panic!("{path}: {error}")),
    }
}

/// Returns every text file in these folders, sorted by path.
fn read_files(folders: &[&str]) -> Vec<SourceFile> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push(SourceFile { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn rust_files(folders: &[&str]) -> Vec<SourceFile> {
    read_files(folders).into_iter().filter(SourceFile::is_rust).collect()
}

/// Returns a line without its comment.
fn without_comment(line: &str) -> &str {
    let mut in_text = false;
    let bytes = line.as_bytes();
    for at in 0..bytes.len() {
        match bytes[at] {
            b'"' if at == 0 || bytes[at - 1] != b'\\' => in_text = !in_text,
            b'/' if !in_text && bytes.get(at + 1) == Some(&b'/') => return &line[..at],
            _ => {}
        }
    }
    line
}

/// Returns whether a line contains a word outside of comments. Most lines do not contain it at all, which is found much
/// faster.
fn uses_word(line: &str, word: &str) -> bool {
    line.contains(word) && contains_word(without_comment(line), word)
}

/// Returns whether a line contains a word that no letter, digit or underscore precedes.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}
