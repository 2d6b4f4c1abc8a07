//! A scene: commands that run one after the other against a server, and become a golden file.
//!
//! Invariants
//! - commands of the table run inside this process. Those that are written by hand run as processes of a user with a
//!   home folder, since they handle signals and store credentials;
//! - values of the scene, such as ids and digests, are shown by their names.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use shoreguard::cli::Captured;
use shoreguard::pb::v1::Role;

use super::super::{AWAY, FORMS, run, scrub, show, with_form};
use crate::cli_login::{Home, wait};
use crate::commands::{ChildProcess, text};
use crate::support::server::TestServer;

/// A form of the answer, with its letter.
pub(super) type Form = (&'static str, &'static str);

/// The caller without a credential. Stored ones are used.
pub(super) const STORED: &str = "";
/// The caller with the key of the admin.
pub(super) const ADMIN: &str = "admin";
/// The same, whose server is away.
pub(super) const ELSEWHERE: &str = "elsewhere";
/// The caller without a role.
pub(super) const DENIED: &str = "denied";
/// Minimum length of a value that is replaced by its name where it is printed, in bytes.
const LONG: usize = 20;
/// Exit code of a command that was interrupted.
const INTERRUPTED: u8 = 130;

pub(super) struct Scene {
    endpoint: String,
    home: Home,
    folder: tempfile::TempDir,
    /// Credentials by caller.
    keys: BTreeMap<&'static str, String>,
    /// Values by their name in arguments.
    values: BTreeMap<&'static str, String>,
    /// What is printed, and what is shown instead.
    masks: Vec<(String, String)>,
    shown: String,
    faults: Vec<String>,
    /// Commands that have succeeded, with their form.
    succeeded: Vec<(String, &'static str)>,
}

impl Scene {
    pub(super) async fn build(sg: &TestServer) -> Self {
        let denied = sg.admin().create_key(DENIED, Role::None).await;
        let keys = BTreeMap::from([
            (STORED, String::new()),
            (ADMIN, sg.admin_key.clone()),
            (ELSEWHERE, sg.admin_key.clone()),
            (DENIED, denied),
        ]);
        let mut scene = Self {
            endpoint: String::new(),
            home: Home::new(sg),
            folder: tempfile::tempdir().unwrap(),
            keys,
            values: BTreeMap::new(),
            masks: Vec::new(),
            shown: String::new(),
            faults: Vec::new(),
            succeeded: Vec::new(),
        };
        scene.move_to(sg);
        scene
    }

    /// Runs further commands against this server.
    pub(super) fn move_to(&mut self, sg: &TestServer) {
        self.endpoint = format!("http://{}", sg.address);
        self.masks.push((self.endpoint.clone(), "<server>".to_owned()));
    }

    /// Adds a caller.
    pub(super) fn add_caller(&mut self, name: &'static str, key: &str) {
        self.keys.insert(name, key.to_owned());
    }

    /// Sets a value, which replaces its name in braces in the arguments of commands.
    pub(super) fn set(&mut self, name: &'static str, value: String) {
        if value.len() >= LONG {
            self.masks.push((value.clone(), format!("<{name}>")));
        }
        self.values.insert(name, value);
    }

    /// Writes a file, whose path is the value of this name.
    pub(super) fn write(&mut self, name: &'static str, content: &str) {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let path = path.display().to_string();
        self.masks.push((path.clone(), format!("<{name}>")));
        self.set(name, path);
    }

    /// Changes all that is stored for the server to a server that is away.
    pub(super) fn move_stored_away(&self) {
        for file in ["contexts.toml", "credentials.toml"] {
            self.home.edit(file, |line| line.replace(&self.endpoint, AWAY));
        }
    }

    /// Runs a command of the table, which succeeds.
    pub(super) async fn ok(&mut self, form: Form, caller: &str, arguments: &str) {
        self.table(0, form, caller, arguments, "").await;
    }

    /// Does the same with a standard input.
    pub(super) async fn ok_with(&mut self, form: Form, caller: &str, arguments: &str, input: &str) {
        self.table(0, form, caller, arguments, input).await;
    }

    /// Runs a command of the table, which is refused.
    pub(super) async fn refused(&mut self, form: Form, caller: &str, arguments: &str) {
        self.table(1, form, caller, arguments, "").await;
    }

    async fn table(
        &mut self,
        expected: u8,
        form: Form,
        caller: &str,
        arguments: &str,
        input: &str,
    ) {
        let template = with_form(arguments, form);
        let ran = run(&self.endpoint, &self.keys[caller], &self.fill(&template), input).await;
        let what = if expected == 0 { "ok" } else { "refused" };
        self.add(what, expected, caller, &template, &ran);
        if expected == 0 {
            self.succeeded.push((arguments.to_owned(), form.0));
        }
    }

    /// Runs a command that is written by hand in each form: with success, about something that does not exist, without
    /// a role, and without a server. The codes are those of the last three.
    pub(super) async fn outcomes(&mut self, good: &[&str], missing: &[&str], codes: [u8; 3]) {
        for form in FORMS {
            self.act("ok", 0, form, ADMIN, good, "").await;
            self.failures(form, good, missing, codes).await;
        }
    }

    /// Runs a command that is written by hand as [`Scene::outcomes`] does, except for the success.
    pub(super) async fn failures(
        &mut self,
        form: Form,
        good: &[&str],
        missing: &[&str],
        [missing_code, denied_code, away_code]: [u8; 3],
    ) {
        self.act("not found", missing_code, form, ADMIN, missing, "").await;
        self.act("denied", denied_code, form, DENIED, good, "").await;
        self.act("server away", away_code, form, ELSEWHERE, good, "").await;
    }

    /// Runs a command that is written by hand in a form.
    pub(super) async fn act(
        &mut self,
        what: &str,
        expected: u8,
        form: Form,
        caller: &str,
        words: &[&str],
        input: &str,
    ) {
        let at = words.iter().position(|word| *word == "--").unwrap_or(words.len());
        let mut all = words.to_vec();
        drop(all.splice(at..at, ["-o", form.0]));
        self.process(what, expected, caller, &all, input).await;
        if what == "ok" {
            self.succeeded.push((words.join(" "), form.0));
        }
    }

    /// Runs a command that has one form only.
    pub(super) async fn plain(
        &mut self,
        what: &str,
        expected: u8,
        caller: &str,
        words: &[&str],
        input: &str,
    ) {
        self.process(what, expected, caller, words, input).await;
        if what == "ok" {
            self.succeeded.extend(FORMS.map(|form| (words.join(" "), form.0)));
        }
    }

    /// Runs a command that does not end, and interrupts it after its first line.
    pub(super) async fn watch(&mut self, form: Form, caller: &str, words: &[&str]) {
        let all: Vec<&str> = words.iter().copied().chain(["-o", form.0]).collect();
        let mut child = self.command(caller, &all).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut process = ChildProcess(child);
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            output.read_line(&mut line).map(|_| (line, output))
        });
        // The pipe stays open until the command has ended.
        let (line, _output) = reading.await.unwrap().unwrap();
        process.signal("INT");
        let code = process.wait_exit().code();
        let mut stderr = String::new();
        process.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let ran = Captured { code: to_code(code), stdout: without_positions(&line), stderr };
        self.add("ok until it is interrupted", INTERRUPTED, caller, &quoted(&all), &ran);
        self.succeeded.push((words.join(" "), form.0));
    }

    async fn process(
        &mut self,
        what: &str,
        expected: u8,
        caller: &str,
        words: &[&str],
        input: &str,
    ) {
        let mut child = self.command(caller, words).stdin(Stdio::piped()).spawn().unwrap();
        // A command that does not read its input closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let done = wait(child).await;
        let code = to_code(done.status.code());
        let ran = Captured { code, stdout: text(&done.stdout), stderr: text(&done.stderr) };
        self.add(what, expected, caller, &quoted(words), &ran);
    }

    fn command(&self, caller: &str, words: &[&str]) -> Command {
        let filled: Vec<String> = words.iter().map(|word| self.fill(word)).collect();
        let filled: Vec<&str> = filled.iter().map(String::as_str).collect();
        let mut command = self.home.command(&filled);
        let endpoint = if caller == ELSEWHERE { AWAY } else { self.endpoint.as_str() };
        command.env("SHOREGUARD_ENDPOINT", endpoint);
        if !self.keys[caller].is_empty() {
            command.env("SHOREGUARD_KEY", &self.keys[caller]);
        }
        command
    }

    /// Returns arguments with the values in place of their names.
    fn fill(&self, template: &str) -> String {
        self.values.iter().fold(template.to_owned(), |filled, (name, value)| {
            filled.replace(&format!("{{{name}}}"), value)
        })
    }

    /// Adds a run to the file.
    fn add(&mut self, what: &str, expected: u8, caller: &str, template: &str, ran: &Captured) {
        let named = self.values.keys().fold(template.to_owned(), |named, name| {
            named.replace(&format!("{{{name}}}"), &format!("<{name}>"))
        });
        let mask = |printed: &str| {
            let masks = self.masks.iter();
            masks.fold(printed.to_owned(), |shown, (from, to)| shown.replace(from, to))
        };
        let (stdout, stderr) = (mask(&ran.stdout), mask(&ran.stderr));
        let ran = Captured { code: ran.code, stdout, stderr };
        if ran.code != expected {
            self.faults.push(format!("{named}: {expected} is expected: {ran:?}"));
        }
        let what = if [STORED, ADMIN, ELSEWHERE, DENIED].contains(&caller) {
            what.to_owned()
        } else {
            format!("{what} as {caller}")
        };
        show(&mut self.shown, &what, &named, &ran);
    }

    /// Compares the runs with the golden file of this name. Each of these commands must have succeeded in each form.
    pub(super) fn finish(mut self, name: &str, commands: &[&str]) {
        for command in commands {
            for (form, _) in FORMS {
                let is_it = |(ran, of): &(String, &str)| ran.starts_with(command) && *of == form;
                if !self.succeeded.iter().any(is_it) {
                    self.faults.push(format!("`{command}` does not succeed as {form}"));
                }
            }
        }
        let file = scrub::scrub(&self.shown);
        assert!(self.faults.is_empty(), "{:#?}\n{file}", self.faults);
        insta::assert_snapshot!(name, file);
    }
}

fn to_code(code: Option<i32>) -> u8 {
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Returns a command as it is typed in a shell.
fn quoted(words: &[&str]) -> String {
    let quote =
        |word: &&str| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Returns a line of a watch without the numbers of events, which a job assigns.
fn without_positions(line: &str) -> String {
    let is_number = |cell: &str| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
    let cells = line.trim_end().split("  ");
    let line = cells.map(|cell| if is_number(cell) { "<n>" } else { cell });
    let line = line.collect::<Vec<_>>().join("  ");
    ["\"sequence\":", "\"cursor\":"].iter().fold(line, |line, field| {
        let Some((before, after)) = line.split_once(field) else { return line };
        let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{before}{field}<n>{after}")
    })
}
