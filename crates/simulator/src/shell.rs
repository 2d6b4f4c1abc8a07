//! The only program in a simulated sandbox: a shell with a dozen commands.
//!
//! A command is executed at once and produces its output with the pauses in between, so that the stream that plays the
//! output can be cut off by a timeout.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use tonic::Status;

/// Maximum output of one run, in bytes.
const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Maximum size of one message, in bytes.
const CHUNK_BYTES: usize = 32 * 1024;

/// The exit code of a command that does not exist.
const NOT_FOUND: i32 = 127;

/// Refuses commands that no sandbox runs: an empty one, and one with invalid names of environment variables.
pub(super) fn check_command(
    command: &[String],
    environment: &BTreeMap<String, String>,
) -> Result<(), Status> {
    if command.is_empty() {
        return Err(Status::invalid_argument("command is required"));
    }
    let is_name = |key: &str| {
        let letter = |c: char| c == '_' || c.is_ascii_alphabetic();
        key.starts_with(letter) && key.chars().all(|c| letter(c) || c.is_ascii_digit())
    };
    if environment.keys().all(|key| is_name(key)) {
        return Ok(());
    }
    Err(Status::invalid_argument("environment keys must match ^[A-Za-z_][A-Za-z0-9_]*$"))
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Output to stdout.
    Out(Bytes),
    /// Output to stderr.
    Err(Bytes),
    /// A pause.
    Pause(Duration),
    /// Output to stdout that repeats forever, as fast as it is read.
    Repeat(Bytes),
}

/// The result of executing a command.
#[derive(Debug, Default)]
pub(super) struct CommandRun {
    /// The steps, in order.
    pub(super) steps: Vec<Step>,
    /// Exit code.
    pub(super) code: i32,
    written: usize,
}

/// The parameters of a command.
#[derive(Debug, Default)]
pub(super) struct CommandSpec {
    /// The command and its arguments.
    pub(super) command: Vec<String>,
    /// The working directory; empty for `/sandbox`.
    pub(super) workdir: String,
    /// Environment variables.
    pub(super) environment: BTreeMap<String, String>,
    /// The complete stdin.
    pub(super) stdin: Bytes,
    /// Columns and rows of the terminal; `None` without a terminal.
    pub(super) terminal: Option<(u32, u32)>,
}

impl CommandSpec {
    /// Executes the command.
    pub(super) fn run(&self) -> CommandRun {
        let mut run = CommandRun::default();
        let words: Vec<&str> = self.command.iter().map(String::as_str).collect();
        run.code = match words.as_slice() {
            ["sh" | "bash" | "/bin/sh" | "/bin/bash", flag, script, ..] if flag.ends_with('c') => {
                self.run_script(&mut run, script)
            }
            ["sh" | "bash" | "/bin/sh" | "/bin/bash"] => {
                self.run_script(&mut run, &String::from_utf8_lossy(&self.stdin))
            }
            words => self.run_command(&mut run, words, false),
        };
        run
    }

    /// Executes commands separated by `;`, until `exit`.
    fn run_script(&self, run: &mut CommandRun, script: &str) -> i32 {
        let mut code = 0;
        for line in split_lines(script).iter().filter(|line| !line.is_empty()) {
            let to_err = line.iter().any(|word| word == ">&2" || word == "1>&2");
            let words: Vec<&str> =
                line.iter().map(String::as_str).filter(|word| !word.ends_with(">&2")).collect();
            if let ["exit", rest @ ..] = words.as_slice() {
                return rest.first().map_or(code, |number| exit_code(number));
            }
            code = self.run_command(run, &words, to_err);
        }
        code
    }

    fn run_command(&self, run: &mut CommandRun, words: &[&str], to_err: bool) -> i32 {
        match words {
            [] | ["true"] => {}
            ["false"] => return 1,
            ["exit", number] => return exit_code(number),
            ["echo", rest @ ..] => run.write(&format!("{}\n", rest.join(" ")), to_err),
            ["cat"] => run.write_bytes(&self.stdin, to_err),
            ["env"] => {
                for (key, value) in &self.environment {
                    run.write(&format!("{key}={value}\n"), to_err);
                }
            }
            ["pwd"] => {
                let workdir = if self.workdir.is_empty() { "/sandbox" } else { &self.workdir };
                run.write(&format!("{workdir}\n"), to_err);
            }
            ["stty", "size"] => {
                let Some((cols, rows)) = self.terminal else {
                    run.write("stty: not a terminal\n", true);
                    return 1;
                };
                run.write(&format!("{rows} {cols}\n"), to_err);
            }
            ["sleep", seconds] => {
                let seconds = seconds.parse().unwrap_or(0.0_f64);
                let pause = Duration::try_from_secs_f64(seconds).unwrap_or_default();
                run.steps.push(Step::Pause(pause));
            }
            ["yes"] => run.steps.push(Step::Repeat(Bytes::from("y\n".repeat(CHUNK_BYTES / 2)))),
            ["seq", last] => run.count("1", last, to_err),
            ["seq", first, last] => run.count(first, last, to_err),
            [unknown, ..] => {
                run.write(&format!("sh: {unknown}: command not found\n"), true);
                return NOT_FOUND;
            }
        }
        0
    }
}

impl CommandRun {
    fn count(&mut self, first: &str, last: &str, to_err: bool) {
        let mut lines = String::new();
        for number in first.parse().unwrap_or(1_u32)..=last.parse().unwrap_or(0_u32) {
            if lines.len() >= OUTPUT_BYTES_MAX {
                break;
            }
            let _ = writeln!(lines, "{number}");
        }
        self.write(&lines, to_err);
    }

    fn write(&mut self, text: &str, to_err: bool) {
        self.write_bytes(text.as_bytes(), to_err);
    }

    fn write_bytes(&mut self, bytes: &[u8], to_err: bool) {
        let room = OUTPUT_BYTES_MAX.saturating_sub(self.written).min(bytes.len());
        self.written += room;
        for chunk in bytes[..room].chunks(CHUNK_BYTES) {
            let chunk = Bytes::copy_from_slice(chunk);
            self.steps.push(if to_err { Step::Err(chunk) } else { Step::Out(chunk) });
        }
    }
}

fn exit_code(number: &str) -> i32 {
    number.parse().unwrap_or(2)
}

/// Splits a script into lines of words; quoted words are kept together.
fn split_lines(script: &str) -> Vec<Vec<String>> {
    let mut lines = vec![Vec::new()];
    let (mut word, mut in_word, mut quote) = (String::new(), false, None);
    for c in script.chars().chain([';']) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                in_word = true;
            }
            (None, ';' | '\n' | ' ' | '\t') => {
                if in_word && let Some(line) = lines.last_mut() {
                    line.push(std::mem::take(&mut word));
                }
                in_word = false;
                if matches!(c, ';' | '\n') {
                    lines.push(Vec::new());
                }
            }
            (None, c) => {
                word.push(c);
                in_word = true;
            }
        }
    }
    lines
}
