//! Which hooks after a creation have ended: kept in the step of the operation, in the transaction that keeps how the hook
//! went. A replica that takes over runs none of them again, and a run by hand in between is none of them.

use super::Outcome;
use crate::db::types::BootHookId;
use crate::resources::boot_hooks::input::Status;
use crate::resources::boot_hooks::store::Hook;
use crate::resources::operations::Running;

/// How far the hooks of an operation are.
#[derive(Debug)]
pub struct Progress<'a> {
    pub(super) running: &'a Running,
    at: &'a str,
    done: Vec<(BootHookId, Status)>,
}

impl<'a> Progress<'a> {
    /// Of an operation that is at a step, after what a replica has kept that is gone: nothing, or as `step` writes it.
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

    /// The step, once another hook has ended.
    pub(super) fn step(&mut self, id: BootHookId, status: Status) -> String {
        self.done.push((id, status));
        let sign = |status| match status {
            Status::Success => '+',
            Status::Failure => '-',
        };
        let words = self.done.iter().map(|(id, status)| format!("{}{}", id.get(), sign(*status)));
        format!("{} {}", self.at, words.collect::<Vec<_>>().join(","))
    }

    /// How a hook has ended on a replica that is gone, if it has.
    pub(super) fn ended(&self, hook: &Hook) -> Option<Outcome> {
        let (_, status) = self.done.iter().find(|(id, _)| *id == hook.id)?;
        Some(Outcome {
            hook_id: hook.id,
            name: hook.name.clone(),
            phase: hook.phase,
            status: *status,
            summary: "it ran on a replica that is gone".to_owned(),
            output: String::new(),
        })
    }
}
