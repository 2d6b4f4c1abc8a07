//! The only module that writes to the terminal.
//!
//! Invariants
//! - text is escaped before it is written; bytes that a user asked to be saved are not;
//! - a command whose output is captured neither reads nor writes the terminal.

use std::fmt::Write as _;
use std::future::pending;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// How long a server waits until its standard output is read.
const ANNOUNCE_TIME: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// Where the command of this task reads and writes, in place of the terminal.
    static CAPTURE: Arc<Capture>;
}

/// The input of a command, and what it has written.
#[derive(Debug, Default)]
pub(super) struct Capture {
    input: Mutex<io::Cursor<Vec<u8>>>,
    stdout: Mutex<Vec<u8>>,
    stderr: Mutex<Vec<u8>>,
}

impl Capture {
    /// Returns a capture whose command reads `input` as its standard input.
    pub(super) fn new(input: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { input: Mutex::new(io::Cursor::new(input)), ..Self::default() })
    }

    /// Runs a command in this capture.
    pub(super) async fn run<T>(self: &Arc<Self>, command: impl Future<Output = T>) -> T {
        CAPTURE.scope(Arc::clone(self), command).await
    }

    /// Returns what was written to standard output and to standard error.
    pub(super) fn written(&self) -> (Vec<u8>, Vec<u8>) {
        (self.stdout.lock().clone(), self.stderr.lock().clone())
    }
}

/// Returns the capture of this task, if its command is captured.
fn capture() -> Option<Arc<Capture>> {
    CAPTURE.try_with(Arc::clone).ok()
}

/// Writes a result and a newline to standard output. A closed pipe, for example to `head`, is not an error.
pub(super) fn print_result(text: &str) -> io::Result<()> {
    let _ = print_item(text)?;
    Ok(())
}

/// Writes one item of a stream and a newline to standard output. Breaks if it is no longer read.
pub(super) fn print_item(text: &str) -> io::Result<ControlFlow<()>> {
    print_bytes(format!("{}\n", escape_control(text)).as_bytes())
}

/// Writes bytes to standard output as they are. Breaks if they are no longer read.
pub(super) fn print_bytes(bytes: &[u8]) -> io::Result<ControlFlow<()>> {
    if let Some(capture) = capture() {
        capture.stdout.lock().extend_from_slice(bytes);
        return Ok(ControlFlow::Continue(()));
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        done => done.map(ControlFlow::Continue),
    }
}

/// Returns when standard output is a pipe whose reader has closed it, as `head` does. Otherwise it does not return.
pub(super) async fn closed() {
    static CLOSED: OnceLock<CancellationToken> = OnceLock::new();
    if is_captured() {
        return pending().await;
    }
    CLOSED.get_or_init(watch_reader).cancelled().await;
}

/// Starts a thread that cancels the returned token when standard output cannot be read any more. The process does not
/// wait for the thread at its end.
fn watch_reader() -> CancellationToken {
    let closed = CancellationToken::new();
    let found = closed.clone();
    let watch = move || {
        let stdout = io::stdout();
        // Errors and hang-ups are reported in any case. A file has neither.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        loop {
            match poll(&mut watched, None) {
                Err(Errno::INTR) => {}
                Ok(_) => return found.cancel(),
                Err(_) => return,
            }
        }
    };
    // Without the thread, the command ends at its next write.
    let _ = std::thread::Builder::new().name("stdout".to_owned()).spawn(watch);
    closed
}

/// Writes the result of a command that continues to serve. It is written by a separate thread, which is waited for one
/// second, since a full pipe without a reader would block the server. The thread ends with the write or with the
/// process.
pub(super) async fn print_started(text: String) -> io::Result<()> {
    let (done, written) = oneshot::channel();
    std::thread::Builder::new().name("announce".to_owned()).spawn(move || {
        let _ = done.send(print_result(&text));
    })?;
    match tokio::time::timeout(ANNOUNCE_TIME, written).await {
        Ok(Ok(written)) => written,
        Ok(Err(_)) => Err(io::Error::other("the thread that prints has panicked")),
        // The text is printed as soon as the pipe is read.
        Err(_) => Ok(()),
    }
}

/// Writes an error to the log of a server, or to standard error. A failure to write it is ignored.
pub(super) fn print_error(text: &str) {
    let text = escape_control(text);
    if let Some(capture) = capture() {
        let mut stderr = capture.stderr.lock();
        stderr.extend_from_slice(text.as_bytes());
        stderr.push(b'\n');
    } else if !telemetry::log_line(&text) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Writes a question to standard error, without a newline.
pub(super) fn print_question(text: &str) {
    let text = escape_control(text);
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{text} ");
    let _ = stderr.flush();
}

/// Reads standard input to its end, at most `limit` bytes. Closed input is empty.
pub(super) fn read_input(limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(capture) = capture() {
        io::Read::by_ref(&mut *capture.input.lock()).take(limit).read_to_end(&mut bytes)?;
    } else {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Whether the command runs inside a process of another program, which has its arguments and its output.
pub(super) fn is_captured() -> bool {
    capture().is_some()
}

/// Whether a person can answer a question.
pub(super) fn can_ask() -> bool {
    capture().is_none() && io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Returns the width of the terminal in columns; `None` if standard output is not a terminal.
pub(super) fn terminal_columns() -> Option<usize> {
    if capture().is_some() || !io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Returns the text on one line.
pub(super) fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Escapes control and format characters, so that names and messages of a gateway can neither control a terminal nor
/// reverse the reading order. In JSON such characters occur only in strings, and the escape is that of JSON.
pub(super) fn escape_control(text: &str) -> String {
    let mut inert = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && c != '\n') || is_format(c) {
            // Two halves for a character above U+FFFF, as in JSON.
            for unit in &*c.encode_utf16(&mut [0; 2]) {
                write!(inert, "\\u{unit:04x}").expect("a string takes all");
            }
        } else {
            inert.push(c);
        }
    }
    inert
}

/// Whether a character is invisible: direction marks, joiners, separators, and tags, which hide text from people.
fn is_format(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_control_characters_are_escaped() {
        assert_eq!(
            escape_control("a\u{1b}[2Jb\u{9b}c\r\u{202e}d\nü"),
            "a\\u001b[2Jb\\u009bc\\u000d\\u202ed\nü"
        );
        assert_eq!(
            escape_control("a\u{ad}\u{61c}\u{180e}\u{fff9}b\u{e0041}"),
            "a\\u00ad\\u061c\\u180e\\ufff9b\\udb40\\udc41"
        );
    }

    #[test]
    fn escaped_json_parses_to_the_same_value() {
        let given = "a\u{9b}\u{202e}\u{e0041}\n";
        let text = serde_json::to_string(given).unwrap();
        assert_eq!(serde_json::from_str::<String>(&escape_control(&text)).unwrap(), given);
    }

    #[tokio::test]
    async fn a_captured_command_reads_its_input_and_writes_apart() {
        let capture = Capture::new(b"abcdef".to_vec());
        let read = capture.run(async {
            print_result("an answer\u{1b}").unwrap();
            print_error("a note");
            (read_input(4).unwrap(), read_input(4).unwrap(), can_ask(), terminal_columns())
        });
        assert_eq!(read.await, (b"abcd".to_vec(), b"ef".to_vec(), false, None));
        let (stdout, stderr) = capture.written();
        assert_eq!(stdout, b"an answer\\u001b\n");
        assert_eq!(stderr, b"a note\n");
    }
}
