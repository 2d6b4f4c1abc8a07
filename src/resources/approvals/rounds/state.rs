//! The states of a round.

use crate::words;

words! {
    /// State of a round.
    pub enum RoundState {
        /// Votes are missing.
        Open = "open",
        /// Enough voters have approved it, and it waits to be written.
        Approved = "approved",
        /// It may be on its way to the gateway.
        Sending = "sending",
        /// The gateway has it, and the sandbox has not loaded it yet.
        Written = "written",
        /// In force.
        Applied = "applied",
        /// A voter rejected it.
        Rejected = "rejected",
        /// An author or an admin withdrew it, or its sandbox or gateway was deleted.
        Withdrawn = "withdrawn",
        /// It was not decided, or not written, in time.
        Expired = "expired",
        /// Its content was replaced, or what it is based on has changed.
        Superseded = "superseded",
        /// It could not be written or loaded.
        Failed = "failed",
        /// It could not be loaded, and the previous policy was written again.
        RolledBack = "rolled_back",
    }
}

impl RoundState {
    /// Returns whether the round has ended: it never changes again.
    #[must_use]
    pub fn is_closed(self) -> bool {
        match self {
            Self::Open | Self::Approved | Self::Sending | Self::Written => false,
            Self::Applied
            | Self::Rejected
            | Self::Withdrawn
            | Self::Expired
            | Self::Superseded
            | Self::Failed
            | Self::RolledBack => true,
        }
    }

    /// Returns whether votes can change: until the write begins.
    #[must_use]
    pub fn is_voting(self) -> bool {
        matches!(self, Self::Open | Self::Approved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_round_takes_no_votes() {
        for state in RoundState::ALL {
            assert!(!(state.is_closed() && state.is_voting()), "{state}");
        }
    }
}
