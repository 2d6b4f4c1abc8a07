//! The raw mode of the user's terminal, in which every key is sent to the command in the sandbox.
//!
//! Invariant: the terminal has its former mode again when the guard is dropped, also by a panic.

use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::pb::v1::TerminalSize;

/// Keeps the terminal in raw mode until it is dropped.
pub(super) struct RawMode {
    former: Termios,
}

impl RawMode {
    /// Puts the terminal of standard input into raw mode.
    pub(super) fn start() -> io::Result<Self> {
        let former = tcgetattr(io::stdin())?;
        let mut raw = former.clone();
        raw.make_raw();
        // The guard exists before the change, so that a change in part is undone.
        let guard = Self { former };
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(guard)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that has disappeared has no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.former);
    }
}

/// Returns the size of the terminal of standard output, or else of standard input. `None` if neither is a terminal.
pub(super) fn terminal_size() -> Option<TerminalSize> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    Some(TerminalSize { cols: u32::from(size.ws_col), rows: u32::from(size.ws_row) })
}
