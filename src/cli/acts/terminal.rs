//! Text for a terminal, in color where it has some, and questions to its user.
//!
//! Invariants
//! - each text is escaped before color is added;
//! - there is no color without a terminal, with `NO_COLOR`, or with `TERM=dumb`;
//! - an answer that was typed before its question was shown is discarded.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;

use super::super::{CliError, input, output};

/// Look of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Ordinary text.
    Plain,
    /// A heading.
    Heading,
    /// Something that is added.
    Added,
    /// Something that is removed.
    Removed,
    /// Something that changes.
    Changed,
    /// A warning.
    Warning,
}

impl Look {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Heading => "1",
            Self::Added => "32",
            Self::Removed => "31",
            Self::Changed => "36",
            Self::Warning => "33",
        }
    }
}

/// Lines to be printed together.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    has_color: bool,
}

impl Page {
    /// Returns an empty page for standard output.
    pub(super) fn new() -> Self {
        Self { text: String::new(), has_color: has_color() }
    }

    /// Adds one line. Line breaks in the text become spaces, so that no text looks like two lines.
    pub(super) fn line(&mut self, look: Look, text: &str) {
        self.push(look, &output::one_line(text));
    }

    /// Adds each line of a text with a prefix.
    pub(super) fn block(&mut self, look: Look, prefix: &str, text: &str) {
        for line in text.lines() {
            self.push(look, &format!("{prefix}{line}"));
        }
    }

    fn push(&mut self, look: Look, line: &str) {
        let line = output::escape_control(line);
        let done = if self.has_color && look != Look::Plain {
            writeln!(self.text, "\u{1b}[{}m{line}\u{1b}[0m", look.code())
        } else {
            writeln!(self.text, "{line}")
        };
        done.expect("a string takes all");
    }

    /// Prints the page to standard output. Exits with 0 if its reader has closed it.
    pub(super) fn print(&self) -> Result<(), CliError> {
        until_closed(output::print_bytes(self.text.as_bytes())?)
    }
}

/// Prints one line of a stream. Exits with 0 if its reader has closed it.
pub(super) fn print_line(text: &str) -> Result<(), CliError> {
    until_closed(output::print_item(&output::one_line(text))?)
}

fn until_closed(printed: ControlFlow<()>) -> Result<(), CliError> {
    match printed {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(CliError::Exit(0, String::new())),
    }
}

/// Whether text on standard output is colored.
fn has_color() -> bool {
    let has_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !output::is_captured() && !has_none && !is_dumb()
}

/// Whether the terminal cannot move its cursor.
pub(super) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|name| name == "dumb")
}

/// Whether a person can see a page and answer a question.
pub(super) fn is_interactive() -> bool {
    output::can_ask() && io::stdout().is_terminal()
}

/// Asks a question, and returns the answer without spaces at its ends. `None` at the end of the input.
pub(super) async fn ask(question: &str) -> Result<Option<String>, CliError> {
    let show = || {
        let mut stdout = io::stdout().lock();
        write!(stdout, "{} ", output::escape_control(question))?;
        stdout.flush()
    };
    input::ask(show).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(has_color: bool) -> Page {
        let mut page = Page { text: String::new(), has_color };
        page.line(Look::Heading, "two\nlines\u{1b}[2J");
        page.block(Look::Added, "+ ", "a\nb");
        page.line(Look::Plain, "end");
        page
    }

    #[test]
    fn texts_are_escaped_before_they_are_colored() {
        assert_eq!(page(false).text, "two lines\\u001b[2J\n+ a\n+ b\nend\n");
        assert_eq!(
            page(true).text,
            "\u{1b}[1mtwo lines\\u001b[2J\u{1b}[0m\n\u{1b}[32m+ a\u{1b}[0m\n\u{1b}[32m+ b\u{1b}[0m\nend\n"
        );
    }
}
