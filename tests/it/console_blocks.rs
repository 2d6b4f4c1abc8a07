//! Every `console` block of README.md and of the pages in `docs/` does what it shows, against `shoreguard dev`. Each page
//! is a test. The commands of a block of `console new-server` run in the data directory of a server without a user.
//!
//! A line that starts with `$ ` is a command, and continues after a backslash. The lines below it are its output: `...`
//! matches any text within a line, and a line of `...` alone any number of lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::commands::{CHEAP_HASHES, ChildProcess, serve, shoreguard_command, start_dev};
use crate::crash::serve_command;
use crate::support::child::start_serving;
use crate::support::limit::start_time_limit;

/// A command and the output that the document shows.
struct Shown {
    command: String,
    output: Vec<String>,
    /// Whether it is for a server without a user.
    is_for_new: bool,
}

/// Where commands run.
struct Place {
    folder: PathBuf,
    endpoint: String,
    /// Credential; `None` for a server without a user.
    key: Option<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|page| page.unwrap().path());
    let mut pages: Vec<PathBuf> =
        pages.filter(|page| page.extension().is_some_and(|extension| extension == "md")).collect();
    pages.sort();
    pages.insert(0, root().join("README.md"));
    pages
}

fn shown(document: &Path) -> Vec<Shown> {
    let text = fs::read_to_string(document).unwrap();
    let mut commands: Vec<Shown> = Vec::new();
    for block in text.split("```console").skip(1) {
        let (kind, block) = block.split_once('\n').unwrap();
        assert!(["", " new-server"].contains(&kind), "`{kind}` is an unknown kind of block");
        let (block, _) = block.split_once("```").unwrap();
        let mut goes_on = false;
        for line in block.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                let (command, output, is_for_new) =
                    (command.to_owned(), Vec::new(), !kind.is_empty());
                commands.push(Shown { command, output, is_for_new });
            } else if goes_on {
                let last = commands.last_mut().unwrap();
                last.command = format!("{}\n{line}", last.command);
            } else {
                commands.last_mut().unwrap().output.push(line.to_owned());
            }
            goes_on = line.ends_with('\\');
        }
    }
    commands
}

/// Returns whether a line is as the document shows it.
fn matches(line: &str, shown: &str) -> bool {
    let mut parts = shown.trim_end().split("...");
    let (first, line) = (parts.next().unwrap_or_default(), line.trim_end());
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut ends = true;
    for part in parts {
        ends = part.is_empty();
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    ends && shown.contains("...") || rest.is_empty()
}

fn all_match(lines: &[&str], shown: &[String]) -> bool {
    match (lines, shown) {
        ([], []) => true,
        (_, [dots, more @ ..]) if dots == "..." => {
            (0..=lines.len()).any(|skipped| all_match(&lines[skipped..], more))
        }
        ([line, lines @ ..], [first, more @ ..]) => matches(line, first) && all_match(lines, more),
        _ => false,
    }
}

/// Starts a server without a user. Returns its process and where its commands run.
fn start_new(folder: &Path) -> (ChildProcess, Place) {
    let (process, address) = start_serving(serve_command(&serve(folder, CHEAP_HASHES)));
    let endpoint = format!("http://{address}");
    (process, Place { folder: folder.join("data"), endpoint, key: None })
}

/// Runs the commands of a document against a server of its own, and checks their output.
fn run(document: &str) {
    let _limit = start_time_limit();
    let commands = shown(&root().join(document));
    assert!(!commands.is_empty(), "{document} has no block");
    let program = PathBuf::from(shoreguard_command(&[]).get_program());
    let programs = program.parent().unwrap().to_owned();
    let path = std::env::join_paths(
        [programs].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();
    let folder = tempfile::tempdir().unwrap();
    // The default folder of `dev`, in which the documents read its keys.
    let server = start_dev(&folder.path().join("shoreguard-dev"));
    let dev = Place {
        folder: folder.path().to_owned(),
        endpoint: format!("http://{}", server.about["listen"].as_str().unwrap()),
        key: Some(server.about["admin_key"].as_str().unwrap().to_owned()),
    };
    let other = tempfile::tempdir().unwrap();
    let new = commands.iter().any(|shown| shown.is_for_new).then(|| start_new(other.path()));
    for Shown { command, output, is_for_new } in &commands {
        let place = new.as_ref().filter(|_| *is_for_new).map_or(&dev, |(_, place)| place);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .current_dir(&place.folder)
            .env("PATH", &path)
            .env("XDG_CONFIG_HOME", &place.folder)
            .env("SHOREGUARD_ENDPOINT", &place.endpoint)
            .env_remove("SHOREGUARD_KEY");
        if let Some(key) = &place.key {
            shell.env("SHOREGUARD_KEY", key);
        }
        let done = shell.output().unwrap();
        let (text, errors) =
            (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            all_match(&lines, output),
            "{document}:\n$ {command}\nshows\n{}\nand does\n{text}{errors}",
            output.join("\n")
        );
    }
}

/// Lists the documents that have `console` blocks. Each becomes a test.
macro_rules! console_blocks {
    ($($name:ident: $document:literal,)+) => {
        const DOCUMENTS: &[&str] = &[$($document),+];

        mod console_blocks_produce_their_shown_output {
            $(
                #[test]
                fn $name() {
                    super::run($document);
                }
            )+
        }
    };
}

console_blocks! {
    readme: "README.md",
    access: "docs/access.md",
    cli: "docs/cli.md",
    fleet: "docs/fleet.md",
    operations: "docs/operations.md",
    policies: "docs/policies.md",
    quickstart: "docs/quickstart.md",
    sandboxes: "docs/sandboxes.md",
    sboms: "docs/sboms.md",
}

#[test]
fn every_document_with_console_blocks_is_tested() {
    let _limit = start_time_limit();
    let documents = documents().into_iter().filter(|document| !shown(document).is_empty());
    let tested: Vec<PathBuf> = DOCUMENTS.iter().map(|document| root().join(document)).collect();
    assert_eq!(documents.collect::<Vec<_>>(), tested, "list them in `console_blocks!`");
}

#[test]
fn dots_match_any_text() {
    let _limit = start_time_limit();
    for (line, shown, expected) in [
        ("a b c", "a...c", true),
        ("a b c", "a ...", true),
        ("a b c", "...b...", true),
        ("a b c", "a b", false),
        ("a b", "a b", true),
        ("a b c", "...d", false),
    ] {
        assert_eq!(matches(line, shown), expected, "{line} {shown}");
    }
    let any = ["...".to_owned(), "end".to_owned()];
    assert!(all_match(&["one", "two", "end"], &any) && !all_match(&["one"], &any));
}
