//! Which hooks after a creation have finished. Stored in the step of the operation, in the transaction that stores the
//! result of the hook. A replica that takes over does not run these again; manual runs in between are not included.

use super::Outcome;
use crate::db::types::BootHookId;
use crate::resources::boot_hooks::input::Status;
use crate::resources::boot_hooks::store::Hook;
use crate::resources::operations::Running;

/// Progress of the hooks of an operation.
#[derive(Debug)]
pub struct Progress<'a> {
    pub(super) running: &'a Running,
    at: &'a str,
    done: Vec<(BootHookId, Status)>,
}

impl<'a> Progress<'a> {
    /// Restores the progress of an operation at the step `at`; `kept` is empty or has the format that `step` writes.
    #[must_use]
    pub fn of(running: &'a Running, at: &'a str, kept: &str) -> Self {
        let one = |word: &str| {
            let (id, status) = match word.strip_suffix('+') {
                Some(id) => (id, Status::Success),
                None => (word.strip_suffix('-')?, Status::Failure),
            };
            Some((BootHookId(id.parse().ok()?), status))
        };
        Self { running, at, done: kept.split(',').filter_map(one).collect() }
    }

    /// Records the end of a hook and returns the new step.
    pub(super) fn step(&mut self, id: BootHookId, status: Status) -> String {
        self.done.push((id, status));
        let sign = |status| match status {
            Status::Success => '+',
            Status::Failure => '-',
        };
        let words = self.done.iter().map(|(id, status)| format!("{}{}", id.get(), sign(*status)));
        format!("{} {}", self.at, words.collect::<Vec<_>>().join(","))
    }

    /// Returns the result of a hook that finished on a crashed replica; `None` if it did not.
    pub(super) fn ended(&self, hook: &Hook) -> Option<Outcome> {
        let (_, status) = self.done.iter().find(|(id, _)| *id == hook.id)?;
        Some(Outcome {
            hook_id: hook.id,
            name: hook.name.clone(),
            phase: hook.phase,
            status: *status,
            summary: "its replica stopped".to_owned(),
            output: String::new(),
        })
    }
}
