//! The states of an operation, and what moves it from one to another. Pure.
//!
//! Invariants
//! - from an end nothing leads anywhere;
//! - what was asked to stop may still succeed: the work may have been done by then.

use crate::words;

words! {
    /// How far an operation is.
    pub enum Status {
        /// It is stored, and its work has not begun.
        Pending = "pending",
        /// Its work has begun.
        Running = "running",
        /// It was asked to stop.
        Cancelling = "cancelling",
        /// It has done what it was to do.
        Succeeded = "succeeded",
        /// It has not.
        Failed = "failed",
    }
}

/// What happens to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Its work begins.
    Run,
    /// Somebody asks it to stop.
    Cancel,
    /// Its work is done.
    Succeed,
    /// Its work has failed or was stopped.
    Fail,
}

impl Status {
    /// Whether it has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed => true,
            Self::Pending | Self::Running | Self::Cancelling => false,
        }
    }

    /// Where a move leads from here; none where it is not possible.
    #[must_use]
    pub fn after(self, what: Move) -> Option<Self> {
        match (self, what) {
            (Self::Pending, Move::Run) => Some(Self::Running),
            (Self::Pending | Self::Running, Move::Cancel) => Some(Self::Cancelling),
            (Self::Pending | Self::Running | Self::Cancelling, Move::Succeed) => {
                Some(Self::Succeeded)
            }
            (Self::Pending | Self::Running | Self::Cancelling, Move::Fail) => Some(Self::Failed),
            (Self::Succeeded | Self::Failed, _)
            | (Self::Running | Self::Cancelling, Move::Run)
            | (Self::Cancelling, Move::Cancel) => None,
        }
    }
}

impl Move {
    /// The words of the states that it is possible from: what an update filters on.
    #[must_use]
    pub fn from(self) -> Vec<&'static str> {
        let possible = |status: &&Status| status.after(self).is_some();
        Status::ALL.iter().filter(possible).map(|status| status.as_str()).collect()
    }
}

/// The words of the states that are no end.
#[must_use]
pub fn active() -> Vec<&'static str> {
    Move::Fail.from()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_move_from_each_state() {
        use Move::{Cancel, Fail, Run, Succeed};
        use Status::{Cancelling, Failed, Pending, Running, Succeeded};
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
    fn an_update_filters_on_the_states_that_a_move_is_possible_from() {
        assert_eq!(Move::Run.from(), ["pending"]);
        assert_eq!(Move::Cancel.from(), ["pending", "running"]);
        assert_eq!(active(), ["pending", "running", "cancelling"]);
        for status in Status::ALL {
            assert_eq!(status.is_terminal(), !active().contains(&status.as_str()));
        }
    }
}
