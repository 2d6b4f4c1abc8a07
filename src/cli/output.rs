//! The one place that writes to the terminal.

use std::fmt::Write as _;
use std::io::{self, Write as _};

/// Writes an answer and a line's end to standard output. A reader that went away, as `head` does, is no failure.
pub(super) fn answer(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", inert(text)).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Writes what went wrong to standard error, which nobody could be told if that failed.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", inert(text));
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
