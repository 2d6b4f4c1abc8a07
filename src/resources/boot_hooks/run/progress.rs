//! Which hooks after a creation have finished. Stored in the step of the operation, in the transaction that stores the
//! result of the hook. A replica that takes over does not run these again; manual runs in between are not included.

use super::HookOutcome;
use crate::db::types::BootHookId;
use crate::resources::boot_hooks::input::HookStatus;
use crate::resources::boot_hooks::store::Hook;
use crate::resources::operations::RunningOperation;

/// Progress of the hooks of an operation.
#[derive(Debug)]
pub struct HookProgress<'a> {
    pub(super) running: &'a RunningOperation,
    step_name: &'a str,
    done: Vec<(BootHookId, HookStatus)>,
}

impl<'a> HookProgress<'a> {
    /// Restores the progress of an operation at the step `at`; `kept` is empty or has the format that `step` writes.
    #[must_use]
    pub fn restore(running: &'a RunningOperation, at: &'a str, kept: &str) -> Self {
        let one = |word: &str| {
            let (id, status) = match word.strip_suffix('+') {
                Some(id) => (id, HookStatus::Success),
                None => (word.strip_suffix('-')?, HookStatus::Failure),
            };
            Some((BootHookId(id.parse().ok()?), status))
        };
        Self { running, step_name: at, done: kept.split(',').filter_map(one).collect() }
    }

    /// Records the end of a hook and returns the new step.
    pub(super) fn step(&mut self, id: BootHookId, status: HookStatus) -> String {
        self.done.push((id, status));
        let sign = |status| match status {
            HookStatus::Success => '+',
            HookStatus::Failure => '-',
        };
        let words = self.done.iter().map(|(id, status)| format!("{}{}", id.get(), sign(*status)));
        format!("{} {}", self.step_name, words.collect::<Vec<_>>().join(","))
    }

    /// Returns the result of a hook that finished on a crashed replica; `None` if it did not.
    pub(super) fn finished(&self, hook: &Hook) -> Option<HookOutcome> {
        let (_, status) = self.done.iter().find(|(id, _)| *id == hook.id)?;
        Some(HookOutcome {
            hook_id: hook.id,
            name: hook.name.clone(),
            phase: hook.phase,
            status: *status,
            summary: "its replica stopped".to_owned(),
            output: String::new(),
        })
    }
}
