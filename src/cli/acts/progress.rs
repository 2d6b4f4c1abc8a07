//! A progress bar on standard error, if that is a terminal.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use super::super::output;
use super::terminal;

/// Bar of an upload, in bytes.
const BYTES: &str = "[{bar:30}] {bytes}/{total_bytes}";
/// Bar of work that reports its progress in percent.
const PERCENT: &str = "[{bar:30}] {percent:>3}% {wide_msg}";

/// A bar that is removed when it is dropped.
#[derive(Debug, Clone)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Shows how many of these bytes are done.
    pub(super) fn bytes(total: u64, is_quiet: bool) -> Self {
        Self::new(total, BYTES, is_quiet)
    }

    /// Shows percent and a message.
    pub(super) fn percent(is_quiet: bool) -> Self {
        Self::new(100, PERCENT, is_quiet)
    }

    fn new(total: u64, template: &str, is_quiet: bool) -> Self {
        let is_terminal = io::stderr().is_terminal() && !output::is_captured();
        let is_shown = !is_quiet && is_terminal && !terminal::is_dumb();
        let target =
            if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target)
            .with_finish(ProgressFinish::AndClear);
        // The templates are valid; without one, the bar has the look of the library.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(bar)
    }

    /// Begins again, with nothing done.
    pub(super) fn reset(&self) {
        self.0.reset();
    }

    /// Adds done bytes.
    pub(super) fn add(&self, bytes: usize) {
        self.0.inc(bytes as u64);
    }

    /// Sets percent and message.
    pub(super) fn set(&self, percent: i32, message: &str) {
        self.0.set_position(u64::try_from(percent).unwrap_or_default());
        self.0.set_message(output::escape_control(&output::one_line(message)));
    }

    /// Removes the bar, so that something else can be printed.
    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
