//! Commands that are written by hand, since they are more than one call: a terminal in a sandbox, an upload, a watch that
//! resumes, a wait, changes of policies from files, and the review of what waits for an approval.
//!
//! Invariants
//! - text from a server passes `output::escape_control`, except for the bytes of a command in a sandbox, which the user
//!   has requested for this terminal;
//! - without a terminal, nothing is colored, and no progress is drawn;
//! - a lost connection neither skips an event silently nor repeats a write.

mod answer;
mod difference;
mod event_watch;
mod exec;
mod operation_wait;
mod place;
mod policy;
mod progress;
mod raw_mode;
mod review;
mod sbom_upload;
mod terminal;

use clap::{ArgMatches, Command};
use futures_util::future::BoxFuture;

use super::CliError;
use super::globals::Globals;

/// A command that is written by hand.
pub(in crate::cli) struct Act {
    /// Noun of the command, such as `sandbox`.
    pub(in crate::cli) noun: &'static str,
    /// Verb of the command, such as `exec`.
    pub(in crate::cli) verb: &'static str,
    /// Whether `-o` chooses the form of its answer. Without forms, other ones than the default are refused.
    pub(in crate::cli) has_forms: bool,
    /// Returns its definition, whose name is the verb.
    pub(in crate::cli) command: fn() -> Command,
    /// Runs it with what was given on the command line.
    pub(in crate::cli) run: fn(ArgMatches, Globals) -> BoxFuture<'static, Result<(), CliError>>,
}

/// All of them.
pub(in crate::cli) const ALL: &[Act] = &[
    Act { noun: "sandbox", verb: "exec", has_forms: false, command: exec::command, run: exec::run },
    Act {
        noun: "sbom",
        verb: "upload",
        has_forms: true,
        command: sbom_upload::command,
        run: sbom_upload::run,
    },
    Act {
        noun: "event",
        verb: "watch",
        has_forms: true,
        command: event_watch::command,
        run: event_watch::run,
    },
    Act {
        noun: "operation",
        verb: "wait",
        has_forms: true,
        command: operation_wait::command,
        run: operation_wait::run,
    },
    Act {
        noun: "policy",
        verb: "export",
        has_forms: true,
        command: policy::export::command,
        run: policy::export::run,
    },
    Act {
        noun: "policy",
        verb: "diff",
        has_forms: true,
        command: policy::diff::command,
        run: policy::diff::run,
    },
    Act {
        noun: "policy",
        verb: "apply",
        has_forms: true,
        command: policy::apply::command,
        run: policy::apply::run,
    },
    Act {
        noun: "approval",
        verb: "review",
        has_forms: false,
        command: review::command,
        run: review::run,
    },
];
