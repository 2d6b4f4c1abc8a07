//! The only module that writes to the terminal.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::telemetry;

/// How long a server waits until its standard output is read.
const ANNOUNCE_TIME: Duration = Duration::from_secs(1);

/// Writes a result and a newline to standard output. A closed pipe, for example to `head`, is not an error.
pub(super) fn print_result(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", escape_control(text)).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
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
    if !telemetry::log_line(&text) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Escapes control and format characters, so that names and messages of a gateway can neither control a terminal nor
/// reverse the reading order. In JSON such characters occur only in strings, and the escape is that of JSON.
pub(super) fn escape_control(text: &str) -> String {
    let mut inert = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && c != '\n') || is_format(c) {
            write!(inert, "\\u{:04x}", u32::from(c)).expect("a string takes all");
        } else {
            inert.push(c);
        }
    }
    inert
}

/// Whether a character is invisible: direction marks, joiners, separators.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
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
    }

    #[test]
    fn escaped_json_parses_to_the_same_value() {
        let text = serde_json::to_string("a\u{9b}\u{202e}\n").unwrap();
        assert_eq!(
            serde_json::from_str::<String>(&escape_control(&text)).unwrap(),
            "a\u{9b}\u{202e}\n"
        );
    }
}
