//! State machine of an operation. Pure.
//!
//! Invariants
//! - `succeeded` and `failed` are final;
//! - an operation that is being canceled may still succeed: its work may have been done already.

use crate::words;

words! {
    /// State of an operation.
    pub enum Status {
        /// Stored; its work has not begun.
        Pending = "pending",
        /// Its work has begun.
        Running = "running",
        /// Its work was asked to stop.
        Cancelling = "cancelling",
        /// Its work is done.
        Succeeded = "succeeded",
        /// Its work failed, or was canceled.
        Failed = "failed",
    }
}

/// Transition of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Its work begins.
    Run,
    /// A caller cancels it.
    Cancel,
    /// Its work is done.
    Succeed,
    /// Its work fails, or has stopped.
    Fail,
}

impl Status {
    /// Returns whether the state is final.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed => true,
            Self::Pending | Self::Running | Self::Cancelling => false,
        }
    }

    /// Returns the state after a transition. `None` if the transition is not possible.
    #[must_use]
    pub fn after(self, what: Transition) -> Option<Self> {
        match (self, what) {
            (Self::Pending, Transition::Run) => Some(Self::Running),
            (Self::Pending | Self::Running, Transition::Cancel) => Some(Self::Cancelling),
            (Self::Pending | Self::Running | Self::Cancelling, Transition::Succeed) => {
                Some(Self::Succeeded)
            }
            (Self::Pending | Self::Running | Self::Cancelling, Transition::Fail) => {
                Some(Self::Failed)
            }
            (Self::Succeeded | Self::Failed, _)
            | (Self::Running | Self::Cancelling, Transition::Run)
            | (Self::Cancelling, Transition::Cancel) => None,
        }
    }
}

impl Transition {
    /// Names of the states from which the transition is possible. Updates filter on them.
    #[must_use]
    pub fn from(self) -> Vec<&'static str> {
        let possible = |status: &&Status| status.after(self).is_some();
        Status::ALL.iter().filter(possible).map(|status| status.as_str()).collect()
    }
}

/// SQL condition of the states that are not final. Must equal the condition of the index on the resource, which bound
/// values do not match.
pub const IS_ACTIVE: &str = "status IN ('pending', 'running', 'cancelling')";

/// Names of the states that are not final.
#[must_use]
pub fn active() -> Vec<&'static str> {
    Transition::Fail.from()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sql_condition_names_the_states_that_are_not_final() {
        assert_eq!(IS_ACTIVE, format!("status IN ('{}')", active().join("', '")));
    }

    #[test]
    fn every_transition_from_every_status_follows_the_table() {
        use Status::{Cancelling, Failed, Pending, Running, Succeeded};
        use Transition::{Cancel, Fail, Run, Succeed};
        for (from, [run, cancel, succeed, fail]) in [
            (Pending, [Some(Running), Some(Cancelling), Some(Succeeded), Some(Failed)]),
            (Running, [None, Some(Cancelling), Some(Succeeded), Some(Failed)]),
            (Cancelling, [None, None, Some(Succeeded), Some(Failed)]),
            (Succeeded, [None, None, None, None]),
            (Failed, [None, None, None, None]),
        ] {
            for (what, to) in [(Run, run), (Cancel, cancel), (Succeed, succeed), (Fail, fail)] {
                assert_eq!(from.after(what), to, "{from} {what:?}");
            }
        }
    }

    #[test]
    fn an_update_matches_only_the_statuses_that_allow_the_transition() {
        assert_eq!(Transition::Run.from(), ["pending"]);
        assert_eq!(Transition::Cancel.from(), ["pending", "running"]);
        assert_eq!(active(), ["pending", "running", "cancelling"]);
        for status in Status::ALL {
            assert_eq!(status.is_terminal(), !active().contains(&status.as_str()));
        }
    }
}
