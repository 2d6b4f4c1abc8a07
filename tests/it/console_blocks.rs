//! Every `console` block of README.md and of the pages in `docs/` does what it shows, against `shoreguard dev`. Each page
//! is a test. The commands of a block of `console new-server` run in the data directory of a server without a user.
//!
//! A line that starts with `$ ` is a command, and continues after a backslash. The lines below it are its output: `...`
//! matches any text within a line, and a line of `...` alone any number of lines. `deploy/checks/tutorial.py` reads the
//! blocks of the tutorial, for a system on which no tests can be built. `tests/console_blocks.json` has cases that both
//! readers must pass.

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

/// Returns README.md and the pages in `docs/`.
pub(crate) fn documents() -> Vec<PathBuf> {
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|page| page.unwrap().path());
    let mut pages: Vec<PathBuf> =
        pages.filter(|page| page.extension().is_some_and(|extension| extension == "md")).collect();
    pages.sort();
    pages.insert(0, root().join("README.md"));
    pages
}

fn shown_in(document: &Path) -> Vec<Shown> {
    shown(&fs::read_to_string(document).unwrap())
}

fn shown(page: &str) -> Vec<Shown> {
    let mut commands: Vec<Shown> = Vec::new();
    for block in page.split("```console").skip(1) {
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
    let (line, shown) = (line.trim_end(), shown.trim_end());
    let parts: Vec<&str> = shown.split("...").collect();
    let [first, middle @ .., last] = parts.as_slice() else { return line == shown };
    let Some(mut rest) = line.strip_prefix(*first) else { return false };
    for part in middle {
        let Some(at) = rest.find(*part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(*last)
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
    let commands = shown_in(&root().join(document));
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
    tasks: "docs/tasks.md",
}

#[test]
fn every_document_with_console_blocks_is_tested() {
    let _limit = start_time_limit();
    let documents = documents().into_iter().filter(|document| !shown_in(document).is_empty());
    let tested: Vec<PathBuf> = DOCUMENTS.iter().map(|document| root().join(document)).collect();
    assert_eq!(documents.collect::<Vec<_>>(), tested, "list them in `console_blocks!`");
}

/// Returns the file of cases that this reader and `tutorial.py` must pass.
fn cases() -> PathBuf {
    root().join("tests/console_blocks.json")
}

fn strings(list: &serde_json::Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn blocks_and_outputs_are_read_as_the_cases_expect() {
    let _limit = start_time_limit();
    let text = fs::read_to_string(cases()).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    for case in cases["pages"].as_array().unwrap() {
        let found = shown(case["page"].as_str().unwrap());
        let found: Vec<_> = found.into_iter().map(|shown| (shown.command, shown.output)).collect();
        let commands = case["commands"].as_array().unwrap().iter();
        let expected: Vec<_> = commands
            .map(|one| (one["command"].as_str().unwrap().to_owned(), strings(&one["output"])))
            .collect();
        assert_eq!(found, expected, "{case}");
    }
    for case in cases["outputs"].as_array().unwrap() {
        let lines: Vec<&str> = case["printed"].as_str().unwrap().lines().collect();
        let is_match = all_match(&lines, &strings(&case["shown"]));
        assert_eq!(is_match, case["matches"].as_bool().unwrap(), "{case}");
    }
}

#[test]
fn the_tutorial_check_reads_blocks_and_outputs_alike() {
    let _limit = start_time_limit();
    let program = root().join("deploy/checks/tutorial.py");
    let done = Command::new("python3").arg(program).arg("--cases").arg(cases()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
