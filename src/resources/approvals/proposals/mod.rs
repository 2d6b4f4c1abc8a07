//! Proposed policies: the change as its proposer describes it, the policy that it leads to, and the round that reviews
//! it.
//!
//! Invariants
//! - a complete policy is reviewed, and written as it was reviewed. A document or an edit only leads to it;
//! - a change is judged by the gate in the transaction that opens its round;
//! - an edit is computed again if the policy of the sandbox has moved, and is then another round. A complete policy is
//!   not: it would undo what others have changed.

use crate::words;

pub mod candidate;
pub mod change;
pub mod proxied;
pub mod required;
pub mod reviewed;
pub mod store;
pub mod submit;

words! {
    /// How a proposed document becomes a policy.
    pub enum ProposalMode {
        /// The document replaces the policy.
        Replace = "replace",
        /// The document is added to the policy.
        Merge = "merge",
    }
}
