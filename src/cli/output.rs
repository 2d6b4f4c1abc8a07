//! The one place that writes to the terminal.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::telemetry;

/// How long a server waits for the reader of its standard output.
const ANNOUNCE_TIME: Duration = Duration::from_secs(1);

/// Writes an answer and a line's end to standard output. A reader that went away, as `head` does, is no failure.
pub(super) fn answer(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", inert(text)).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Writes an answer of a command that goes on to serve: on a thread of its own, which is waited for so long and no
/// longer, since a pipe that is full and not read would hold the server. The thread ends with the write or the process.
pub(super) async fn announce(text: String) -> io::Result<()> {
    let (done, written) = oneshot::channel();
    std::thread::Builder::new().name("announce".to_owned()).spawn(move || {
        let _ = done.send(answer(&text));
    })?;
    match tokio::time::timeout(ANNOUNCE_TIME, written).await {
        Ok(Ok(written)) => written,
        Ok(Err(_)) => Err(io::Error::other("the thread that prints has panicked")),
        // It is printed once the pipe is read.
        Err(_) => Ok(()),
    }
}

/// Writes what went wrong to the log of a server, or to standard error, which nobody could be told if that failed.
pub(super) fn complain(text: &str) {
    let text = inert(text);
    if !telemetry::log_line(&text) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Text in which a gateway's names and messages can neither steer a terminal nor turn the reading order around. In JSON
/// such characters stand inside strings only, and the escape is JSON's own.
pub(super) fn inert(text: &str) -> String {
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

/// Characters without a shape of their own: directions, joiners, separators.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(
            inert("a\u{1b}[2Jb\u{9b}c\r\u{202e}d\nü"),
            "a\\u001b[2Jb\\u009bc\\u000d\\u202ed\nü"
        );
    }

    #[test]
    fn json_stays_json() {
        let text = serde_json::to_string("a\u{9b}\u{202e}\n").unwrap();
        assert_eq!(serde_json::from_str::<String>(&inert(&text)).unwrap(), "a\u{9b}\u{202e}\n");
    }
}
